"""Bring stored embeddings to the space that an SAE works in."""

import io
import mmap
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.core.errors import UserError
from sae.models.sizes import RESIDENT

VERSION = 1
NORMS = ("none", "unit_l2", "unit_l2_layernorm")
# Rows whose variance is computed at once.
_CHUNK = 16_384
# Values that are normalised at once, in float64. More of them leave the cache, and
# their arrays are new memory each time.
_IN_CACHE = 1 << 15
# Embeddings that differ by a smaller share of their length count as equal.
_FLOAT32_ROUNDING = float(np.finfo(np.float32).eps)
# The smallest variance whose input scale float32 holds.
_LEAST_VARIANCE = float(np.finfo(np.float32).max) ** -2


def open_inputs(
    embeddings: Float[np.ndarray, "samples d"],
    input_norm: str,
    input_scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> "Float[Tensor, 'samples d'] | Inputs":
    """Prepare embeddings at once where they fit on the device, else as rows are read.

    Args:
        embeddings: (N, d), as the backbone gave them.
        input_norm: as in :func:`prepare`.
        input_scale: as in :func:`prepare`.
        device: where the prepared inputs are needed.

    Returns:
        Prepared inputs (N, d), to index by rows: a tensor on `device`, or
        :class:`Inputs`, which leave a memory map on disk. Both give the same values.
    """
    if torch.device(device).type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        most_bytes = free_bytes // 2
    else:
        most_bytes = RESIDENT
    bytes_as_float32 = 4 * embeddings.shape[0] * embeddings.shape[1]
    if bytes_as_float32 <= most_bytes:
        return prepare(embeddings, input_norm, input_scale, device)
    return Inputs(embeddings, input_norm, input_scale, device)


class Inputs:
    """Prepared inputs (N, d) of a memory map, of which rows are read when asked for.

    Index them with a slice of consecutive rows, or with a tensor of row numbers on the
    CPU: both give a float32 tensor on `device`.

    Args:
        embeddings: (N, d), as the backbone gave them.
        input_norm: as in :func:`prepare`.
        input_scale: as in :func:`prepare`.
        device: where the prepared inputs are needed.
    """

    def __init__(
        self,
        embeddings: Float[np.ndarray, "samples d"],
        input_norm: str,
        input_scale: float,
        device: torch.device | str,
    ) -> None:
        self.embeddings = embeddings
        self.input_norm = input_norm
        self.input_scale = input_scale
        self.device = torch.device(device)
        self.shape = embeddings.shape

        # A part of a map, or one whose columns lie together, is read through the map.
        self._file: io.FileIO | None = None
        if (
            isinstance(embeddings, np.memmap)
            and isinstance(embeddings.base, mmap.mmap)
            and embeddings.flags.c_contiguous
        ):
            self._file = io.FileIO(str(embeddings.filename))
            self._bytes_before_rows: int = embeddings.offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(
        self, rows: slice | Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows d"]:
        embeddings = self._read_rows(rows)
        return prepare(embeddings, self.input_norm, self.input_scale).to(self.device)

    def _read_rows(
        self, rows: slice | Int[Tensor, " rows"]
    ) -> Float[np.ndarray, "rows d"]:
        """Read rows as the backbone gave them."""
        # Those of a whole file are not read through its map: a fault for each row that
        # is read took a quarter of a small training step, and the pages would count as
        # this process's memory.
        if self._file is None:
            return self.embeddings[rows if isinstance(rows, slice) else rows.numpy()]

        # Runs of rows that lie together in the file.
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            run_starts = [start]
            rows_per_run = max(0, stop - start)
        else:
            run_starts = rows.tolist()
            rows_per_run = 1

        d = self.shape[1]
        row_bytes = self.embeddings.itemsize * d
        runs = np.empty((len(run_starts), rows_per_run, d), self.embeddings.dtype)
        for run_start, run in zip(run_starts, runs, strict=True):
            self._file.seek(self._bytes_before_rows + run_start * row_bytes)
            if self._file.readinto(run) != run.nbytes:
                row = run_start + rows_per_run
                raise OSError(f"{self._file.name} ends before row {row}")
        return runs.reshape(-1, d)

    def split(self, size: int) -> Iterator[Float[Tensor, "rows d"]]:
        """Return consecutive chunks of `size` rows, as `torch.Tensor.split` does."""
        return (self[start : start + size] for start in range(0, len(self), size))


def prepare(
    embeddings: Float[np.ndarray, "samples d"],
    input_norm: str,
    input_scale: float = 1.0,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "samples d"]:
    """Normalise and scale embeddings: bring them to the model's input space.

    Args:
        embeddings: (N, d) array, any float type; read in chunks, so a memory map stays
            on disk.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm' (unit l2 here; the
            LayerNorm is part of the model).
        input_scale: the factor that every vector is multiplied with, after the norm.
        device: where the inputs are needed.

    Returns:
        (N, d) float32 tensor on `device`.

    Raises:
        UserError: there is no such norm.
    """
    _check_norm(input_norm)
    prepared = torch.empty(embeddings.shape, dtype=torch.float32, device=device)
    chunk_rows = max(1, _IN_CACHE // embeddings.shape[1])
    for start in range(0, len(embeddings), chunk_rows):
        rows = slice(start, start + chunk_rows)
        chunk = np.asarray(embeddings[rows], dtype=np.float64)
        if input_norm != "none":
            chunk = unit_rows(chunk)
        in_float32 = torch.from_numpy(chunk.astype(np.float32))
        prepared[rows] = in_float32.mul_(input_scale)
    return prepared


def undo(
    reconstructions: Float[np.ndarray, "samples d"],
    embeddings: Float[np.ndarray, "samples d"],
    input_norm: str,
    input_scale: float = 1.0,
) -> Float[np.ndarray, "samples d"]:
    """Bring reconstructions from the model's input space to that of the embeddings.

    Args:
        reconstructions: (N, d), in the space that :func:`prepare` gives.
        embeddings: (N, d) what they reconstruct, as the backbone gave them: their
            lengths are taken out by the norms other than 'none'.
        input_norm: as in :func:`prepare`.
        input_scale: as in :func:`prepare`.

    Returns:
        (N, d) float32.

    Raises:
        UserError: there is no such norm.
    """
    _check_norm(input_norm)
    raw = np.asarray(reconstructions, dtype=np.float64) / input_scale
    if input_norm != "none":
        raw *= _row_lengths(np.asarray(embeddings, dtype=np.float64))
    return raw.astype(np.float32)


def _check_norm(input_norm: str) -> None:
    if input_norm not in NORMS:
        raise UserError(f"input_norm is {input_norm!r}; give {', '.join(NORMS)}")


def unit_rows(x: Float[np.ndarray, "samples d"]) -> Float[np.ndarray, "samples d"]:
    """Divide every row of (N, d) by its l2 norm, in float64; zeros stay zero."""
    x = np.asarray(x, dtype=np.float64)
    return x / _row_lengths(x)


def _row_lengths(x: Float[np.ndarray, "samples d"]) -> Float[np.ndarray, "samples 1"]:
    """Return the l2 norm of each row; 1 of a row of zeros."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(norm > 0, norm, 1)


def total_variance(x: "np.ndarray | Tensor | Inputs") -> float:
    """Sum the variances of all dimensions, in float64: E || x - E x ||^2.

    Args:
        x: (N, d), N at least 1: an array, tensor or `Inputs`, of which a chunk is held
            at a time. The mean E is over these N rows.

    Raises:
        UserError: there are no rows.
    """
    if len(x) == 0:
        raise UserError("no rows have no variance: give (N, d), N at least 1")
    row_count = 0
    mean = 0.0  # (d,) after the first chunk
    squares = 0.0  # sum over rows of || x - mean ||^2
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        if isinstance(chunk, Tensor):
            chunk = chunk.cpu()
        chunk = np.asarray(chunk, dtype=np.float64)

        # Chan et al. 1983 merge the mean and the squares of two sets of rows.
        # E x^2 - (E x)^2 would subtract two large and nearly equal numbers.
        chunk_mean = chunk.mean(axis=0)
        mean_shift = chunk_mean - mean
        new_count = row_count + len(chunk)
        squares_within_chunk = ((chunk - chunk_mean) ** 2).sum()
        squares_between = (mean_shift**2).sum() * row_count * len(chunk) / new_count
        squares += squares_within_chunk + squares_between
        mean = mean + mean_shift * len(chunk) / new_count
        row_count = new_count
    return squares / row_count


def rows_differ(x: Inputs, variance: float) -> bool:
    """Return whether the rows of (N, d) differ by more than rounding.

    Args:
        x: (N, d) prepared inputs.
        variance: their total variance.
    """
    first_row_square = float(x[:1].double().square().sum())
    rounding_variance = _FLOAT32_ROUNDING**2 * first_row_square
    return variance > max(rounding_variance, _LEAST_VARIANCE)
