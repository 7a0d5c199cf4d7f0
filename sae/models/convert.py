"""SAEs of other libraries into this project's form, and back."""

import logging
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

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
    checkpoint = foreign.read(place)
    name, importer = _importer(checkpoint, format)
    found: Coder = importer.read(checkpoint, options or Options())
    found.metadata |= {"method": "imported", "trial": {}, "seed": 0, "imported": name}
    found.metadata |= {"imported_sha256": files.sha256(checkpoint.path)}
    return found


def import_(place: str, format: str, options: Options, out: Path, check: Path | None = None) -> None:
    """Write a checkpoint of another library as an SAE file of this project; see :func:`load`.

    Args:
        check: embeddings (N, d) saved with `numpy.save`, on which codes and reconstruction are compared with the
            format's own arithmetic before anything is written.

    Raises:
        UserError: as :func:`load`, or they differ.
    """
    found = load(place, format, options)
    said = ""
    if check is not None:
        said = compare(found, place, format, options, np.load(check, mmap_mode="r", allow_pickle=False))
    with files.atomic_file(out) as temporary:
        saefile.save(found, temporary)
    kind = "Top-k" if hasattr(found.select, "k") else "thresholds"
    progress.info(
        "%s: %d latents of %d dimensions, %s, as %s%s", out, found.m, found.d, kind, found.metadata["imported"], said
    )


@torch.no_grad()
def compare(found: Coder, place: str, format: str, options: Options, embeddings: np.ndarray) -> str:
    """What was compared, in words; an error if the two differ.

    Raises:
        UserError: the embeddings have other dimensions, or codes or reconstructions are not those of the format.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != found.d:
        raise UserError(f"embeddings of shape {embeddings.shape} for an SAE of {found.d} dimensions")
    checkpoint = foreign.read(place)
    _, importer = _importer(checkpoint, format)
    rows = np.asarray(embeddings[:1000], dtype=np.float32)
    raw, inputs = torch.from_numpy(rows), found.prepare(rows)
    itself = getattr(importer, "normalises", lambda _: False)(checkpoint)
    z, x_hat = importer.forward(checkpoint, options, raw if itself else inputs)
    codes = found.encode(inputs)
    ours = found.reconstruct(inputs, codes)
    if itself:
        ours = ours * raw.norm(dim=1, keepdim=True) / found.input_scale
    dense = torch.from_numpy(codes.matrix().toarray()).float()
    # Codes may differ by one factor: formats that normalise to another length.
    factor = float((z * dense).sum() / dense.square().sum().clamp_min(1e-30))
    for what, theirs, mine in (("codes", z, factor * dense), ("reconstructions", x_hat, ours)):
        most = float((theirs - mine).abs().max() / theirs.abs().max().clamp_min(1e-30))
        if not most <= CLOSE:
            raise UserError(
                f"{place}: {what} differ from the format's own by up to {most:.2g} of the largest; nothing was "
                "written. Is the input space right (--input-norm, --input-scale), and k?"
            )
    return f"; codes and reconstructions of {len(rows)} embeddings are the format's own"


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
