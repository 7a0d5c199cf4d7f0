"""Say which trials of a cell stand on a front, and where two fronts are compared.

Protocol `fair` trains by this rule, and `sae.comparison` reads by it. docs/protocol.md
has it in words, with an example by hand.

The *front* of a method is the best score that its trials reach at a reconstruction R^2:
the upper concave hull of the points (R^2, score), with free disposal. Left of the
vertex of highest score it is flat, since worse reconstruction can be had for nothing.
Between two vertices a point is a mixture of the two, as in the ROC convex hull (Provost
and Fawcett 2001).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float

DETECTION = "detection_auc"
MS = "ms"
# The scores that have outcomes, in the order in which they are tested.
ENDPOINTS = (DETECTION, MS)


class Limits(Protocol):
    """Bounds that a trial must keep to: of protocol `fair`, or of a comparison."""

    @property
    def l0(self) -> float:
        """The highest L0 on validation, as a multiple of k."""

    @property
    def firing(self) -> float:
        """The smallest share of the latents that fires on training images."""


class Window(NamedTuple):
    """The values of R^2 at which fronts are read: those from `low` to `high`, bounded.

    Attributes:
        low: the baseline's best R^2 minus the width.
        high: the baseline's best R^2, R*.
        floor: the R^2 left of which no front is read: that of the baseline's vertex of
            highest score, left of which the baseline is flat.
        reach: the R^2 right of which no front is read: the best of the method.
    """

    low: float
    high: float
    floor: float = -math.inf
    reach: float = math.inf


def feasible(trials: pd.DataFrame, limits: Limits) -> pd.Series:
    """Say which trials may stand on a front.

    Args:
        trials: with columns `status`, `r2` and `l0` on validation, `firing` (the share
            of latents that fires on training images), and `k`. A missing value is not
            feasible.
        limits: the bounds of L0 and of firing.

    Returns:
        A boolean for each row.
    """
    ended_well = (trials["status"] == "ok") & trials["r2"].notna()
    within_budget = trials["l0"] <= limits.l0 * trials["k"]
    fires_enough = trials["firing"] >= limits.firing
    return ended_well & within_budget & fires_enough


def reach(trials: pd.DataFrame) -> float:
    """Return the reach of a method: the best R^2 of its feasible trials.

    That of a baseline is R*, `best_r2` wherever it has a name.

    Args:
        trials: with columns `r2` and `feasible`.

    Returns:
        NaN if no trial is feasible.
    """
    return float(trials.loc[trials["feasible"], "r2"].max())


def vertices(trials: pd.DataFrame, score: str, better: int = 1) -> pd.DataFrame:
    """Return the trials that are vertices of a method's front, by falling R^2.

    Args:
        trials: the method's in one cell, with columns `r2`, `feasible` and the score.
        score: the column whose front it is. A trial without the score is on no front.
        better: +1 if a higher score is better, -1 if a lower one is.
    """
    rows = trials[trials["feasible"] & trials[score].notna()]
    heights = better * rows[score].to_numpy(float)
    return rows.iloc[hull(rows["r2"].to_numpy(float), heights)]


def window(baseline: pd.DataFrame, score: str, width: float) -> Window | None:
    """Return where methods are read beside a baseline for one score.

    Args:
        baseline: Its trials in one cell, as :func:`vertices` takes them.
        score: The column whose front is read; a higher score is better.
        width: What R^2 the window spans below R*.

    Returns:
        A window without a reach; None if the baseline has no front.
    """
    front = vertices(baseline, score)
    if front.empty:
        return None
    best_r2 = reach(baseline)
    return Window(best_r2 - width, best_r2, floor=float(front["r2"].iloc[-1]))


def hull(
    r2: Float[np.ndarray, " points"], score: Float[np.ndarray, " points"]
) -> list[int]:
    """Return the vertices of the front, by falling R^2.

    Of points with equal R^2 the one of the highest score counts, of equal ones the
    first.

    Args:
        r2: finite.
        score: finite, where more is better.

    Returns:
        Indices into `r2` and `score`.
    """
    # The last key counts most: R^2, then the score, then the place.
    order = np.lexsort((np.arange(len(r2)), -np.asarray(score), -np.asarray(r2)))
    vertex_places: list[int] = []
    for newcomer in map(int, order):
        # Free disposal: what reconstructs no better and scores no higher is no vertex.
        # Scores of the vertices rise, so that the last one is the highest so far.
        if vertex_places and not score[newcomer] > score[vertex_places[-1]]:
            continue
        # The last vertex goes if it does not rise above the line from the vertex before
        # it to the newcomer.
        while len(vertex_places) > 1 and _lies_on_or_below(
            vertex_places[-2], vertex_places[-1], newcomer, r2, score
        ):
            vertex_places.pop()
        vertex_places.append(newcomer)
    return vertex_places


def _lies_on_or_below(
    before: int,
    point: int,
    after: int,
    r2: Float[np.ndarray, " points"],
    score: Float[np.ndarray, " points"],
) -> bool:
    """Say whether a point lies on or below the line between its neighbours."""
    # The slopes are compared without a division; both runs are above 0.
    rise = score[after] - score[before]
    run = r2[before] - r2[after]
    rise_to_point = score[point] - score[before]
    run_to_point = r2[before] - r2[point]
    return bool(rise_to_point * run <= rise * run_to_point)


def weights(
    r2: Float[np.ndarray, " vertices"], window: Window
) -> Float[np.ndarray, " vertices"]:
    """Return what each vertex weighs in the mean of a front over a window.

    At r from `low` to `high` the front is read at max(floor, min(r, reach)); where the
    method does not reach the floor it is read at the reach alone. To the right of its
    first vertex a front stands at that vertex, to the left of its last one at that one.

    Args:
        r2: of the vertices, falling.
        window: where the front is read.

    Returns:
        Weights of sum 1.
    """
    low, high, floor, reach = window
    start = max(low, min(floor, high))
    end = max(start, min(high, reach))
    total = _integral(r2, start, end)
    # To the left of `start` the front is read at the floor, to the right of `end` at
    # the reach.
    if start > low:
        total += (start - low) * at(r2, min(floor, reach))
    if end < high:
        total += (high - end) * at(r2, min(end, reach))
    return total / (high - low)


def at(
    r2: Float[np.ndarray, " vertices"], point: float
) -> Float[np.ndarray, " vertices"]:
    """Return what each vertex weighs in the front at one R^2; the sum is 1."""
    identity = np.eye(len(r2))
    return np.array([np.interp(point, r2[::-1], row[::-1]) for row in identity])


def _integral(
    r2: Float[np.ndarray, " vertices"], start: float, end: float
) -> Float[np.ndarray, " vertices"]:
    """Return the integral of each vertex' weight over R^2 from `start` to `end`."""
    total = np.zeros(len(r2))
    # Beyond the first and the last vertex the front stands at that vertex.
    total[0] += max(0.0, end - max(start, r2[0]))
    total[-1] += max(0.0, min(end, r2[-1]) - start)
    for place in range(len(r2) - 1):
        # The part of the segment between two vertices that lies from `start` to `end`.
        high = min(end, r2[place])
        low = max(start, r2[place + 1])
        if high > low:
            # The mean share of the vertex of higher R^2 on this part.
            middle = (high + low) / 2
            share = (middle - r2[place + 1]) / (r2[place] - r2[place + 1])
            total[place] += share * (high - low)
            total[place + 1] += (1 - share) * (high - low)
    return total
