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

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from sae.models.codes import Codes
from sae.models.inputs import unit_rows
from sae.scoring.subject import Subject

_CHUNK = 1 << 24
# The share of (sum_n a~_nj)^2 below which a denominator is computed apart from the largest activation. With it, a score
# is off by less than 1e-12, whatever the activations (seen up to 100,000 firing images; below it by less than 1e-15).
_CLOSE = 1e-2


@dataclass(frozen=True)
class Summary:
    """MS over the latents of one SAE.

    Attributes:
        mean, median: undefined scores count as 0 (dead latents included).
        mean_alive, median_alive: over the latents with a score (two or more firing images); NaN if there is none.
    """

    mean: float
    median: float
    mean_alive: float
    median_alive: float


def of_subject(subject: Subject, split: str, judge: str | None = None) -> np.ndarray:
    """(m,) MS by the SAE's own embeddings, or by those of the backbone `judge` (of the test split); computed once."""
    embeddings = subject.embeddings(split) if judge is None else subject.others[judge]
    return subject.once(("ms", split, judge), lambda: scores(scaled_of(subject, split), embeddings))


def scaled_of(subject: Subject, split: str) -> scipy.sparse.csc_matrix:
    """What :func:`scale_activations` returns for the codes of a split; computed once."""
    return subject.once(("scaled", split), lambda: scale_activations(subject.codes(split)))


def scale_activations(codes: Codes) -> scipy.sparse.csc_matrix:
    """Min-max scale each latent over the images: a csc matrix (N, m), float64.

    A latent that is silent somewhere has minimum 0 and is divided by its maximum; one that fires on every image has
    its minimum subtracted. A latent constant over all images becomes empty.
    """
    matrix = codes.matrix().tocsc()
    n = matrix.shape[0]
    counts = np.diff(matrix.indptr)
    data = matrix.data
    starts = matrix.indptr[:-1][counts > 0]
    high, low = np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    if len(starts):
        high[counts > 0] = np.maximum.reduceat(data, starts)
        low[counts > 0] = np.minimum.reduceat(data, starts)
    low[counts < n] = 0
    span = np.where(high > low, high - low, 1)
    scaled = (data - np.repeat(low, counts)) / np.repeat(span, counts)
    scaled = scipy.sparse.csc_matrix((scaled, matrix.indices, matrix.indptr), shape=matrix.shape)
    scaled.eliminate_zeros()
    return scaled


def scores(scaled: scipy.sparse.csc_matrix, embeddings: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """MS of every latent.

    Args:
        scaled: what :func:`scale_activations` returned, (N, m).
        embeddings: (N, d) of the similarity encoder; normalised here, in float64 (a float16 row is not of unit norm).
        groups: N group names; when given, pairs inside one group do not count.

    Returns:
        (m,) float64. NaN where undefined: fewer than two images (with `groups`: groups) with a scaled activation > 0.
        Decided by count: a sum of rounding errors is no score.
    """
    e = unit_rows(embeddings)
    square = np.asarray(scaled.power(2).sum(axis=0)).ravel()
    together = _dot_of_sums(scaled.T.tocsr(), e)
    total = np.asarray(scaled.sum(axis=0)).ravel() ** 2
    partners = np.diff(scaled.indptr)
    if groups is None:
        numerator, denominator = together - square, total - square
    else:
        # Subtract each group's pairs, n = n' included, so `square` is not subtracted a second time.
        by_group, latent = _per_group(scaled, groups)
        within = _dot_of_sums(by_group, e)
        within_total = np.asarray(by_group.sum(axis=1)).ravel() ** 2
        m = scaled.shape[1]
        numerator = together - np.bincount(latent, weights=within, minlength=m)
        denominator = total - np.bincount(latent, weights=within_total, minlength=m)
        partners = np.bincount(latent, minlength=m)
    out = np.full(scaled.shape[1], np.nan)
    defined = partners >= 2
    close = defined & (denominator < _CLOSE * total)
    if close.any():
        each = np.arange(len(e)) if groups is None else groups
        numerator[close], denominator[close] = _sums_around_largest(scaled[:, close], e, each)
    out[defined] = numerator[defined] / denominator[defined]
    return out


def floor(embeddings: np.ndarray) -> float:
    """The mean cosine similarity over all pairs of images (N, d): what a latent with no preference scores."""
    e = unit_rows(embeddings)
    n = len(e)
    return float(((e.sum(axis=0) ** 2).sum() - (e**2).sum()) / (n * n - n))


def summary(ms: np.ndarray) -> Summary:
    """Means and medians in both conventions for latents that never score; `ms` (m,) with NaN where undefined."""
    alive = ms[~np.isnan(ms)]
    filled = np.nan_to_num(ms)
    if not len(alive):
        return Summary(0.0, 0.0, float("nan"), float("nan"))
    return Summary(*(float(v) for v in (filled.mean(), np.median(filled), alive.mean(), np.median(alive))))


def _sums_around_largest(
    scaled: scipy.sparse.csc_matrix, e: np.ndarray, groups: np.ndarray
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
    rest = scipy.sparse.csr_matrix((other, (latent, np.arange(len(latent)))), shape=shape) @ by_group
    rest_weight = np.asarray(rest.sum(axis=1)).ravel()
    numerator = 2 * _dot_of_sums(by_group[largest], e, rest) + _dot_of_sums(rest, e)
    denominator = 2 * weight[largest] * rest_weight + rest_weight**2
    within = np.bincount(latent, weights=other * _dot_of_sums(by_group, e))
    return numerator - within, denominator - np.bincount(latent, weights=other * weight**2)


def _dot_of_sums(
    weights: scipy.sparse.csr_matrix, e: np.ndarray, others: scipy.sparse.csr_matrix | None = None
) -> np.ndarray:
    """<sum_n v_rn e_n, sum_n w_rn e_n> for each row r of csr matrices v and w (R, N), which may be one.

    In chunks of rows: never R x d at once.
    """
    step = max(1, _CHUNK // e.shape[1])
    out = np.zeros(weights.shape[0])
    for start in range(0, len(out), step):
        sums = weights[start : start + step] @ e
        sums *= sums if others is None else others[start : start + step] @ e
        out[start : start + step] = sums.sum(axis=1)
    return out


def _per_group(scaled: scipy.sparse.csc_matrix, groups: np.ndarray) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """`scaled`.T with its rows parted by group: csr (R, N), one row per (latent, group), and each row's latent."""
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    coo = scaled.tocoo()
    pair = coo.col.astype(np.int64) * (names.max() + 1) + names[coo.row]
    pairs, row = np.unique(pair, return_inverse=True)
    shape = (len(pairs), scaled.shape[0])
    return scipy.sparse.csr_matrix((coo.data, (row, coo.row)), shape=shape), pairs // (names.max() + 1)
