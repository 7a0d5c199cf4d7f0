"""Sparse codes of many samples: rows of any length, largest activation first.

Every metric reads this one object.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from sae.core.arguments import whole_number
from sae.core.display import Shown
from sae.core.errors import UserError


@dataclass(frozen=True, repr=False)
class Codes(Shown):
    """The active latents of N samples, in compressed rows.

    Row i has the values from `offsets[i]` to `offsets[i + 1]`, the latter excluded.

    Attributes:
        values: (nnz,) float32, all > 0, largest first in each row.
        indices: (nnz,) int32, the latent of each value.
        offsets: (N + 1,) int64.
        m: latents in the dictionary.
    """

    values: Float[np.ndarray, " nnz"]
    indices: Int[np.ndarray, " nnz"]
    offsets: Int[np.ndarray, " samples+1"]
    m: int

    def check(self) -> None:
        """Check codes that a user may have put together.

        Raises:
            UserError: a part is no array of numbers of its kind and shape, a latent is
                not one of the m, or the offsets do not cut the values into rows.
        """
        # By the letters that NumPy has for floats, integers and unsigned integers.
        allowed_kinds = {"values": "fiu", "indices": "iu", "offsets": "iu"}
        for name, kinds in allowed_kinds.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.ndim != 1:
                raise UserError(
                    f"{name} of codes are {type(array).__name__}: give an array of one "
                    "axis"
                )
            if array.dtype.kind not in kinds:
                numbers = "numbers" if "f" in kinds else "whole numbers"
                raise UserError(f"{name} of codes are {array.dtype}: give {numbers}")

        value_count = len(self.values)
        if len(self.indices) != value_count:
            raise UserError(
                f"codes have {value_count} values and {len(self.indices)} indices: "
                "give a latent for each value"
            )
        if value_count and not 0 <= self.indices.min() <= self.indices.max() < self.m:
            raise UserError(
                f"indices of codes go from {self.indices.min()} to "
                f"{self.indices.max()}: give 0 to {self.m - 1}, since there are "
                f"{self.m} latents"
            )
        first_and_last = self.offsets[[0, -1]].tolist() if len(self.offsets) else None
        if first_and_last != [0, value_count] or (np.diff(self.offsets) < 0).any():
            raise UserError(
                f"offsets of codes do not rise from 0 to {value_count}, the number of "
                "values: give where each row starts, and the end of the last"
            )

    def facts(self) -> dict[str, object]:
        """Return {name: value} of what codes are shown by."""
        return {
            "samples": len(self),
            "latents": self.m,
            "active": round(self.l0(), 2) if len(self) else None,
        }

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.offsets) - 1

    def lengths(self) -> Int[np.ndarray, " samples"]:
        """Count the active latents of each sample, (N,) int64."""
        return np.diff(self.offsets)

    def l0(self) -> float:
        """Return the mean number of active latents; NaN of no samples."""
        return len(self.values) / len(self) if len(self) else float("nan")

    def row_numbers(self) -> Int[np.ndarray, " nnz"]:
        """Return the sample of each value, (nnz,) int64."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def firing_counts(self) -> Int[np.ndarray, " m"]:
        """Count the samples on which each latent is active, (m,) int64."""
        return np.bincount(self.indices, minlength=self.m)

    def prefix(self, k: int) -> "Codes":
        """Return the codes with the k largest values of each row, of shorter rows all.

        Raises:
            UserError: k is no whole number from 0 on.
        """
        k = whole_number("k", k, "0 or more", least=0)
        place_in_row = np.arange(len(self.values)) - self.offsets[self.row_numbers()]
        is_kept = place_in_row < k
        row_ends = np.minimum(self.lengths(), k).cumsum()
        offsets = np.concatenate([[0], row_ends]).astype(np.int64)
        return Codes(self.values[is_kept], self.indices[is_kept], offsets, self.m)

    def rows(self, start: int, stop: int) -> "Codes":
        """Return the codes of the samples `start` to `stop`, the latter excluded.

        They are views, not copies. A `stop` beyond the end is the end.

        Raises:
            UserError: `start` or `stop` is no whole number from 0 on, `start` is beyond
                the last sample, or `stop` is before `start`.
        """
        start = whole_number("start", start, f"0 to {len(self)}", least=0)
        stop = whole_number("stop", stop, f"{start} or more", least=start)
        if start > len(self):
            raise UserError(
                f"start is {start}; there are {len(self)} samples: give 0 to "
                f"{len(self)}"
            )
        offsets = self.offsets[start : stop + 1]
        in_rows = slice(offsets[0], offsets[-1])
        return Codes(
            self.values[in_rows], self.indices[in_rows], offsets - offsets[0], self.m
        )

    def by_latent(self) -> scipy.sparse.csc_matrix:
        """Return the codes as a float32 sparse matrix (N, m) in compressed columns.

        A column has the samples of a latent, ascending.
        """
        by_row = scipy.sparse.csr_matrix(
            (self.values, self.indices, self.offsets), shape=(len(self), self.m)
        )
        return by_row.tocsc()

    def matrix(self) -> scipy.sparse.csr_matrix:
        """Return the codes as a float64 sparse matrix (N, m), columns sorted."""
        # To columns and back sorts each row's columns into new arrays, as fast as
        # sorting.
        return self.by_latent().tocsr().astype(np.float64)


def concatenate(chunks: Sequence[Codes]) -> Codes:
    """Join the codes of consecutive chunks of rows; there is at least one chunk."""
    row_lengths = np.concatenate([chunk.lengths() for chunk in chunks])
    offsets = np.concatenate([[0], row_lengths.cumsum()]).astype(np.int64)
    values = np.concatenate([chunk.values for chunk in chunks])
    indices = np.concatenate([chunk.indices for chunk in chunks])
    return Codes(values, indices, offsets, chunks[0].m)
