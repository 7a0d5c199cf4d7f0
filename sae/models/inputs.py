"""From stored embeddings to the space the SAE works in."""

import io
import mmap
from collections.abc import Iterator

import numpy as np
import torch

from sae.models.sizes import RESIDENT

VERSION = 1
_CHUNK = 16_384
# `_EPS` is float32's rounding: embeddings that differ by a smaller share of their length count as the same. `_LEAST` is
# the smallest variance whose input scale float32 holds.
_EPS, _LEAST = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).max) ** -2
# Values that are normalised at once, in float64: more leave the cache, and each time their arrays are new memory.
_IN_CACHE = 1 << 15


def open_inputs(
    embeddings: np.ndarray,
    input_norm: str,
    input_scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> "torch.Tensor | Inputs":
    """Prepared inputs to index by rows: a tensor on `device` where that fits, else :class:`Inputs`, which stay on disk.

    Both give the same values.
    """
    limit = (
        torch.cuda.mem_get_info(device)[0] // 2
        if torch.device(device).type == "cuda"
        else RESIDENT
    )
    if 4 * embeddings.shape[0] * embeddings.shape[1] <= limit:
        return prepare(embeddings, input_norm, input_scale, device)
    return Inputs(embeddings, input_norm, input_scale, device)


class Inputs:
    """(N, d) prepared inputs of a memory map, read, normalised and scaled as they are asked for.

    Index with a slice or with a tensor of row numbers on the CPU: a float32 tensor on `device`.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        input_norm: str,
        input_scale: float,
        device: torch.device | str,
    ) -> None:
        self.embeddings, self.input_norm, self.input_scale = (
            embeddings,
            input_norm,
            input_scale,
        )
        self.device, self.shape = torch.device(device), embeddings.shape
        self._file: io.FileIO | None = None
        in_order = embeddings.flags.c_contiguous
        if (
            in_order
            and isinstance(embeddings, np.memmap)
            and isinstance(embeddings.base, mmap.mmap)
        ):
            self._file = io.FileIO(str(embeddings.filename))
            self._start: int = embeddings.offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | torch.Tensor) -> torch.Tensor:
        return prepare(self._read(rows), self.input_norm, self.input_scale).to(
            self.device
        )

    def _read(self, rows: slice | torch.Tensor) -> np.ndarray:
        # Not through the map: a fault for each row that is read took a quarter of a small training step, and the pages
        # would count as this process's memory.
        if self._file is None:
            return self.embeddings[rows if isinstance(rows, slice) else rows.numpy()]
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            firsts, each = [start], max(0, stop - start)
        else:
            firsts, each = rows.tolist(), 1
        out = np.empty((len(firsts), each, self.shape[1]), dtype=self.embeddings.dtype)
        size = self.embeddings.itemsize * self.shape[1]
        for first, part in zip(firsts, out, strict=True):
            self._file.seek(self._start + first * size)
            if self._file.readinto(part) != part.nbytes:
                raise OSError(f"{self._file.name} ends before row {first + each}")
        return out.reshape(-1, self.shape[1])

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """Consecutive chunks of `size` rows, as `torch.Tensor.split`."""
        return (self[start : start + size] for start in range(0, len(self), size))


def prepare(
    embeddings: np.ndarray,
    input_norm: str,
    input_scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Normalise and scale embeddings: the model's input space.

    Args:
        embeddings: (N, d) array, any float type; read in chunks, so a memory map stays on disk.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm' (unit l2 here; the LayerNorm is part of the model).
        input_scale: the factor that every vector is multiplied with, after the norm.

    Returns:
        (N, d) float32 tensor on `device`.
    """
    out = torch.empty(embeddings.shape, dtype=torch.float32, device=device)
    step = max(1, _IN_CACHE // embeddings.shape[1])
    for start in range(0, len(embeddings), step):
        part = np.asarray(embeddings[start : start + step], dtype=np.float64)
        part = part if input_norm == "none" else unit_rows(part)
        out[start : start + step] = torch.from_numpy(part.astype(np.float32)).mul_(
            input_scale
        )
    return out


def undo(
    reconstructions: np.ndarray,
    embeddings: np.ndarray,
    input_norm: str,
    input_scale: float = 1.0,
) -> np.ndarray:
    """Bring reconstructions from the model's input space to that of the embeddings.

    Args:
        reconstructions: (N, d), in the space that :func:`prepare` gives.
        embeddings: (N, d) what they reconstruct, as the backbone gave them: their
            lengths are taken out by the norms other than 'none'.
        input_norm, input_scale: as in :func:`prepare`.

    Returns:
        (N, d) float32.
    """
    raw = np.asarray(reconstructions, dtype=np.float64) / input_scale
    if input_norm != "none":
        raw *= _lengths(np.asarray(embeddings, dtype=np.float64))
    return raw.astype(np.float32)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """(N, d) with every row divided by its l2 norm, in float64; a row of zeros stays zero."""
    x = np.asarray(x, dtype=np.float64)
    return x / _lengths(x)


def _lengths(x: np.ndarray) -> np.ndarray:
    """Return the l2 norm of each row of (N, d), (N, 1); 1 of a row of zeros."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(norm > 0, norm, 1)


def total_variance(x: "np.ndarray | torch.Tensor | Inputs") -> float:
    """sum over dimensions of the variance of (N, d), an array, tensor or `Inputs`: E || x - E x ||^2, in float64."""
    count, mean, square = 0, 0.0, 0.0
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        chunk = np.asarray(
            chunk.cpu() if isinstance(chunk, torch.Tensor) else chunk, dtype=np.float64
        )
        # Chan et al. 1983: the pairwise update does not cancel, unlike E x^2 - (E x)^2.
        delta = chunk.mean(axis=0) - mean
        total = count + len(chunk)
        square += ((chunk - chunk.mean(axis=0)) ** 2).sum() + (
            delta**2
        ).sum() * count * len(chunk) / total
        mean = mean + delta * len(chunk) / total
        count = total
    return square / count


def differ(x: Inputs, variance: float) -> bool:
    """Whether rows (N, d) of this total variance differ by more than rounding."""
    return variance > max(_EPS**2 * float(x[:1].double().square().sum()), _LEAST)
