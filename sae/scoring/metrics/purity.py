"""Class purity of latents (arXiv:2606.27321), with its null: rare latents are pure by chance.

Dominant class of latent j: the class of most of the images on which it fires (the first of equals). Binary purity: that
class's share of those images. Weighted purity: its share of the activation. Averages are over active latents.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse


@dataclass(frozen=True)
class Purity:
    """Averages over latents that fire at least once; NaN if none does.

    Attributes:
        binary, weighted: see the module.
        binary_null, weighted_null: the same after permuting the labels, which keeps every latent's firing count; mean
            over permutations.
        binary_min10: binary purity over the latents that fire on at least 10 images.
    """

    binary: float
    weighted: float
    binary_null: float
    weighted_null: float
    binary_min10: float


def per_latent(matrix, labels):
    """Purity and dominant class of every latent.

    Args:
        matrix: codes, csr (N, m), no explicit zeros.
        labels: (N,) class numbers from 0.

    Returns:
        binary and weighted purity, both (m,) float64, NaN for a latent that never fires; dominant class (m,).
    """
    labels = np.asarray(labels)
    one_hot = scipy.sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    counts = (one_hot @ (matrix > 0).astype(np.float64)).toarray()
    weights = (one_hot @ matrix).toarray()
    latents = np.arange(matrix.shape[1])
    dominant = counts.argmax(axis=0)
    with np.errstate(invalid="ignore"):
        binary = counts[dominant, latents] / counts.sum(axis=0)
        return binary, weights[dominant, latents] / weights.sum(axis=0), dominant


def score(codes, labels, permutations=20, seed=0):
    """Purity of `codes` (`sae.models.codes.Codes`) against `labels` (N,), and its null over seeded permutations."""
    matrix, labels = codes.matrix(), np.asarray(labels)
    fires = codes.firing_counts()
    active = fires > 0
    if not active.any():
        return Purity(*[float("nan")] * 5)
    binary, weighted, _ = per_latent(matrix, labels)
    rng = np.random.default_rng(seed)
    null = [[p[active].mean() for p in per_latent(matrix, rng.permutation(labels))[:2]] for _ in range(permutations)]
    often = binary[fires >= 10]
    return Purity(
        binary[active].mean(),
        weighted[active].mean(),
        *np.mean(null, axis=0),
        often.mean() if len(often) else float("nan"),
    )
