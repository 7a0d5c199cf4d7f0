"""Class purity of single latents (arXiv:2606.27321)."""

import numpy as np
import scipy.sparse


def per_latent(matrix: scipy.sparse.csr_matrix, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Purity and dominant class of every latent.

    Dominant: the class of most of the images on which the latent fires (the first of equals). Binary purity: that
    class's share of those images. Weighted purity: its share of the activation.

    Args:
        matrix: codes, csr (N, m), no explicit zeros.
        labels: (N,) class numbers from 0.

    Returns:
        binary and weighted purity, both (m,) float64, NaN for a latent that never fires; dominant class (m,).
    """
    one_hot = scipy.sparse.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    counts = (one_hot @ (matrix > 0).astype(np.float64)).toarray()
    weights = (one_hot @ matrix).toarray()
    latents = np.arange(matrix.shape[1])
    dominant = counts.argmax(axis=0)
    with np.errstate(invalid="ignore"):
        binary = counts[dominant, latents] / counts.sum(axis=0)
        return binary, weights[dominant, latents] / weights.sum(axis=0), dominant
