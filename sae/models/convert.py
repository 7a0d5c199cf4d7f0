"""SAEs of other libraries into this project's form, and back."""

import logging
import os
import reprlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from sae.core import arguments, faults, files, registry
from sae.core.errors import UserError
from sae.models import foreign, saefile
from sae.models.coder import Coder, TopK
from sae.models.foreign import Options

progress = logging.getLogger("sae.progress")
AUTO = "auto"
AS_SAID = Options()  # All as the checkpoint says.
CLOSE = 1e-4  # Of what `check` compares, relative to the largest value: float32 sums in another order.


def load(
    place: Path | str,
    format: str = AUTO,
    options: Options | None = None,
    check: np.ndarray | None = None,
) -> Coder:
    """A checkpoint of another library as a coder.

    Args:
        place: a file, a folder, or a repository `owner/name[:folder]` of the Hugging Face hub.
        format: an entry of `sae.models.importers`, or 'auto'.
        options: what the checkpoint leaves open, as `Options(k=32)`.
        check: embeddings (N, d), on which codes and reconstructions must be the format's own.

    Raises:
        UserError: it cannot be read, or cannot be reduced to a linear encoder, Top-k or thresholds, a linear decoder;
            or the embeddings are of another form, or codes or reconstructions differ; or `options` are none.
    """
    if options is not None and not isinstance(options, Options):
        raise UserError(
            f"options are {reprlib.repr(options)}; give "
            "sae.models.convert.Options(k=..., input_norm=..., input_scale=...)"
        )
    arguments.file_path("place", place)
    opened = _open(os.fspath(place), format, options or AS_SAID)
    if check is not None:
        _check(*opened, check, "embeddings")
    return opened[2]


def import_(
    place: str,
    /,
    options: Options = AS_SAID,
    *,
    out: Path,
    format: str = AUTO,
    check: Path | None = None,
) -> None:
    """Write a checkpoint of another library as an SAE file of this project; see :func:`load`.

    Args:
        place: a checkpoint: a file, a folder, or owner/name[:folder] on the Hugging Face hub.
        out: the file to write.
        format: an entry of `sae.models.importers`, or auto.
        check: embeddings (N, d) saved with `numpy.save`, to check with before anything is written.

    Raises:
        UserError: as :func:`load`, or as :func:`check_out` of what is read.
    """
    checkpoint, importer, coder = _open(place, format, options)
    check_out(
        out,
        *(
            file
            for file in (checkpoint.path, checkpoint.said_in, check)
            if file is not None
        ),
    )
    said, doubtful = "", ""
    if check is not None:
        r2 = _check(checkpoint, importer, coder, files.read_array(check), str(check))
        doubtful = doubt(coder, r2, f"the embeddings of {check}")
        said = (
            f"; codes and reconstructions of embeddings of {check} are the format's own"
        )
    with files.atomic_file(out) as temporary:
        saefile.save(coder, temporary)
    kind = "Top-k" if isinstance(coder.select, TopK) else "thresholds"
    form = f"{coder.m} latents of {coder.d} dimensions, {kind}"
    progress.info("%s: %s, as %s%s", out, form, coder.metadata["imported"], said)
    if doubtful:
        progress.warning("%s: it %s (--input-norm, --input-scale)", out, doubtful)


def doubt(coder: Coder, r2: float, of: str) -> str:
    """What an R^2 that is not above 0 says of an SAE's input space; '' of another."""
    if r2 > 0:
        return ""
    space = f"input_norm {coder.input_norm}, input_scale {coder.input_scale:.6g}"
    worse = f"reconstructs {of} worse than their mean does (R2 = {r2:.3g})"
    return (
        f"{worse}. Its input space is taken to be {space}: say what it was trained on"
    )


def _open(
    place: str, format: str, options: Options
) -> tuple[foreign.Checkpoint, ModuleType, Coder]:
    checkpoint = foreign.read(place)
    name, importer = _importer(checkpoint, format)
    coder: Coder = importer.read(checkpoint, options)
    # What a file of this project says of itself stays.
    coder.metadata = {
        "method": "imported",
        "trial": {},
        "seed": 0,
        "imported": name,
    } | coder.metadata
    coder.metadata["imported_sha256"] = files.sha256(checkpoint.path)
    return checkpoint, importer, coder


def check_out(out: Path | str, *given: Path | str) -> None:
    """Check that `out` can be written, before the work is done, and is none of the files that were `given`."""
    out = Path(out)
    try:
        if out.is_dir():
            raise UserError(f"{out} is a folder: name the file to write")
        if out.exists() and any(
            Path(file).exists() and out.samefile(file) for file in given
        ):
            raise UserError(
                f"{out} is what was given to read, and would be replaced: name another file to write"
            )
        with files.scratch_directory(out):
            pass
    except OSError as error:
        if faults.disk_error(error):
            raise
        raise UserError(
            f"{out} cannot be written ({error}); name another place"
        ) from None


@torch.no_grad()
def _check(
    checkpoint: foreign.Checkpoint,
    importer: ModuleType,
    coder: Coder,
    given: Any,
    source: str,
) -> float:
    """Compare a coder's codes and reconstructions with the format's own.

    Args:
        given: (N, d) embeddings; at most 1,000 of them are compared.
        source: what error messages call them.

    Returns:
        The R^2 of these reconstructions; 1 where the embeddings do not vary.
    """
    x = _numbers(given, source)
    if x.ndim != 2 or x.shape[1] != coder.d or len(x) == 0:
        raise UserError(
            f"{source} holds an array of shape {x.shape}, expected (N, {coder.d}) with at least one row"
        )
    rows = x[:: -(-len(x) // 1000)].astype(
        np.float64
    )  # Evenly spread: they may be in the order of their classes.
    if not (np.abs(rows) < foreign.LARGEST).all():
        where = f"in {len(rows)} rows that were looked at"
        raise UserError(
            f"{source} holds NaN, or numbers beyond {foreign.LARGEST:g}, {where}"
        )
    rows = rows.astype(np.float32)
    raw, inputs = torch.from_numpy(rows), coder.prepare(rows)
    itself = getattr(importer, "normalises", lambda _: False)(checkpoint)
    z, x_hat = importer.forward(checkpoint, coder.k, raw if itself else inputs)
    codes = coder.encode(inputs)
    ours = coder.reconstruct(inputs, codes)
    variance = float((inputs - inputs.mean(dim=0)).square().sum())
    r2 = 1 - float((inputs - ours).square().sum()) / variance if variance else 1.0
    if itself:
        ours = ours * raw.norm(dim=1, keepdim=True) / coder.input_scale
    dense = torch.from_numpy(codes.matrix().toarray()).float()
    # Codes may differ by one factor: formats that normalise to another length.
    factor = float((z * dense).sum() / dense.square().sum().clamp_min(1e-30))
    for what, theirs, mine in (
        ("codes", z, factor * dense),
        ("reconstructions", x_hat, ours),
    ):
        most = float((theirs - mine).abs().max() / theirs.abs().max().clamp_min(1e-30))
        if not most <= CLOSE:
            raise UserError(
                f"{checkpoint.path}: {what} differ from the format's own by up to {most:.2g} of the largest; nothing "
                "was written. Is the input space right (--input-norm, --input-scale), and k?"
            )
    return r2


def _numbers(given: Any, source: str) -> np.ndarray:
    """Return embeddings that a user gave as an array of numbers, of any shape.

    Raises:
        UserError: they are something else.
    """
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # As of rows of two lengths.
        raise UserError(f"{source} cannot be read as an array: {error}") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{source} hold {array.dtype}, expected numbers (N, d)")
    return array


def export_file(sae: Path, /, *, format: str, out: Path) -> None:
    """Write the SAE of a file for another library.

    Args:
        sae: sae.safetensors.
        format: an entry of `sae.models.exporters`.
        out: the folder to write, which must not exist.

    Raises:
        UserError: as :func:`export`, or as the file is read.
    """
    export(saefile.load(sae), format, out)
    progress.info(
        "%s: %s, for %s",
        out,
        ", ".join(sorted(file.name for file in out.iterdir())),
        format,
    )


def export(coder: Coder, format: str, folder: Path | str) -> None:
    """Write an SAE for another library into a folder, which must not exist.

    Raises:
        UserError: `coder` is no coder; the folder is there or cannot be made, or the
            format cannot hold this SAE.
    """
    saefile.check_coder(coder)
    folder = arguments.file_path("folder", folder)
    if folder.exists():
        raise UserError(f"{folder} is there already; name another folder")
    check_out(folder)
    exporter = registry.load("exporter", format)
    with files.atomic_directory(folder) as temporary:
        exporter.write(coder, temporary, coder.metadata)


def _importer(checkpoint: foreign.Checkpoint, format: str) -> tuple[str, ModuleType]:
    if format != AUTO:
        return format, registry.load("importer", format)
    names, entries = (
        checkpoint.tensors.keys(),
        {n: registry.load("importer", n) for n in registry.names("importer")},
    )
    fitting = [name for name, entry in entries.items() if entry.fits(checkpoint)]
    if (
        not fitting and checkpoint.said_in is None
    ):  # Reading it as such a format then says what is missing.
        fitting = [
            name
            for name, entry in entries.items()
            if getattr(entry, "TENSORS", {""}) <= names
        ]
    if len(fitting) != 1:
        said = f"{', '.join(fitting) or 'none'} fit; tensors: {foreign.listed(names)}"
        raise UserError(
            f"{checkpoint.path}: its format is not plain ({said}); say --format"
        )
    return fitting[0], entries[fitting[0]]
