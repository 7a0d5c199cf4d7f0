"""The front of a method in a cell: the best score that its SAEs have at a reconstruction R^2.

It is the upper concave hull of the points (R^2, score), with free disposal: left of the vertex of highest score it is
flat, since worse reconstruction can be had for nothing. Between two vertices a point is a mixture of the two, as in the
ROC convex hull (Provost and Fawcett 2001).
"""

import math

import numpy as np


def hull(r2: np.ndarray, score: np.ndarray) -> list[int]:
    """The vertices of the front, by falling R^2: places in `r2` and `score`, (n,) each, finite.

    Of points with equal R^2 the one of the highest score counts, of equal ones the first.
    """
    order = np.lexsort((np.arange(len(r2)), -np.asarray(score), -np.asarray(r2)))
    found: list[int] = []
    for point in map(int, order):
        # Free disposal: what reconstructs no better and scores no higher is no vertex.
        if found and not score[point] > score[found[-1]]:
            continue
        while len(found) > 1 and _below(found[-2], found[-1], point, r2, score):
            found.pop()
        found.append(point)
    return found


def _below(
    right: int, middle: int, left: int, r2: np.ndarray, score: np.ndarray
) -> bool:
    """Whether a point lies on or below the line between its neighbours."""
    rise, run = score[left] - score[right], r2[right] - r2[left]
    return bool((score[middle] - score[right]) * run <= rise * (r2[right] - r2[middle]))


def weights(
    r2: np.ndarray, low: float, high: float, at_most: float = math.inf
) -> np.ndarray:
    """What each vertex weighs in the mean of the front over R^2 from `low` to `high`: (vertices,), of sum 1.

    At R^2 beyond the first vertex, which the method does not reach, that vertex stands; below the last one the last.

    Args:
        r2: (vertices,) of the vertices, falling.
        at_most: where this is less than an R^2 of the window, the front is read here instead: another method's reach.
    """
    found, end = np.zeros(len(r2)), max(low, min(high, at_most))
    found[0] += max(0.0, end - max(low, r2[0]))
    found[-1] += max(0.0, min(end, r2[-1]) - low)
    for i in range(len(r2) - 1):
        right, left = min(end, r2[i]), max(low, r2[i + 1])
        if right > left:
            # The mean share of the right vertex on the part of the segment that lies in the window, times its length.
            share = ((right + left) / 2 - r2[i + 1]) / (r2[i] - r2[i + 1])
            found[i] += share * (right - left)
            found[i + 1] += (1 - share) * (right - left)
    if end < high:
        there = min(end, at_most)
        found += (high - end) * np.array(
            [np.interp(there, r2[::-1], row[::-1]) for row in np.eye(len(r2))]
        )
    return found / (high - low)
