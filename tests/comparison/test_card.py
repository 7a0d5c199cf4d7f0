"""Where an SAE stands between an untrained one and Top-k, against values by hand."""

from math import isnan, nan, sqrt

import numpy as np
import pytest

from sae.comparison import card
from sae.comparison.card import Reading


def test_between_untrained_and_topk():
    reading = Reading("ms", 0.65, 0.5, 0.7)
    assert reading.way == pytest.approx(0.75)
    # Of latents that are nested fewer are better.
    assert Reading("nested", 0.2, 0.5, 0.1).way == pytest.approx(0.75)
    # Where Top-k has no more than an untrained SAE, or there is none, there is no way.
    for untrained in (0.695, 0.7, 0.8):
        assert isnan(Reading("ms", 0.65, untrained, 0.7).way)
    assert isnan(Reading("ms", 0.65, 0.5).way)


def test_the_interval_is_of_images_and_seeds():
    # Ten means of which one value each is left out: the jackknife is then the variance
    # of a mean.
    values = np.random.default_rng(0).normal(size=10)
    without_one = (values.sum() - values) / 9
    variance = values.var(ddof=1) / 10 + 0.04
    low, high = card.interval(0.5, without_one, seed_variance=0.04)
    half_width = 2.262157 * sqrt(variance)  # t of 9 degrees
    assert (low, high) == pytest.approx((0.5 - half_width, 0.5 + half_width))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.009, 0.008, card.LEVEL),
        (0.002, 0.009, card.LEVEL),
        (-0.002, 0.011, card.INCONCLUSIVE),
        (0.002, 0.011, card.ABOVE),
        (-0.05, -0.001, card.BELOW),
        (nan, nan, card.INCONCLUSIVE),
    ],
)
def test_words(low, high, word):
    assert card.word_of(low, high) == word


def test_groups_are_left_out_whole():
    groups = np.repeat(np.arange(40), 3)
    folds = card.fold_of_groups(groups)
    assert np.bincount(folds).tolist() == [12] * card.FOLDS
    assert (folds.reshape(40, 3) == folds[::3, None]).all()
