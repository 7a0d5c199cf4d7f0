"""Fronts against brute force over all mixtures of two points, and by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from sae.scoring import front


def best_mixture(r2, score, at):
    """Return the highest score of a mixture of two points of an R^2 of `at` or more."""
    best = -np.inf
    for i, j in itertools.product(range(len(r2)), repeat=2):
        if max(r2[i], r2[j]) < at:
            continue
        share = 1.0 if r2[i] == r2[j] else np.clip((at - r2[j]) / (r2[i] - r2[j]), 0, 1)
        for t in (0.0, 1.0, share):
            if t * r2[i] + (1 - t) * r2[j] >= at - 1e-12:
                best = max(best, t * score[i] + (1 - t) * score[j])
    return best


def front_height(r2, score, at):
    """Read the front at an R^2, from its vertices."""
    vertices = front.hull(r2, score)
    x, y = r2[vertices][::-1], score[vertices][::-1]
    return np.interp(min(at, x[-1]), x, y)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_the_best_mixture(seed):
    rng = np.random.default_rng(seed)
    # Many equal ones.
    r2 = rng.integers(0, 6, 9) / 10
    score = rng.integers(0, 6, 9) / 10
    for at in np.linspace(-0.1, r2.max(), 23):
        best = best_mixture(r2, score, at)
        assert front_height(r2, score, at) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_those_of_the_mean_over_the_window(seed):
    rng = np.random.default_rng(seed)
    r2 = np.sort(rng.random(5))[::-1]
    score = np.sort(rng.random(5))
    low, high = np.sort(rng.random(2) * 1.4 - 0.2)
    grid = np.linspace(low, high, 200_001)
    # A reach, and a floor, in the window, below it and beyond it.
    reaches = [np.inf, *(rng.random(3) * 1.4 - 0.2)]
    floors = [-np.inf, *(rng.random(3) * (high - low) + low)]
    for reach, floor in itertools.product(reaches, floors):
        weights = front.weights(r2, front.Window(low, high, floor, reach))
        # What the method does not reach is read at its reach, below the floor too.
        read_at = np.minimum(np.maximum(np.minimum(grid, reach), floor), reach)
        # Flat beyond both ends.
        mean = np.interp(read_at, r2[::-1], score[::-1]).mean()
        assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
        assert weights @ score == pytest.approx(mean, abs=1e-5)


def test_vertices_and_weights_are_those_by_hand():
    r2 = np.array([0.7, 0.69, 0.68, 0.68, 0.5])
    score = np.array([0.4, 0.45, 0.47, 0.48, 0.48])
    # Of equal R^2 the higher; what only reconstructs worse is no vertex.
    vertices = front.hull(r2, score)
    assert vertices == [0, 1, 3]

    def weights(*window):
        return front.weights(r2[vertices], front.Window(*window))

    # From .68 to .70 each segment is half of the window, whose ends weigh a quarter
    # each.
    assert weights(0.68, 0.70) == pytest.approx([0.25, 0.5, 0.25])
    # Half of the window lies beyond what the method reaches: its first vertex stands
    # there.
    assert weights(0.69, 0.71) == pytest.approx([0.75, 0.25, 0])
    # The half left of the floor is read at the floor.
    assert weights(0.68, 0.70, 0.69) == pytest.approx([0.25, 0.75, 0])
    # Floor and R* are one: the window is read there.
    assert weights(0.69, 0.70, 0.70) == pytest.approx([1, 0, 0])
    alone = front.weights(np.array([0.7]), front.Window(0.69, 0.70))
    assert alone == pytest.approx([1])


def test_a_missing_value_is_not_feasible():
    class Limits:
        l0 = 1.02
        firing = 0.9

    good = {"status": "ok", "r2": 0.7, "l0": 8.16, "firing": 0.9, "k": 8}
    changes = [
        {"status": "diverged"},
        {"r2": np.nan},
        {"l0": 8.17},
        {"l0": np.nan},
        {"firing": 0.89},
        {"firing": np.nan},
    ]
    trials = pd.DataFrame([good, *(good | change for change in changes)])
    assert front.feasible(trials, Limits()).tolist() == [True] + [False] * len(changes)
