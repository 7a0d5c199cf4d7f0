"""Class purity of single latents (arXiv:2606.27321)."""

from typing import NamedTuple

import numpy as np
import scipy.sparse

_BINS = (
    1 << 17
)  # (latent, class) pairs whose images are counted at once: they fit the cache


class Purity(NamedTuple):
    """Of each latent, by each labelling: (L, m).

    Attributes:
        binary, weighted: float64, NaN for a latent that never fires.
        dominant: class numbers.
    """

    binary: np.ndarray
    weighted: np.ndarray
    dominant: np.ndarray


def per_latent(matrix: scipy.sparse.csc_matrix, labellings: np.ndarray) -> Purity:
    """Purity and dominant class of every latent.

    Dominant: the class of most of the images on which the latent fires (the first of equals). Binary purity: that
    class's share of those images. Weighted purity: its share of the activation.

    Args:
        matrix: codes latent by latent, csc (N, m) without explicit zeros, as `sae.models.codes.Codes.by_latent`.
        labellings: (L, N) class numbers from 0.
    """
    # By place: a class number may be large, as WordNet's are.
    known, places = np.unique(labellings, return_inverse=True)
    labellings = places.reshape(labellings.shape)
    m, classes = matrix.shape[1], len(known)
    most, dominant = np.zeros((2, len(labellings), m), dtype=np.int64)
    of_dominant, total = np.zeros((len(labellings), m)), np.zeros(m)
    step = max(1, _BINS // classes)
    for first in range(0, m, step):
        starts = matrix.indptr[first : first + step + 1]
        part, count = slice(starts[0], starts[-1]), len(starts) - 1
        images, values, latent = (
            matrix.indices[part],
            matrix.data[part],
            np.repeat(np.arange(count), np.diff(starts)),
        )
        here = slice(first, first + count)
        total[here] = np.bincount(latent, values, count)
        for number, labels in enumerate(labellings):
            label = labels[images]
            counts = np.bincount(
                latent * classes + label, minlength=count * classes
            ).reshape(count, classes)
            largest = counts.argmax(axis=1)
            most[number, here], dominant[number, here] = counts.max(axis=1), largest
            ours = np.flatnonzero(label == largest[latent])
            of_dominant[number, here] = np.bincount(latent[ours], values[ours], count)
    with np.errstate(invalid="ignore"):
        return Purity(
            most / np.diff(matrix.indptr), of_dominant / total, known[dominant]
        )
