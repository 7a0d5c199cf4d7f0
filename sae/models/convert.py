"""Convert SAEs of other libraries into this project's form, and back."""

import logging
import os
import reprlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.core import arguments, files, outputs, registry
from sae.core.errors import UserError
from sae.models import checkpoints, saefile
from sae.models.checkpoints import Options
from sae.models.coder import Coder, TopK

progress = logging.getLogger("sae.progress")
AUTO = "auto"
# A user says nothing: all is as the checkpoint states.
NO_OPTIONS = Options()
# The largest difference that a check accepts, as a share of the largest value: float32
# sums in another order.
TOLERANCE = 1e-4
MOST_ROWS_COMPARED = 1000


def load(
    place: Path | str,
    format: str = AUTO,
    options: Options | None = None,
    check: np.ndarray | None = None,
) -> Coder:
    """Load a checkpoint of another library as a coder.

    Args:
        place: a file, a folder, or a repository `owner/name[:folder]` of the Hugging
            Face hub.
        format: an entry of `sae.models.importers`, or 'auto'.
        options: what the checkpoint leaves open, as `Options(k=32)`.
        check: embeddings (N, d), on which codes and reconstructions must be the
            format's own.

    Raises:
        UserError: the checkpoint cannot be read, or cannot be reduced to a linear
            encoder, Top-k or thresholds, and a linear decoder; or the embeddings are of
            another form, or codes or reconstructions differ; or `options` are none.
    """
    if options is not None and not isinstance(options, Options):
        raise UserError(
            f"options are {reprlib.repr(options)}; give "
            "sae.models.convert.Options(k=..., input_norm=..., input_scale=...)"
        )
    arguments.file_path("place", place)
    checkpoint, importer, coder = _import_checkpoint(
        os.fspath(place), format, options or NO_OPTIONS
    )
    if check is not None:
        _check_against_format(checkpoint, importer, coder, check, "embeddings")
    return coder


def import_(
    place: str,
    /,
    options: Options = NO_OPTIONS,
    *,
    out: Path,
    format: str = AUTO,
    check: Path | None = None,
) -> None:
    """Write a checkpoint of another library as an SAE file of this project.

    Args:
        place: a checkpoint: a file, a folder, or owner/name[:folder] on the Hugging
            Face hub.
        options: what the checkpoint leaves open.
        out: the file to write.
        format: an entry of `sae.models.importers`, or auto.
        check: embeddings (N, d) saved with `numpy.save`, to check with before anything
            is written.

    Raises:
        UserError: as :func:`load`, or as :func:`check_output_path` of what is read.
    """
    checkpoint, importer, coder = _import_checkpoint(place, format, options)
    files_read = [checkpoint.path]
    if checkpoint.settings_file is not None:
        files_read.append(checkpoint.settings_file)
    if check is not None:
        files_read.append(check)
    check_output_path(out, *files_read)

    check_note = ""
    input_space_doubt = ""
    if check is not None:
        embeddings = files.read_array(check)
        r2 = _check_against_format(checkpoint, importer, coder, embeddings, str(check))
        input_space_doubt = describe_doubt(coder, r2, f"the embeddings of {check}")
        check_note = (
            f"; codes and reconstructions of embeddings of {check} are the format's own"
        )

    with outputs.replacing_file(out) as temporary:
        saefile.save(coder, temporary)

    kind = "Top-k" if isinstance(coder.select, TopK) else "thresholds"
    form = f"{coder.m} latents of {coder.d} dimensions, {kind}"
    progress.info("%s: %s, as %s%s", out, form, coder.metadata["imported"], check_note)
    if input_space_doubt:
        progress.warning(
            "%s: it %s (--input-norm, --input-scale)", out, input_space_doubt
        )


def describe_doubt(coder: Coder, r2: float, embeddings_name: str) -> str:
    """Return why the input space of an SAE is in doubt; '' where R^2 is above 0.

    Args:
        coder: the SAE.
        r2: the R^2 of its reconstructions.
        embeddings_name: what the text calls the embeddings that were reconstructed.
    """
    if r2 > 0:
        return ""
    return (
        f"reconstructs {embeddings_name} worse than their mean does (R2 = {r2:.3g}). "
        f"Its input space is taken to be input_norm {coder.input_norm}, input_scale "
        f"{coder.input_scale:.6g}: say what it was trained on"
    )


def _import_checkpoint(
    place: str, format: str, options: Options
) -> tuple[checkpoints.Checkpoint, ModuleType, Coder]:
    """Return a checkpoint, the importer that read it, and the coder it was made into."""
    checkpoint = checkpoints.read_checkpoint(place)
    format_name = format
    if format == AUTO:
        format_name = _detect_format(checkpoint)
    importer = registry.load("importer", format_name)
    coder: Coder = importer.read(checkpoint, options)

    imported_metadata = {
        "method": "imported",
        "trial": {},
        "seed": 0,
        "imported": format_name,
    }
    # What a file of this project states about itself stays.
    coder.metadata = imported_metadata | coder.metadata
    coder.metadata["imported_sha256"] = files.sha256(checkpoint.path)
    return checkpoint, importer, coder


def _detect_format(checkpoint: checkpoints.Checkpoint) -> str:
    tensor_names = checkpoint.tensors.keys()
    importers = {
        name: registry.load("importer", name) for name in registry.names("importer")
    }
    fitting = [
        name for name, importer in importers.items() if importer.fits(checkpoint)
    ]

    # Where the settings are missing the tensors may tell the format. Reading it as this
    # format then says which settings are missing.
    if not fitting and checkpoint.settings_file is None:
        for name, importer in importers.items():
            telling_tensors = getattr(importer, "TENSORS", None)
            if telling_tensors is not None and telling_tensors <= tensor_names:
                fitting.append(name)

    if len(fitting) != 1:
        raise UserError(
            f"{checkpoint.path}: its format is not plain "
            f"({', '.join(fitting) or 'none'} fit; tensors: "
            f"{checkpoints.list_names(tensor_names)}); say --format"
        )
    return fitting[0]


def check_output_path(
    out: Path | str, *files_read: Path | str, suffix: str = ""
) -> None:
    """Check that a file can be written, before the work is done.

    Args:
        out: the file to write.
        files_read: what the work reads, none of which may be replaced.
        suffix: the one that its name may have, where one form is written alone.

    Raises:
        UserError: `out` is no file that can be replaced, is one of these files or one
            that the command did not write, has another suffix, or cannot be written.
    """
    out = Path(out)
    with files.refusing_unwritable(out):
        if out.is_dir():
            raise UserError(f"{out} is a folder: name the file to write")
        would_replace = out.exists() and any(
            Path(file).exists() and out.samefile(file) for file in files_read
        )
        if would_replace:
            raise UserError(
                f"{out} is what was given to read, and would be replaced: name another "
                "file to write"
            )
        if suffix and out.suffix.lower() not in ("", suffix):
            raise UserError(
                f"{out} ends in {out.suffix}, and {suffix} alone is written: name "
                f"{out.with_suffix(suffix)}"
            )
        files.check_replaceable(out)
        outputs.check_file(out)
        with files.scratch_directory(out):
            pass


@torch.no_grad()
def _check_against_format(
    checkpoint: checkpoints.Checkpoint,
    importer: ModuleType,
    coder: Coder,
    embeddings: Any,
    name: str,
) -> float:
    """Return R^2 of a coder, after checking that it does what its format does."""
    raw_rows = _rows_to_compare(embeddings, coder.d, name)
    raw = torch.from_numpy(raw_rows)
    prepared = coder.prepare(raw_rows)
    # Some formats normalise raw embeddings themselves.
    normalises = hasattr(importer, "normalises") and importer.normalises(checkpoint)

    their_codes, their_reconstructions = importer.forward(
        checkpoint, coder.k, raw if normalises else prepared
    )
    sparse_codes = coder.encode(prepared)
    our_codes = torch.from_numpy(sparse_codes.matrix().toarray()).float()
    our_reconstructions = coder.reconstruct(prepared, sparse_codes)
    r2 = _r2(prepared, our_reconstructions)
    if normalises:
        raw_lengths = raw.norm(dim=1, keepdim=True)
        our_reconstructions = our_reconstructions * raw_lengths / coder.input_scale

    # Codes may differ by one factor: formats that normalise to another length.
    inner_product = (their_codes * our_codes).sum()
    factor = float(inner_product / our_codes.square().sum().clamp_min(1e-30))
    _check_close(checkpoint, "codes", their_codes, factor * our_codes)
    _check_close(
        checkpoint, "reconstructions", their_reconstructions, our_reconstructions
    )
    return r2


def _rows_to_compare(
    embeddings: Any, d: int, name: str
) -> Float[np.ndarray, "samples d"]:
    """Return rows of embeddings, evenly spread, as these may be in order of classes."""
    array = _array_of_numbers(embeddings, name)
    if array.ndim != 2 or array.shape[1] != d or len(array) == 0:
        raise UserError(
            f"{name} holds an array of shape {array.shape}, expected (N, {d}) with at "
            "least one row"
        )
    step = -(-len(array) // MOST_ROWS_COMPARED)  # Rounded up.
    rows = array[::step].astype(np.float64)
    if not (np.abs(rows) < checkpoints.LARGEST_NUMBER).all():
        raise UserError(
            f"{name} holds NaN, or numbers beyond {checkpoints.LARGEST_NUMBER:g}, in "
            f"{len(rows)} rows that were looked at"
        )
    return rows.astype(np.float32)


def _array_of_numbers(embeddings: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(embeddings)
    except (ValueError, TypeError, RuntimeError) as error:  # As of rows of two lengths.
        raise UserError(f"{name} cannot be read as an array: {error}") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{name} hold {array.dtype}, expected numbers (N, d)")
    return array


def _r2(
    inputs: Float[Tensor, "samples d"], reconstructions: Float[Tensor, "samples d"]
) -> float:
    """Return the share of variance that is explained; 1 where there is no variance."""
    variance = float((inputs - inputs.mean(dim=0)).square().sum())
    if not variance:
        return 1.0
    return 1 - float((inputs - reconstructions).square().sum()) / variance


def _check_close(
    checkpoint: checkpoints.Checkpoint, kind: str, theirs: Tensor, ours: Tensor
) -> None:
    largest_value = theirs.abs().max().clamp_min(1e-30)
    difference = float((theirs - ours).abs().max() / largest_value)
    # Not `difference > TOLERANCE`, which NaN would pass.
    if not difference <= TOLERANCE:
        raise UserError(
            f"{checkpoint.path}: {kind} differ from the format's own by up to "
            f"{difference:.2g} of the largest; nothing was written. Is the input space "
            "right (--input-norm, --input-scale), and k?"
        )


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
    file_names = sorted(file.name for file in out.iterdir())
    progress.info("%s: %s, for %s", out, ", ".join(file_names), format)


def export(coder: Coder, format: str, folder: Path | str) -> None:
    """Write an SAE for another library into a folder, which must not exist.

    Args:
        coder: the SAE.
        format: an entry of `sae.models.exporters`.
        folder: the folder to write.

    Raises:
        UserError: as :func:`sae.models.saefile.check_savable`; the folder is there or
            cannot be made, or the format cannot hold this SAE.
    """
    saefile.check_savable(coder)
    folder = arguments.file_path("folder", folder)
    if folder.exists():
        raise UserError(f"{folder} is there already; name another folder")
    check_output_path(folder)
    exporter = registry.load("exporter", format)
    with files.atomic_directory(folder) as temporary:
        exporter.write(coder, temporary, coder.metadata)
