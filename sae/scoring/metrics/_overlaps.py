"""Find latents that fire on nearly the same images as others, or within them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.csgraph import connected_components

# From nine tenths on images, or decoder rows, are nearly the same: a Jaccard, a share of
# a latent's images, a cosine.
TENTHS = 9
# Latents whose overlaps with all others are looked at at once.
LATENTS = 256


class Overlaps(NamedTuple):
    """What the images on which latents fire have in common.

    Attributes:
        alike: pairs of latents whose images have a Jaccard of .9 or more, each once.
        nested: whether 90 % or more of a latent's images lie within those of one other
            latent; of a latent that never fires they do not.
    """

    alike: Int[np.ndarray, "2 pairs"]
    nested: Bool[np.ndarray, " latents"]


def find_overlaps(codes: Float[csc_matrix, "images latents"]) -> Overlaps:
    """Count the images that latents share, of each latent with all others."""
    latent_count = codes.shape[1]
    counts = np.diff(codes.indptr).astype(np.int64)
    ones = np.ones(len(codes.indices), np.int32)
    fires = csc_matrix((ones, codes.indices, codes.indptr), codes.shape)
    fires_by_image = fires.tocsr()

    alike = [np.empty((2, 0), np.int32)]
    nested = np.zeros(latent_count, bool)
    for start in range(0, latent_count, LATENTS):
        shared = (fires[:, start : start + LATENTS].T @ fires_by_image).tocoo()
        latent, other = shared.row + np.int32(start), shared.col
        # Whole numbers, so that nine of ten are nine tenths.
        is_within = 10 * shared.data >= TENTHS * counts[latent]
        is_within &= latent != other
        nested[latent[is_within]] = True
        in_either = counts[latent] + counts[other] - shared.data
        is_alike = 10 * shared.data >= TENTHS * in_either
        is_alike &= latent < other
        alike.append(np.array([latent[is_alike], other[is_alike]]))
    return Overlaps(np.concatenate(alike, axis=1), nested)


def find_copies(
    decoder: Float[np.ndarray, "latents dim"],
    codes: Float[csc_matrix, "images latents"],
) -> Int[np.ndarray, " latents"]:
    """Return the latent of which each is a copy, itself where it is none.

    Latents whose decoder rows have a cosine of .9 or more, or whose images a Jaccard of
    .9 or more, are of one cluster, and so is what a chain of such pairs joins. All but
    one of a cluster are copies of that one: the latent that fires on most images, of
    several the first.

    Args:
        decoder: its rows.
        codes: activations on the images by which latents are compared.
    """
    lengths = np.linalg.norm(decoder, axis=1, keepdims=True)
    directions = decoder / np.maximum(lengths, np.finfo(decoder.dtype).tiny)
    cluster = np.arange(len(decoder))
    for start in range(0, len(decoder), LATENTS):
        cosines = directions[start : start + LATENTS] @ directions.T
        latent, other = np.nonzero(cosines >= TENTHS / 10)
        cluster = _join(cluster, latent + start, other)
    cluster = _join(cluster, *find_overlaps(codes).alike)

    by_firing = np.argsort(-np.diff(codes.indptr), kind="stable")
    _, first = np.unique(cluster[by_firing], return_index=True)
    return by_firing[first][cluster]


def _join(
    cluster: Int[np.ndarray, " latents"],
    latent: Int[np.ndarray, " pairs"],
    other: Int[np.ndarray, " pairs"],
) -> Int[np.ndarray, " latents"]:
    """Return the number of each latent's cluster after those of pairs were joined."""
    ends = (cluster[latent], cluster[other])
    pairs = coo_matrix((np.ones(len(latent), bool), ends), (len(cluster),) * 2)
    return connected_components(pairs, directed=False)[1][cluster]
