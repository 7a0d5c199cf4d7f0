"""The design of draws: points of a Sobol sequence, and further ones around the best.

1. The same points over the options that every method has for every method, its own
   options at the geometric middle of their ranges. Each (dataset, backbone) has a
   scramble of its own.
2. Around two of a method's trials, those of highest R^2 on its front of MS, further
   values of its own options; a method without any has points in a box of a third of
   each common range.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sae.bank.sae import Sae
from sae.config.protocol_use import ProtocolUse
from sae.core.errors import Problem
from sae.protocols._fronts import score_trials
from sae.protocols._history import History, Rounds
from sae.protocols._own_options import at_k, own_option_problems
from sae.scoring import front
from sae.scoring.front import MS

# The dimensions of every Sobol sequence: its scramble hangs on their number.
SOBOL_DIMENSIONS = 8


def drawn_members(
    history: History,
    common_box: Mapping[str, Sequence[float]],
    make_member: Callable[[str, Mapping[str, float]], Sae],
) -> Rounds[dict[str, list[Sae]]]:
    """Train every tuned method at points that are drawn, then around its best trials.

    Args:
        history: Of the cell. Of the options `points`, `refined`, `values`, `ranges` and
            `design_seed` are read.
        common_box: {option that every method has: [lowest, highest]}, in the order of
            the sequence's dimensions.
        make_member: Makes the SAE of a method and a trial.

    Returns:
        {method: its trials}.
    """
    options = history.options
    ranges = {
        method: at_k(options.ranges.get(method, {}), history.plan.k)
        for method in history.plan.tuned
    }

    # Every method has the same scramble.
    common_points = _draw_points(history, common_box, options.points, "points")
    members_by_method = {}
    for method, box in ranges.items():
        middle = {name: math.sqrt(low * high) for name, (low, high) in box.items()}
        members_by_method[method] = [
            make_member(method, {**point, **middle}) for point in common_points
        ]
    yield _flatten(members_by_method)

    # Trials differ in the method's own options; if it has none, in the common ones
    # nearby.
    refined_by_method: dict[str, list[Sae]] = {}
    for method, own_box in ranges.items():
        refined_by_method[method] = []
        promising_trials = _promising_trials(history, members_by_method[method])
        for number, trial in enumerate(promising_trials):
            box = own_box or {
                name: _third_around(ends, trial[name])
                for name, ends in common_box.items()
            }
            # By name, since the order of config.yaml should decide nothing.
            box = dict(sorted(box.items()))
            points = _draw_points(history, box, options.values, f"{method} {number}")
            refined_by_method[method] += [
                make_member(method, {**trial, **point}) for point in points
            ]
    yield _flatten(refined_by_method)
    return {
        method: [*members_by_method[method], *refined_by_method[method]]
        for method in ranges
    }


def draw_problems(
    use: ProtocolUse, options: Any, common: Sequence[str]
) -> Iterator[Problem]:
    """Yield what is wrong with the ranges of methods' own options."""
    if options.own_values:
        yield Problem(
            "own_values",
            "it is for points that are listed; list them, or write ranges",
        )
    yield from own_option_problems(use, "ranges", options.ranges, "range", common)


def _draw_points(
    history: History, box: Mapping[str, Sequence[float]], count: int, purpose: str
) -> list[dict[str, float]]:
    """Draw points in a box from a Sobol sequence, evenly in the logarithm."""
    # Each purpose has a scramble of its own; cells that differ in k alone have the
    # same.
    plan = history.plan
    text = f"{history.options.design_seed} {plan.dataset} {plan.backbone} {purpose}"
    digest = hashlib.sha256(text.encode()).digest()
    unit_points = sobol(count, int.from_bytes(digest[:4], "big"))
    # A box has fewer options than the sequence has dimensions: the first ones are read.
    return [
        {
            name: _value_at(ends, share)
            for (name, ends), share in zip(box.items(), unit_point, strict=False)
        }
        for unit_point in unit_points
    ]


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


def _promising_trials(history: History, members: list[Sae]) -> list[dict[str, Any]]:
    """Return the options of the trials to refine, as many as the rule says."""
    # First come those on the front of MS, then the other feasible ones, both by falling
    # R^2. Where these are too few, the trials whose latents fire most are returned
    # instead, feasible or not.
    count = history.options.refined
    trials = score_trials(history, members)
    vertices = front.vertices(trials, MS)
    feasible_trials = trials[trials["feasible"] & trials[MS].notna()]
    below_front = feasible_trials.drop(index=vertices.index)
    below_front = below_front.sort_values("r2", ascending=False, kind="stable")
    in_order = [*vertices["options"], *below_front["options"]]
    if len(in_order) < count:
        by_firing = trials.sort_values("firing", ascending=False, kind="stable")
        in_order = [*by_firing["options"]]
    return in_order[:count]


def _third_around(ends: Sequence[float], middle: float) -> list[float]:
    """Return the third of a range around a value, in the logarithm, cut at its ends."""
    # The factor that spans half of a third, as the whole range has six such halves.
    half_third = (ends[1] / ends[0]) ** (1 / 6)
    return [max(ends[0], middle / half_third), min(ends[1], middle * half_third)]


def _flatten(members_by_method: Mapping[str, list[Sae]]) -> list[Sae]:
    return [member for members in members_by_method.values() for member in members]
