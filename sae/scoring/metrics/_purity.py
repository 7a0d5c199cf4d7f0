"""Compute the class purity of single latents (arXiv:2606.27321)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.sparse import csc_matrix

# (latent, class) pairs whose images are counted at once: they fit the cache.
_BINS = 1 << 17


class Purity(NamedTuple):
    """Purity of each latent, by each labelling.

    Attributes:
        binary: the dominant class's share of the images on which the latent fires; NaN
            for a latent that never fires.
        dominant: the number of the dominant class.
    """

    binary: Float64[np.ndarray, "labellings latents"]
    dominant: Int[np.ndarray, "labellings latents"]


def per_latent(
    matrix: Float[csc_matrix, "images latents"],
    labellings: Int[np.ndarray, "labellings images"],
) -> Purity:
    """Compute purity and dominant class of every latent.

    Dominant is the class of most of the images on which the latent fires (the first of
    equals).

    Args:
        matrix: codes latent by latent without explicit zeros, as
            `sae.models.codes.Codes.by_latent`.
        labellings: class numbers from 0.
    """
    # Classes are counted by place: a class number may be large, as WordNet's are.
    classes, places = np.unique(labellings, return_inverse=True)
    place_labellings = places.reshape(labellings.shape)
    labelling_count = len(labellings)
    latent_count = matrix.shape[1]
    class_count = len(classes)

    images_of_dominant = np.zeros((labelling_count, latent_count), dtype=np.int64)
    dominant = np.zeros((labelling_count, latent_count), dtype=np.int64)

    latents_at_once = max(1, _BINS // class_count)
    for first in range(0, latent_count, latents_at_once):
        # The images of these latents' values, and the latents counted from 0.
        starts = matrix.indptr[first : first + latents_at_once + 1]
        count = len(starts) - 1
        latents = slice(first, first + count)
        images = matrix.indices[starts[0] : starts[-1]]
        latent = np.repeat(np.arange(count), np.diff(starts))

        for number, place_of_image in enumerate(place_labellings):
            place = place_of_image[images]
            image_counts = np.bincount(
                latent * class_count + place, minlength=count * class_count
            ).reshape(count, class_count)
            dominant[number, latents] = image_counts.argmax(axis=1)
            images_of_dominant[number, latents] = image_counts.max(axis=1)

    with np.errstate(invalid="ignore"):
        binary = images_of_dominant / np.diff(matrix.indptr)
    return Purity(binary, classes[dominant])
