"""Encode a split once; every metric reads the result."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

_CHUNK = 4096


@dataclass(frozen=True)
class Codes:
    """Sparse codes of N samples, largest activation first.

    Attributes:
        values: (N, k) float32; a value of 0 is an empty place: the sample has fewer than k active latents.
        indices: (N, k) int32.
        m: latents in the dictionary.
    """

    values: np.ndarray
    indices: np.ndarray
    m: int

    def matrix(self):
        """The codes as a float64 sparse matrix (N, m), without explicit zeros, columns sorted."""
        n, k = self.values.shape
        rows = np.arange(0, n * k + 1, k)
        # Copies: scipy would sort the indices in place, under the values.
        values, indices = self.values.astype(np.float64).flatten(), self.indices.flatten()
        matrix = scipy.sparse.csr_matrix((values, indices, rows), shape=(n, self.m))
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix

    def firing_counts(self):
        """(m,) the number of samples on which each latent's activation is > 0."""
        return np.bincount(self.indices[self.values > 0], minlength=self.m)


def encode(sae, x, k=None):
    """Codes of prepared inputs `x` (N, d): the `k` (default: the SAE's) largest activations of each."""
    parts = list(encode_chunks(sae, x, k))
    return Codes(np.concatenate([p.values for p in parts]), np.concatenate([p.indices for p in parts]), len(sae.W_dec))


def firing_counts(sae, x):
    """:meth:`Codes.firing_counts` of prepared inputs, without keeping their codes."""
    return sum(part.firing_counts() for part in encode_chunks(sae, x))


@torch.no_grad()
def encode_chunks(sae, x, k=None):
    """Yield the codes of consecutive chunks of rows."""
    for part in x.split(_CHUNK):
        values, indices = sae.encode(part, k)
        yield Codes(values.cpu().numpy(), indices.cpu().numpy().astype(np.int32), len(sae.W_dec))
