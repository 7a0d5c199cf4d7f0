"""SAEs of other libraries into this project's form, and back."""

import logging
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from sae.core import files, registry
from sae.core.errors import UserError
from sae.models import foreign, saefile
from sae.models.coder import Coder
from sae.models.foreign import Checkpoint, Space

progress = logging.getLogger("sae.progress")
AUTO = "auto"
CLOSE = 1e-4  # Of what `check` compares, relative to the largest value: float32 sums in another order.
NORMS = ("none", "unit_l2", "unit_l2_layernorm")


@dataclass(frozen=True)
class Options:
    """What a checkpoint may leave open.

    Attributes:
        k: latents that are kept, or the budget of thresholds; None: as the checkpoint says.
        input_norm, input_scale: the space of its inputs; None: as the checkpoint says, else raw embeddings.
    """

    k: int | None = None
    input_norm: str | None = None
    input_scale: float | None = None

    def space(self, found: Space, checkpoint: Checkpoint) -> Space:
        """The input space that the checkpoint names, unless these options do.

        Raises:
            UserError: the checkpoint names a norm that is not known.
        """
        norm = self.input_norm or found.norm
        if norm not in NORMS:
            raise UserError(f"{checkpoint.path}: input norm {norm!r} is not known; allowed: {', '.join(NORMS)}")
        return Space(norm, found.scale if self.input_scale is None else self.input_scale)


def load(place: str, format: str = AUTO, options: Options | None = None) -> Coder:
    """A checkpoint of another library as a coder.

    Args:
        place: a file, a folder, or a repository `owner/name[:folder]` of the Hugging Face hub.
        format: an entry of `sae.models.importers`, or 'auto'.

    Raises:
        UserError: it cannot be read, or cannot be reduced to a linear encoder, Top-k or thresholds, a linear decoder.
    """
    return _open(place, format, options or Options()).coder


def load_checked(place: str, format: str, options: Options, rows: np.ndarray) -> Coder:
    """As :func:`load`, after its codes and reconstructions of `rows`, embeddings (N, d), were found to be the format's.

    Raises:
        UserError: as :func:`load`, or the embeddings have other dimensions, or codes or reconstructions differ.
    """
    opened = _open(place, format, options)
    if rows.ndim != 2 or rows.shape[1] != opened.coder.d:
        raise UserError(f"embeddings of shape {rows.shape} for an SAE of {opened.coder.d} dimensions")
    _compare(opened, options, np.array(rows[:1000], dtype=np.float32))
    return opened.coder


def import_(place: str, format: str, options: Options, out: Path, check: Path | None = None) -> None:
    """Write a checkpoint of another library as an SAE file of this project; see :func:`load`.

    Args:
        check: embeddings (N, d) saved with `numpy.save`, for :func:`load_checked`, before anything is written.

    Raises:
        UserError: as these do.
    """
    if check is None:
        found, said = load(place, format, options), ""
    else:
        found = load_checked(place, format, options, _rows(check))
        said = f"; codes and reconstructions of embeddings of {check} are the format's own"
    with files.atomic_file(out) as temporary:
        saefile.save(found, temporary)
    kind = "Top-k" if hasattr(found.select, "k") else "thresholds"
    progress.info(
        "%s: %d latents of %d dimensions, %s, as %s%s", out, found.m, found.d, kind, found.metadata["imported"], said
    )


class _Opened(NamedTuple):
    checkpoint: Checkpoint
    importer: ModuleType
    coder: Coder


def _open(place: str, format: str, options: Options) -> _Opened:
    checkpoint = foreign.read(place)
    name, importer = _importer(checkpoint, format)
    coder: Coder = importer.read(checkpoint, options)
    coder.metadata |= {"method": "imported", "trial": {}, "seed": 0, "imported": name}
    coder.metadata |= {"imported_sha256": files.sha256(checkpoint.path)}
    return _Opened(checkpoint, importer, coder)


def _rows(file: Path) -> np.ndarray:
    try:
        rows = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} cannot be read as embeddings: {' '.join(str(error).split())}") from None
    if not isinstance(rows, np.ndarray):
        raise UserError(f"{file} holds several arrays; write the embeddings alone, with numpy.save")
    return rows


@torch.no_grad()
def _compare(opened: _Opened, options: Options, rows: np.ndarray) -> None:
    checkpoint, importer, coder = opened
    raw, inputs = torch.from_numpy(rows), coder.prepare(rows)
    itself = getattr(importer, "normalises", lambda _: False)(checkpoint)
    z, x_hat = importer.forward(checkpoint, options, raw if itself else inputs)
    codes = coder.encode(inputs)
    ours = coder.reconstruct(inputs, codes)
    if itself:
        ours = ours * raw.norm(dim=1, keepdim=True) / coder.input_scale
    dense = torch.from_numpy(codes.matrix().toarray()).float()
    # Codes may differ by one factor: formats that normalise to another length.
    factor = float((z * dense).sum() / dense.square().sum().clamp_min(1e-30))
    for what, theirs, mine in (("codes", z, factor * dense), ("reconstructions", x_hat, ours)):
        most = float((theirs - mine).abs().max() / theirs.abs().max().clamp_min(1e-30))
        if not most <= CLOSE:
            raise UserError(
                f"{checkpoint.path}: {what} differ from the format's own by up to {most:.2g} of the largest; nothing "
                "was written. Is the input space right (--input-norm, --input-scale), and k?"
            )


def export(coder: Coder, format: str, folder: Path) -> None:
    """Write an SAE for another library into a folder, which must not exist.

    Raises:
        UserError: the folder is there, or the format cannot hold this SAE.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; name another folder")
    exporter = registry.load("exporter", format)
    with files.atomic_directory(folder) as temporary:
        exporter.write(coder, temporary, coder.metadata)


def _importer(checkpoint: Checkpoint, format: str) -> tuple[str, ModuleType]:
    if format != AUTO:
        return format, registry.load("importer", format)
    fitting = [n for n in registry.names("importer") if registry.load("importer", n).fits(checkpoint)]
    if len(fitting) != 1:
        found = ", ".join(fitting) or "none"
        names = ", ".join(sorted(checkpoint.tensors)[:12])
        raise UserError(f"{checkpoint.path}: its format is not plain ({found} fit; tensors: {names}); say --format")
    return fitting[0], registry.load("importer", fitting[0])
