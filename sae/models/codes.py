"""Sparse codes of many samples: rows of any length, largest activation first. Every metric reads this one object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from sae.core.shown import Shown


@dataclass(frozen=True, repr=False)
class Codes(Shown):
    """The active latents of N samples, in compressed rows: row i is `offsets[i]` to `offsets[i + 1]`.

    Attributes:
        values: (nnz,) float32, all > 0, largest first in each row.
        indices: (nnz,) int32, the latent of each value.
        offsets: (N + 1,) int64.
        m: latents in the dictionary.
    """

    values: np.ndarray
    indices: np.ndarray
    offsets: np.ndarray
    m: int

    def facts(self) -> dict[str, object]:
        """What they are."""
        return {
            "samples": len(self),
            "latents": self.m,
            "active": round(self.l0(), 2) if len(self) else None,
        }

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        """(N,) int64: the active latents of each sample."""
        return np.diff(self.offsets)

    def l0(self) -> float:
        """The mean number of active latents."""
        return len(self.values) / len(self)

    def row_numbers(self) -> np.ndarray:
        """(nnz,) int64: the sample of each value."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def firing_counts(self) -> np.ndarray:
        """(m,) int64: the number of samples on which each latent is active."""
        return np.bincount(self.indices, minlength=self.m)

    def prefix(self, k: int) -> "Codes":
        """The codes with the k largest values of each row, of shorter rows all."""
        kept = np.arange(len(self.values)) - self.offsets[self.row_numbers()] < k
        offsets = np.concatenate([[0], np.minimum(self.lengths(), k).cumsum()]).astype(
            np.int64
        )
        return Codes(self.values[kept], self.indices[kept], offsets, self.m)

    def rows(self, start: int, stop: int) -> "Codes":
        """The codes of the samples `start` to `stop`, the latter excluded; views, not copies."""
        offsets = self.offsets[start : stop + 1]
        part = slice(offsets[0], offsets[-1])
        return Codes(
            self.values[part], self.indices[part], offsets - offsets[0], self.m
        )

    def by_latent(self) -> scipy.sparse.csc_matrix:
        """The codes as a float32 sparse matrix (N, m) in compressed columns: the samples of each latent, ascending."""
        parts = (self.values, self.indices, self.offsets)
        return scipy.sparse.csr_matrix(parts, shape=(len(self), self.m)).tocsc()

    def matrix(self) -> scipy.sparse.csr_matrix:
        """The codes as a float64 sparse matrix (N, m), columns sorted."""
        # To columns and back sorts each row's columns into new arrays, as fast as sorting.
        return self.by_latent().tocsr().astype(np.float64)


def concatenate(parts: Sequence[Codes]) -> Codes:
    """The codes of consecutive chunks of rows as one; there is at least one chunk."""
    lengths = np.concatenate([part.lengths() for part in parts])
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    values, indices = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("values", "indices")
    )
    return Codes(values, indices, offsets, parts[0].m)
