"""Compute the Monosemanticity Score of Pach et al. 2025 (arXiv:2504.02821).

It is exact, and takes one pass over sparse codes.

With a~_nj latent j's activation min-max scaled over the images and e_n the unit-norm
embedding of image n,

    MS_j = sum_{n<n'} a~_nj a~_n'j <e_n, e_n'>  /  sum_{n<n'} a~_nj a~_n'j
         = (|| sum_n a~_nj e_n ||^2 - sum_n a~_nj^2) / ((sum_n a~_nj)^2 - sum_n a~_nj^2)

so the cost is the number of non-zero codes times d, not the number of pairs of images.

Where one image outweighs all others together, both terms of the denominator are nearly
the square of its activation, and their difference loses the digits that count. With n =
1 for that image, and R and T for the sums of a~ and of a~ e over all others, the same
numerator and denominator are

    2 a~_1j <e_1, T> + || T ||^2 - sum_{n>1} a~_nj^2
    2 a~_1j R + R^2 - sum_{n>1} a~_nj^2

of which no digit is lost: for R <= 2 a~_1j the first term of the denominator is no less
than R^2; for larger R the sum of squares, at most a~_1j R, is no more than half of it.
"""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.sparse import csc_matrix, csr_matrix, spmatrix

from sae.models.codes import Codes
from sae.models.inputs import unit_rows
from sae.scoring.subject import Subject

# Rows and dimensions of the sums that a thread holds at once.
_ROWS = 1 << 16
_DIMENSIONS = 64
# Images that are looked at at once.
_CHUNK = 1024
# The share of (sum_n a~_nj)^2 below which a denominator is computed apart from the
# largest activation. A score is then off by less than 1e-12 (seen with up to 100,000
# firing images).
_CLOSE = 1e-2


class Summary(NamedTuple):
    """MS over the latents of one SAE.

    Attributes:
        mean: over all latents; undefined scores count as 0, those of dead latents too.
        median: over all latents; undefined scores count as 0.
        mean_alive: over the latents with a score (two or more firing images); NaN if
            there is none.
        median_alive: over the latents with a score; NaN if there is none.
    """

    mean: float
    median: float
    mean_alive: float
    median_alive: float


def subject_scores(
    subject: Subject, split: str, judge: str | None = None, across: bool = False
) -> Float64[np.ndarray, " latents"]:
    """Return the MS of an SAE's latents on a split; they are computed once.

    Args:
        subject: the SAE and its images.
        split: the split.
        judge: by the embeddings of this backbone instead of the SAE's own.
        across: without pairs of images of one group.
    """
    embeddings = subject.embeddings(split)
    if judge is not None:
        embeddings = subject.others[judge][split]
    groups = subject.groups(split) if across else None
    scaled = subject.once(
        ("scaled", split), lambda: scale_activations(subject.codes(split))
    )
    return subject.once(
        ("ms", split, judge, across), lambda: scores(scaled, embeddings, groups)
    )


def scale_activations(codes: Codes) -> Float64[csr_matrix, "images latents"]:
    """Min-max scale the activations of each latent over the images.

    A latent that is silent somewhere has minimum 0 and is divided by its maximum; one
    that fires on every image has its minimum subtracted. A latent constant over all
    images becomes empty.
    """
    high = np.zeros(codes.m, dtype=np.float32)
    low = np.full(codes.m, np.inf, dtype=np.float32)
    np.maximum.at(high, codes.indices, codes.values)
    np.minimum.at(low, codes.indices, codes.values)
    low[codes.firing_counts() < len(codes)] = 0

    # In float64, as the values: exact, but for the rounding of one difference and one
    # division.
    span = high.astype(np.float64) - low
    span[span <= 0] = 1
    low = low.astype(np.float64)
    values = (codes.values - low[codes.indices]) / span[codes.indices]

    # Copies: scipy would drop zeros in place, under the codes' own values.
    scaled = csr_matrix(
        (values, codes.indices.copy(), codes.offsets.copy()),
        shape=(len(codes), codes.m),
    )
    scaled.eliminate_zeros()
    return scaled


def scores(
    scaled: Float64[csr_matrix, "images latents"],
    embeddings: Float[np.ndarray, "images dim"],
    groups: np.ndarray | None = None,
) -> Float64[np.ndarray, " latents"]:
    """Compute the MS of every latent.

    Args:
        scaled: what :func:`scale_activations` returned.
        embeddings: of the similarity encoder; normalised here, in float64 (a float16
            row is not of unit norm).
        groups: (images,) group names; when given, pairs inside one group do not count.

    Returns:
        NaN where undefined: fewer than two images (with `groups`: groups) with a scaled
        activation > 0. This is decided by count: a sum of rounding errors is no score.
    """
    m = scaled.shape[1]
    latent_of_value = scaled.indices
    similarity = _Similarity(embeddings)

    # Over all pairs of images, those of an image with itself included.
    numerator_of_all = similarity.dot(scaled.T)
    weight = np.bincount(latent_of_value, weights=scaled.data, minlength=m)
    denominator_of_all = weight**2

    if groups is None:
        square = np.bincount(latent_of_value, weights=scaled.data**2, minlength=m)
        numerator = numerator_of_all - square
        denominator = denominator_of_all - square
        partners = np.bincount(latent_of_value, minlength=m)
    else:
        # A group's pairs are subtracted, those of an image with itself among them.
        by_group, latent = _part_by_group(scaled, groups)
        numerator_within = similarity.dot(by_group)
        denominator_within = np.asarray(by_group.sum(axis=1)).ravel() ** 2
        numerator = numerator_of_all - np.bincount(
            latent, weights=numerator_within, minlength=m
        )
        denominator = denominator_of_all - np.bincount(
            latent, weights=denominator_within, minlength=m
        )
        partners = np.bincount(latent, minlength=m)

    is_defined = partners >= 2
    loses_digits = is_defined & (denominator < _CLOSE * denominator_of_all)
    if loses_digits.any():
        if groups is None:
            groups = np.arange(scaled.shape[0])
        numerator[loses_digits], denominator[loses_digits] = _sums_around_largest(
            scaled[:, loses_digits], groups, similarity
        )
    ms = np.full(m, np.nan)
    ms[is_defined] = numerator[is_defined] / denominator[is_defined]
    return ms


def floor(embeddings: Float[np.ndarray, "images dim"]) -> float:
    """Return the mean cosine similarity over all pairs of images.

    It is what a latent with no preference scores.
    """
    count = len(embeddings)
    total = np.zeros(embeddings.shape[1])
    squares = 0.0
    for rows in _chunks(embeddings):
        unit = unit_rows(rows)
        total += unit.sum(axis=0)
        squares += (unit**2).sum()
    return float(((total**2).sum() - squares) / (count * count - count))


def summary(ms: Float64[np.ndarray, " latents"]) -> Summary:
    """Summarise the MS of latents, NaN where undefined, in both conventions."""
    alive = ms[~np.isnan(ms)]
    if not len(alive):
        return Summary(0.0, 0.0, float("nan"), float("nan"))
    filled = np.nan_to_num(ms)
    return Summary(
        mean=float(filled.mean()),
        median=float(np.median(filled)),
        mean_alive=float(alive.mean()),
        median_alive=float(np.median(alive)),
    )


class _Similarity:
    """Inner products of weighted sums of embeddings, each at unit norm."""

    def __init__(self, embeddings: Float[np.ndarray, "images dim"]) -> None:
        self._embeddings = embeddings
        squares = [np.einsum("nd,nd->n", rows, rows) for rows in _chunks(embeddings)]
        norms = np.sqrt(np.concatenate(squares))
        # A row of zeros stays zero.
        self._norms = np.where(norms > 0, norms, 1)

    def dot(
        self,
        v: Float64[spmatrix, "rows images"],
        w: Float64[spmatrix, "rows images"] | None = None,
    ) -> Float64[np.ndarray, " rows"]:
        """Return <sum_n v_rn e_n, sum_n w_rn e_n> for each row r; w is v by default."""
        # Some rows and dimensions at a time: never N x d in float64, nor R x d.
        row_count = v.shape[0]
        products = np.zeros(row_count)
        starts_of_dimensions = range(0, self._embeddings.shape[1], _DIMENSIONS)
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            for start in range(0, row_count, _ROWS):
                rows = slice(start, start + _ROWS)
                v_part = self._weights(v if row_count <= _ROWS else v[rows])
                w_part = None
                if w is not None:
                    w_part = self._weights(w if row_count <= _ROWS else w[rows])

                # Added up in the order of the dimensions, whatever the number of
                # threads.
                dot = functools.partial(self._dot_of_dimensions, v_part, w_part)
                for part in threads.map(dot, starts_of_dimensions):
                    products[rows] += part
        return products

    def _weights(self, weights: spmatrix) -> csc_matrix:
        """Divide weights by the norms of their images, instead of the embeddings."""
        # By columns, which are images: the sums of all rows stay in the cache while the
        # images pass by.
        by_image = weights.tocsc()
        divided = by_image.data / np.repeat(self._norms, np.diff(by_image.indptr))
        return csc_matrix(
            (divided, by_image.indices, by_image.indptr), shape=by_image.shape
        )

    def _dot_of_dimensions(
        self, v: csc_matrix, w: csc_matrix | None, first: int
    ) -> np.ndarray:
        """Return what some dimensions, from `first` on, add to the inner products."""
        block = np.ascontiguousarray(
            self._embeddings[:, first : first + _DIMENSIONS], dtype=np.float64
        )
        v_sums = v @ block
        w_sums = v_sums if w is None else w @ block
        return np.einsum("rd,rd->r", v_sums, w_sums)


def _sums_around_largest(
    scaled: Float64[csr_matrix, "images latents"],
    groups: np.ndarray,
    similarity: _Similarity,
) -> tuple[Float64[np.ndarray, " latents"], Float64[np.ndarray, " latents"]]:
    """Return numerator and denominator of MS apart from each latent's heaviest group."""
    by_group, latent = _part_by_group(scaled, groups)
    row_count = len(latent)
    weight = np.asarray(by_group.sum(axis=1)).ravel()

    # The heaviest row of each latent comes first.
    order = np.lexsort((-weight, latent))
    first_of_latent = np.unique(latent[order], return_index=True)[1]
    largest = order[first_of_latent]

    # 1 for all rows but these; summed by latent, they are `rest`.
    is_other = np.ones(row_count)
    is_other[largest] = 0
    sum_others_by_latent = csr_matrix(
        (is_other, (latent, np.arange(row_count))), shape=(scaled.shape[1], row_count)
    )
    rest = sum_others_by_latent @ by_group
    rest_weight = np.asarray(rest.sum(axis=1)).ravel()

    numerator = 2 * similarity.dot(by_group[largest], rest) + similarity.dot(rest)
    denominator = 2 * weight[largest] * rest_weight + rest_weight**2
    numerator_within = np.bincount(latent, weights=is_other * similarity.dot(by_group))
    denominator_within = np.bincount(latent, weights=is_other * weight**2)
    return numerator - numerator_within, denominator - denominator_within


def _chunks(embeddings: Float[np.ndarray, "images dim"]) -> Iterator[np.ndarray]:
    """Yield some rows at a time, in float64."""
    for start in range(0, len(embeddings), _CHUNK):
        yield embeddings[start : start + _CHUNK].astype(np.float64)


def _part_by_group(
    scaled: Float64[csr_matrix, "images latents"], groups: np.ndarray
) -> tuple[Float64[csr_matrix, "rows images"], Int[np.ndarray, " rows"]]:
    """Return a row for each latent and group where it fires, and each row's latent."""
    group_of_image = np.unique(np.asarray(groups), return_inverse=True)[1]
    group_count = group_of_image.max() + 1
    values = scaled.tocoo()
    pair_of_value = (
        values.col.astype(np.int64) * group_count + group_of_image[values.row]
    )
    pairs, row_of_value = np.unique(pair_of_value, return_inverse=True)
    by_group = csr_matrix(
        (values.data, (row_of_value, values.row)), shape=(len(pairs), scaled.shape[0])
    )
    return by_group, pairs // group_count
