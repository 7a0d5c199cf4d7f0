"""Fronts against brute force over all mixtures of two points, and by hand."""

import itertools

import numpy as np
import pytest

from sae.scoring import front


def best_at(r2, score, at):
    """The highest score of a mixture of two points whose R^2 is at least `at`."""
    found = -np.inf
    for i, j in itertools.product(range(len(r2)), repeat=2):
        if max(r2[i], r2[j]) < at:
            continue
        share = 1.0 if r2[i] == r2[j] else np.clip((at - r2[j]) / (r2[i] - r2[j]), 0, 1)
        for t in (0.0, 1.0, share):
            if t * r2[i] + (1 - t) * r2[j] >= at - 1e-12:
                found = max(found, t * score[i] + (1 - t) * score[j])
    return found


def height(r2, score, at):
    """The front at an R^2, from its vertices."""
    vertices = front.hull(r2, score)
    x, y = r2[vertices][::-1], score[vertices][::-1]
    return np.interp(min(at, x[-1]), x, y)


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_the_best_mixture(seed):
    rng = np.random.default_rng(seed)
    r2, score = (
        rng.integers(0, 6, 9) / 10,
        rng.integers(0, 6, 9) / 10,
    )  # Many equal ones.
    for at in np.linspace(-0.1, r2.max(), 23):
        assert height(r2, score, at) == pytest.approx(best_at(r2, score, at), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_those_of_the_mean_over_the_window(seed):
    rng = np.random.default_rng(seed)
    r2, score = np.sort(rng.random(5))[::-1], np.sort(rng.random(5))
    low, high = np.sort(rng.random(2) * 1.4 - 0.2)
    weights = front.weights(r2, low, high)
    at = np.linspace(low, high, 200_001)
    mean = np.interp(at, r2[::-1], score[::-1]).mean()  # Flat beyond both ends.
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights @ score == pytest.approx(mean, abs=1e-5)
    for reach in (
        rng.random(3) * 1.4 - 0.2
    ):  # Of another method: in the window, below and beyond it.
        weights = front.weights(r2, low, high, reach)
        mean = np.interp(np.minimum(at, reach), r2[::-1], score[::-1]).mean()
        assert weights.sum() == pytest.approx(1) and weights @ score == pytest.approx(
            mean, abs=1e-5
        )


def test_by_hand():
    r2, score = (
        np.array([0.7, 0.69, 0.68, 0.68, 0.5]),
        np.array([0.4, 0.45, 0.47, 0.48, 0.48]),
    )
    assert front.hull(r2, score) == [
        0,
        1,
        3,
    ]  # Of equal R^2 the higher; what only reconstructs worse is no vertex.
    # From .68 to .70: each segment is half of the window, whose ends weigh a quarter each.
    assert front.weights(r2[[0, 1, 3]], 0.68, 0.70) == pytest.approx([0.25, 0.5, 0.25])
    # Half of the window lies beyond what the method reaches: there its first vertex stands.
    assert front.weights(r2[[0, 1, 3]], 0.69, 0.71) == pytest.approx([0.75, 0.25, 0])
    assert front.weights(np.array([0.7]), 0.69, 0.70) == pytest.approx([1])
