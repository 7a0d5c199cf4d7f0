"""The Monosemanticity Score of Pach et al. 2025 (arXiv:2504.02821), exact and in one pass over sparse codes.

With a~_nj latent j's activation min-max scaled over the images and e_n the unit-norm embedding of image n,

    MS_j = sum_{n<n'} a~_nj a~_n'j <e_n, e_n'>  /  sum_{n<n'} a~_nj a~_n'j
         = (|| sum_n a~_nj e_n ||^2 - sum_n a~_nj^2) / ((sum_n a~_nj)^2 - sum_n a~_nj^2)

so the cost is the number of non-zero codes times d, not the number of pairs of images.

Where one image outweighs all others together, both terms of the denominator are nearly the square of its activation,
and their difference loses the digits that count. With n = 1 for that image, and R and T for the sums of a~ and of a~ e
over all others, the same numerator and denominator are

    2 a~_1j <e_1, T> + || T ||^2 - sum_{n>1} a~_nj^2    and    2 a~_1j R + R^2 - sum_{n>1} a~_nj^2

of which no digit is lost: for R <= 2 a~_1j the first term of the denominator is no less than R^2; for larger R the sum
of squares, at most a~_1j R, is no more than half of it.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

from sae.models.codes import Codes
from sae.models.inputs import unit_rows
from sae.scoring.subject import Subject

_ROWS, _DIMENSIONS = 1 << 16, 64  # of the sums that a thread holds at once
_CHUNK = 1024  # images that are looked at at once
# The share of (sum_n a~_nj)^2 below which a denominator is computed apart from the largest activation. A score is then
# off by less than 1e-12 (seen with up to 100,000 firing images).
_CLOSE = 1e-2


class Summary(NamedTuple):
    """MS over the latents of one SAE.

    Attributes:
        mean, median: undefined scores count as 0 (dead latents included).
        mean_alive, median_alive: over the latents with a score (two or more firing images); NaN if there is none.
    """

    mean: float
    median: float
    mean_alive: float
    median_alive: float


def of_subject(
    subject: Subject, split: str, judge: str | None = None, across: bool = False
) -> np.ndarray:
    """(m,) MS of an SAE on a split; computed once.

    Args:
        judge: by the embeddings of this backbone instead of the SAE's own.
        across: without pairs of images of one group.
    """
    embeddings = (
        subject.embeddings(split) if judge is None else subject.others[judge][split]
    )
    scaled = subject.once(
        ("scaled", split), lambda: scale_activations(subject.codes(split))
    )
    groups = subject.groups(split) if across else None
    return subject.once(
        ("ms", split, judge, across), lambda: scores(scaled, embeddings, groups)
    )


def scale_activations(codes: Codes) -> scipy.sparse.csr_matrix:
    """Min-max scale each latent over the images: a csr matrix (N, m), float64.

    A latent that is silent somewhere has minimum 0 and is divided by its maximum; one that fires on every image has
    its minimum subtracted. A latent constant over all images becomes empty.
    """
    high, low = (
        np.zeros(codes.m, dtype=np.float32),
        np.full(codes.m, np.inf, dtype=np.float32),
    )
    np.maximum.at(high, codes.indices, codes.values)
    np.minimum.at(low, codes.indices, codes.values)
    low[codes.firing_counts() < len(codes)] = 0
    # In float64, as the values: exact, but for the rounding of one difference and one division.
    span, low = high.astype(np.float64) - low, low.astype(np.float64)
    span[span <= 0] = 1
    data = (codes.values - low[codes.indices]) / span[codes.indices]
    # Copies: scipy would drop zeros in place, under the values.
    scaled = scipy.sparse.csr_matrix(
        (data, codes.indices.copy(), codes.offsets.copy()), shape=(len(codes), codes.m)
    )
    scaled.eliminate_zeros()
    return scaled


def scores(
    scaled: scipy.sparse.csr_matrix,
    embeddings: np.ndarray,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """MS of every latent.

    Args:
        scaled: what :func:`scale_activations` returned, (N, m).
        embeddings: (N, d) of the similarity encoder; normalised here, in float64 (a float16 row is not of unit norm).
        groups: N group names; when given, pairs inside one group do not count.

    Returns:
        (m,) float64. NaN where undefined: fewer than two images (with `groups`: groups) with a scaled activation > 0.
        Decided by count: a sum of rounding errors is no score.
    """
    m, latents, dot = (
        scaled.shape[1],
        scaled.indices,
        functools.partial(_dot_of_sums, embeddings, _norms(embeddings)),
    )
    square = np.bincount(latents, weights=scaled.data**2, minlength=m)
    together = dot(scaled.T)
    total = np.bincount(latents, weights=scaled.data, minlength=m) ** 2
    partners = np.bincount(latents, minlength=m)
    if groups is None:
        numerator, denominator = together - square, total - square
    else:
        # Subtract each group's pairs, n = n' included, so `square` is not subtracted a second time.
        by_group, latent = _per_group(scaled, groups)
        within = dot(by_group)
        within_total = np.asarray(by_group.sum(axis=1)).ravel() ** 2
        numerator = together - np.bincount(latent, weights=within, minlength=m)
        denominator = total - np.bincount(latent, weights=within_total, minlength=m)
        partners = np.bincount(latent, minlength=m)
    out = np.full(m, np.nan)
    defined = partners >= 2
    close = defined & (denominator < _CLOSE * total)
    if close.any():
        each = np.arange(scaled.shape[0]) if groups is None else groups
        numerator[close], denominator[close] = _sums_around_largest(
            scaled[:, close], each, dot
        )
    out[defined] = numerator[defined] / denominator[defined]
    return out


def floor(embeddings: np.ndarray) -> float:
    """The mean cosine similarity over all pairs of images (N, d): what a latent with no preference scores."""
    n, total, squares = len(embeddings), np.zeros(embeddings.shape[1]), 0.0
    for rows in _chunks(embeddings):
        e = unit_rows(rows)
        total += e.sum(axis=0)
        squares += (e**2).sum()
    return float(((total**2).sum() - squares) / (n * n - n))


def summary(ms: np.ndarray) -> Summary:
    """Means and medians in both conventions for latents that never score; `ms` (m,) with NaN where undefined."""
    alive = ms[~np.isnan(ms)]
    filled = np.nan_to_num(ms)
    if not len(alive):
        return Summary(0.0, 0.0, float("nan"), float("nan"))
    return Summary(
        *(
            float(v)
            for v in (filled.mean(), np.median(filled), alive.mean(), np.median(alive))
        )
    )


def _sums_around_largest(
    scaled: scipy.sparse.csr_matrix, groups: np.ndarray, dot: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator (m,) of latents that fire in two groups or more, apart from the heaviest group."""
    by_group, latent = _per_group(scaled, groups)
    weight = np.asarray(by_group.sum(axis=1)).ravel()
    # The heaviest row of each latent comes first.
    order = np.lexsort((-weight, latent))
    largest = order[np.unique(latent[order], return_index=True)[1]]
    other = np.ones(len(latent))
    other[largest] = 0
    shape = (scaled.shape[1], len(latent))
    rest = (
        scipy.sparse.csr_matrix((other, (latent, np.arange(len(latent)))), shape=shape)
        @ by_group
    )
    rest_weight = np.asarray(rest.sum(axis=1)).ravel()
    numerator = 2 * dot(by_group[largest], rest) + dot(rest)
    denominator = 2 * weight[largest] * rest_weight + rest_weight**2
    within = np.bincount(latent, weights=other * dot(by_group))
    return numerator - within, denominator - np.bincount(
        latent, weights=other * weight**2
    )


def _dot_of_sums(
    embeddings: np.ndarray,
    norm: np.ndarray,
    v: scipy.sparse.spmatrix,
    w: scipy.sparse.spmatrix | None = None,
) -> np.ndarray:
    """<sum_n v_rn e_n, sum_n w_rn e_n> for each row r of sparse matrices v and w (R, N), which may be one: (R,).

    e_n is row n of `embeddings` divided by `norm`; what is divided are the weights. Some rows and dimensions at a time:
    never N x d in float64, nor R x d.
    """

    def divided(matrix: scipy.sparse.spmatrix, rows: slice) -> scipy.sparse.csc_matrix:
        # By columns, which are images: the sums of all rows stay in the cache while the images pass by.
        part = (matrix if len(out) <= _ROWS else matrix[rows]).tocsc()
        by_norm = part.data / np.repeat(norm, np.diff(part.indptr))
        return scipy.sparse.csc_matrix(
            (by_norm, part.indices, part.indptr), shape=part.shape
        )

    def dot(
        v: scipy.sparse.csc_matrix, w: scipy.sparse.csc_matrix | None, first: int
    ) -> np.ndarray:
        block = np.ascontiguousarray(
            embeddings[:, first : first + _DIMENSIONS], dtype=np.float64
        )
        sums = v @ block
        return np.einsum("rd,rd->r", sums, sums if w is None else w @ block)

    out = np.zeros(v.shape[0])
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for start in range(0, len(out), _ROWS):
            rows = slice(start, start + _ROWS)
            of_rows = functools.partial(
                dot, divided(v, rows), None if w is None else divided(w, rows)
            )
            # Added up in the order of the dimensions, whatever the number of threads.
            for part in threads.map(
                of_rows, range(0, embeddings.shape[1], _DIMENSIONS)
            ):
                out[rows] += part
    return out


def _norms(embeddings: np.ndarray) -> np.ndarray:
    """(N,) the l2 norm of each row, in float64; 1 for a row of zeros, which so stays zero."""
    norm = np.concatenate(
        [np.sqrt(np.einsum("nd,nd->n", rows, rows)) for rows in _chunks(embeddings)]
    )
    return np.where(norm > 0, norm, 1)


def _chunks(embeddings: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of (N, d), some at a time, in float64."""
    return (
        embeddings[n : n + _CHUNK].astype(np.float64)
        for n in range(0, len(embeddings), _CHUNK)
    )


def _per_group(
    scaled: scipy.sparse.csr_matrix, groups: np.ndarray
) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """`scaled`.T with its rows parted by group: csr (R, N), one row per (latent, group), and each row's latent."""
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    coo = scaled.tocoo()
    pair = coo.col.astype(np.int64) * (names.max() + 1) + names[coo.row]
    pairs, row = np.unique(pair, return_inverse=True)
    shape = (len(pairs), scaled.shape[0])
    return scipy.sparse.csr_matrix((coo.data, (row, coo.row)), shape=shape), pairs // (
        names.max() + 1
    )
