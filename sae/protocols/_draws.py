"""The design of draws: points of a Sobol sequence in the box of a method's options."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sae.bank.plan import Plan
from sae.config.protocol_use import ProtocolUse
from sae.core.errors import Problem
from sae.protocols._own_options import at_k, own_option_problems, rounded

# The dimensions of every Sobol sequence: its scramble hangs on their number.
SOBOL_DIMENSIONS = 8


def drawn_trials(
    plan: Plan, options: Any, common_box: Mapping[str, Sequence[float]]
) -> dict[str, list[dict[str, float]]]:
    """Draw trials of every tuned method, evenly in the logarithm.

    In the options that every method has, the points are the same for all. Each
    (dataset, backbone) has a scramble of its own.

    Args:
        plan: The cell.
        options: Of the protocol; `points`, `ranges` and `design_seed` are read.
        common_box: {option that every method has: [lowest, highest]}, in the order of
            the sequence's dimensions.

    Returns:
        {method: its trials}, values of three significant digits.
    """
    text = f"{options.design_seed} {plan.dataset} {plan.backbone} points"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    unit_points = sobol(options.points, seed)
    trials = {}
    for method in plan.tuned:
        own_box = at_k(options.ranges.get(method, {}), plan.k)
        # By name, since the order of config.yaml should decide nothing.
        box = {**common_box, **dict(sorted(own_box.items()))}
        # A box has fewer options than the sequence has dimensions: the first are read.
        trials[method] = [
            {
                name: rounded(_value_at(ends, share))
                for (name, ends), share in zip(box.items(), point, strict=False)
            }
            for point in unit_points
        ]
    return trials


def draw_problems(
    use: ProtocolUse, options: Any, common: Sequence[str]
) -> Iterator[Problem]:
    """Yield what is wrong with the ranges of methods' own options."""
    yield from own_option_problems(use, "ranges", options.ranges, "range", common)
    for method, own_ranges in options.ranges.items():
        if len(common) + len(own_ranges) > SOBOL_DIMENSIONS:
            yield Problem(
                f"ranges.{method}",
                f"more than {SOBOL_DIMENSIONS - len(common)} options; leave some out",
            )


@functools.cache
def sobol(count: int, seed: int) -> list[list[float]]:
    """Return the first points of a scrambled Sobol sequence in the unit cube.

    Args:
        count: How many points.
        seed: Of the scramble.

    Returns:
        (count, SOBOL_DIMENSIONS) coordinates.
    """
    from scipy.stats import qmc  # Takes half a second.

    sequence = qmc.Sobol(SOBOL_DIMENSIONS, scramble=True, rng=seed)
    # It warns unless the number of points that are drawn is a power of 2.
    exponent = max(0, count - 1).bit_length()
    return sequence.random_base2(exponent)[:count].tolist()


def _value_at(ends: Sequence[float], share: float) -> float:
    """Return the value at a share of a range, from 0 to 1, in the logarithm."""
    low, high = map(math.log, ends)
    return math.exp(low + share * (high - low))
