"""Fix thresholds so that the mean number of active latents on given rows is k."""

import functools
import logging
from collections.abc import Iterable, Iterator

import torch

from sae.models.coder import Coder
from sae.models.inputs import Inputs

VERSION = 1
log = logging.getLogger(__name__)

# Of k; farther off, it is said.
TOLERANCE = 0.005


def calibrate(
    coder: Coder, x: torch.Tensor | Inputs, theta: torch.Tensor, k: float
) -> torch.Tensor:
    """`theta` (m,), >= 0, times the factor with which k latents a sample have a > theta, on average.

    No factor moves a threshold of 0: it counts as the smallest that is above 0, or all as 1 where none is.

    The factor is a quantile of a / theta, found exactly in two passes over the rows: positive floats are ordered as
    their bits are, so the first pass counts them by their upper 16 bits, the second, within the one bin that matters,
    by the lower 16. It lies amid the gap between what is kept and what is not, so that rounding decides nothing. Equal
    activations at the threshold are kept or dropped together. Where fewer than k latents a sample are active at all,
    the factor is 0.

    Args:
        x: (N, d) prepared inputs.

    Returns:
        (m,) float32.
    """
    positive = theta[theta > 0]
    theta = theta.clamp_min(positive.min()) if len(positive) else torch.ones_like(theta)
    wanted = round(k * len(x))
    coarse = _histogram(bits >> 16 for bits in _ratios(coder, x, theta))
    if int(coarse.sum()) < wanted:
        log.warning(
            "%.4g latents a sample are active, fewer than k = %g",
            int(coarse.sum()) / len(x),
            k,
        )
        return torch.zeros_like(theta, dtype=torch.float32)
    upper, above = _bin_of(coarse, wanted)
    fine = _histogram(
        bits[bits >> 16 == upper] & 0xFFFF for bits in _ratios(coder, x, theta)
    )
    lower, above_value = _bin_of(fine, wanted - above)
    # `value` is the ratio at rank `wanted`. Keep it, unless equal ratios make that the worse of the two ways.
    above, with_value = above + above_value, above + above_value + int(fine[lower])
    kept = with_value if with_value - wanted <= wanted - above else above
    first = upper << 16
    ratios = [
        max(first - 1, 0),
        *(first + fine.nonzero().squeeze(1)).tolist(),
        first + (1 << 16),
    ]
    place = ratios.index(first + lower) + (kept != with_value)
    if abs(kept / len(x) - k) > TOLERANCE * k:
        log.warning(
            "equal activations: %.4g latents a sample are above the threshold, k = %g",
            kept / len(x),
            k,
        )
    below, least = (
        torch.tensor(ratios[place - 1 : place + 1], dtype=torch.int32)
        .view(torch.float32)
        .double()
    )
    middle = ((below + least) / 2).float()
    return theta.float() * (middle if middle < least else below.float()).to(
        theta.device
    )


def _ratios(
    coder: Coder, x: torch.Tensor | Inputs, theta: torch.Tensor
) -> Iterator[torch.Tensor]:
    """The positive a / theta of each chunk of rows, as the bits of float32."""
    divisor = theta.float().clamp_min(torch.finfo(torch.float32).tiny)
    for a in coder.activations_by_chunk(x):
        ratio = a.float() / divisor
        yield ratio[ratio > 0].view(torch.int32)


def _histogram(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(
        torch.add, (torch.bincount(part, minlength=1 << 16) for part in parts)
    )


def _bin_of(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    """The bin in which the value of a rank lies, from the largest, 1; and how many lie in the bins above it."""
    at_or_above = counts.flip(0).cumsum(0).flip(0)
    found = int((at_or_above >= rank).sum()) - 1
    return found, int(at_or_above[found] - counts[found])
