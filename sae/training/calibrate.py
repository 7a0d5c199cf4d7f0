"""Fix thresholds so that the mean number of active latents on given rows is k."""

import functools
import logging
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.models.coder import Coder
from sae.models.inputs import Inputs

VERSION = 1
log = logging.getLogger(__name__)

# A share of k. Where the mean number of active latents is farther off, the log says so.
TOLERANCE = 0.005

# The bits of a positive float32 are a whole number below 2^31. They are counted in two
# halves of 16 bits, so that a histogram of each has this many bins.
_HALF_BITS = 16
_BINS = 1 << _HALF_BITS


def calibrate(
    coder: Coder,
    x: Float[Tensor, "images dims"] | Inputs,
    theta: Float[Tensor, " latents"],
    k: float,
) -> Float[Tensor, " latents"]:
    """Scale thresholds so that k latents a sample are above them, on average.

    All thresholds are multiplied by one factor. A threshold of 0 would stay 0, so it is
    first raised to the smallest that is above 0; if none is, all become 1.

    A latent is active on a sample if the factor is below the ratio of its activation to
    its threshold. So the factor is a quantile of all ratios. It is found exactly in two
    passes over the rows. Positive floats are ordered as their bits are. So the first
    pass counts the ratios by the upper half of their bits, and the second counts those
    of the one bin that matters by the lower half. The factor lies amid the gap between
    the ratios that are kept and those that are not, so that rounding decides nothing
    where there is room between them. Equal ratios at the factor are kept or dropped
    together.

    Args:
        coder: the SAE, whose activations are compared with the thresholds.
        x: prepared inputs.
        theta: the thresholds before, at least 0.
        k: the latents that shall be active on a sample, on average.

    Returns:
        float32; zeros where fewer than k latents a sample have an activation above 0.
    """
    theta = _raise_zeros(theta)
    # How many ratios shall be above the factor, of all samples together.
    target_count = round(k * len(x))

    upper_counts = _histogram(
        bits >> _HALF_BITS for bits in _bits_of_ratios(coder, x, theta)
    )
    positive_count = int(upper_counts.sum())
    if positive_count < target_count:
        log.warning(
            "%.4g latents a sample are active, fewer than k = %g",
            positive_count / len(x),
            k,
        )
        return torch.zeros_like(theta, dtype=torch.float32)
    upper_bin, count_above = _find_bin(upper_counts, target_count)

    # Within the upper bin a lower bin is one value, and its count that of equal ratios.
    lower_counts = _histogram(
        bits[bits >> _HALF_BITS == upper_bin] & (_BINS - 1)
        for bits in _bits_of_ratios(coder, x, theta)
    )
    lower_bin, count_above_in_bin = _find_bin(lower_counts, target_count - count_above)

    # The cut is the ratio at rank `target_count`, from the largest. All ratios that are
    # equal to it are kept, or all dropped: whichever is nearer to that count.
    count_if_dropped = count_above + count_above_in_bin
    count_if_kept = count_if_dropped + int(lower_counts[lower_bin])
    keeps_cut = count_if_kept - target_count <= target_count - count_if_dropped
    kept_count = count_if_kept if keeps_cut else count_if_dropped
    if abs(kept_count / len(x) - k) > TOLERANCE * k:
        log.warning(
            "equal activations: %.4g latents a sample are above the threshold, k = %g",
            kept_count / len(x),
            k,
        )

    # The bits of all ratios in the upper bin, ascending. Before them stands the most
    # that a ratio of a lower bin can be (at least 0), after them the least of a higher
    # bin.
    first_bits = upper_bin << _HALF_BITS
    ratio_bits = [
        max(first_bits - 1, 0),
        *(first_bits + lower_counts.nonzero().squeeze(1)).tolist(),
        first_bits + _BINS,
    ]
    cut_place = ratio_bits.index(first_bits + lower_bin)
    least_kept_place = cut_place if keeps_cut else cut_place + 1
    factor = _between(ratio_bits[least_kept_place - 1], ratio_bits[least_kept_place])
    return theta.float() * factor.to(theta.device)


def _raise_zeros(theta: Float[Tensor, " latents"]) -> Float[Tensor, " latents"]:
    """Raise thresholds of 0 to the smallest above 0; to 1 where none is above 0."""
    positive = theta[theta > 0]
    if len(positive) == 0:
        return torch.ones_like(theta)
    return theta.clamp_min(positive.min())


def _bits_of_ratios(
    coder: Coder,
    x: Float[Tensor, "images dims"] | Inputs,
    theta: Float[Tensor, " latents"],
) -> Iterator[Int[Tensor, " ratios"]]:
    """Yield the positive a / theta of each chunk of rows, as the bits of float32."""
    divisor = theta.float().clamp_min(torch.finfo(torch.float32).tiny)
    for a in coder.activations_by_chunk(x):
        ratios = a.float() / divisor
        yield ratios[ratios > 0].view(torch.int32)


def _histogram(chunks: Iterable[Int[Tensor, " numbers"]]) -> Int[Tensor, " bins"]:
    counts_by_chunk = (torch.bincount(chunk, minlength=_BINS) for chunk in chunks)
    return functools.reduce(torch.add, counts_by_chunk)


def _find_bin(counts: Int[Tensor, " bins"], rank: int) -> tuple[int, int]:
    """Find the bin of a rank, 1 for the largest value, and the count above the bin."""
    at_or_above = counts.flip(0).cumsum(0).flip(0)
    number = int((at_or_above >= rank).sum()) - 1
    return number, int(at_or_above[number] - counts[number])


def _between(below_bits: int, above_bits: int) -> Float[Tensor, ""]:
    """Return the middle of two float32, given by their bits, as a float32."""
    # The middle is below the larger number, since a latent at a threshold is not
    # active: where no float32 lies between the two, or the larger is infinite, the
    # smaller number is returned.
    bits = torch.tensor([below_bits, above_bits], dtype=torch.int32)
    # In double precision: a sum of two float32 may overflow.
    below, above = bits.view(torch.float32).double()
    middle = ((below + above) / 2).float()
    return middle if middle < above else below.float()
