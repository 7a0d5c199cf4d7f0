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
        alike: pairs of latents whose images have a Jaccard of .9 or more, each pair in
            both orders.
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

    alike = [np.empty((2, 0), np.int64)]
    nested = np.zeros(latent_count, bool)
    for start in range(0, latent_count, LATENTS):
        shared = (fires[:, start : start + LATENTS].T @ fires_by_image).tocoo()
        latent = shared.row.astype(np.int64) + start
        other = shared.col.astype(np.int64)
        # Whole numbers, so that nine of ten are nine tenths.
        is_within = 10 * shared.data >= TENTHS * counts[latent]
        is_within &= latent != other
        latent, other, count = (
            latent[is_within],
            other[is_within],
            shared.data[is_within],
        )
        nested[latent] = True
        in_either = counts[latent] + counts[other] - count
        is_alike = 10 * count >= TENTHS * in_either
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
    latent_count = len(decoder)
    pairs = np.concatenate(
        [find_overlaps(codes).alike, _find_parallel(decoder)], axis=1
    )
    edges = coo_matrix((np.ones(pairs.shape[1], bool), pairs), (latent_count,) * 2)
    cluster = connected_components(edges, directed=False)[1]

    by_firing = np.argsort(-np.diff(codes.indptr), kind="stable")
    _, first = np.unique(cluster[by_firing], return_index=True)
    return by_firing[first][cluster]


def _find_parallel(
    decoder: Float[np.ndarray, "latents dim"],
) -> Int[np.ndarray, "2 pairs"]:
    lengths = np.linalg.norm(decoder, axis=1, keepdims=True)
    directions = decoder / np.maximum(lengths, np.finfo(decoder.dtype).tiny)
    pairs = [np.empty((2, 0), np.int64)]
    for start in range(0, len(directions), LATENTS):
        cosines = directions[start : start + LATENTS] @ directions.T
        latent, other = np.nonzero(cosines >= TENTHS / 10)
        pairs.append(np.array([latent + start, other]))
    return np.concatenate(pairs, axis=1)
