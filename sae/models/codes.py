"""Sparse codes of many samples: rows of any length, largest activation first. Every metric reads this one object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from sae.core.arguments import whole_number
from sae.core.errors import UserError
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

    def check(self) -> None:
        """Check codes that a user may have put together.

        Raises:
            UserError: a part is no array of numbers of its kind and shape, a latent is
                not one of the m, or the offsets do not cut the values into rows.
        """
        kinds = {"values": "fiu", "indices": "iu", "offsets": "iu"}
        for name, kind in kinds.items():
            part = getattr(self, name)
            if not isinstance(part, np.ndarray) or part.ndim != 1:
                raise UserError(
                    f"{name} of codes are {type(part).__name__}: give an array of one "
                    "axis"
                )
            if part.dtype.kind not in kind:
                numbers = "numbers" if "f" in kind else "whole numbers"
                raise UserError(f"{name} of codes are {part.dtype}: give {numbers}")

        count = len(self.values)
        if len(self.indices) != count:
            raise UserError(
                f"codes have {count} values and {len(self.indices)} indices: give a "
                "latent for each value"
            )
        if count and not 0 <= self.indices.min() <= self.indices.max() < self.m:
            raise UserError(
                f"indices of codes go from {self.indices.min()} to "
                f"{self.indices.max()}: give 0 to {self.m - 1}, since there are "
                f"{self.m} latents"
            )
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else None
        if ends != [0, count] or (np.diff(self.offsets) < 0).any():
            raise UserError(
                f"offsets of codes do not rise from 0 to {count}, the number of "
                "values: give where each row starts, and the end of the last"
            )

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
        """The mean number of active latents; NaN of no samples."""
        return len(self.values) / len(self) if len(self) else float("nan")

    def row_numbers(self) -> np.ndarray:
        """(nnz,) int64: the sample of each value."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def firing_counts(self) -> np.ndarray:
        """(m,) int64: the number of samples on which each latent is active."""
        return np.bincount(self.indices, minlength=self.m)

    def prefix(self, k: int) -> "Codes":
        """The codes with the k largest values of each row, of shorter rows all.

        Raises:
            UserError: k is no whole number from 0 on.
        """
        k = whole_number("k", k, "0 or more", least=0)
        kept = np.arange(len(self.values)) - self.offsets[self.row_numbers()] < k
        offsets = np.concatenate([[0], np.minimum(self.lengths(), k).cumsum()]).astype(
            np.int64
        )
        return Codes(self.values[kept], self.indices[kept], offsets, self.m)

    def rows(self, start: int, stop: int) -> "Codes":
        """The codes of the samples `start` to `stop`, the latter excluded; views, not copies.

        Raises:
            UserError: they are no whole numbers from 0 on, `start` is beyond the last
                sample, or `stop` is before `start`. A `stop` beyond the end is the end.
        """
        start = whole_number("start", start, f"0 to {len(self)}", least=0)
        stop = whole_number("stop", stop, f"{start} or more", least=start)
        if start > len(self):
            raise UserError(
                f"start is {start}; there are {len(self)} samples: give 0 to {len(self)}"
            )
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
