"""Where an SAE stands between an untrained one and Top-k, against values by hand."""

from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
import pytest
from sae.comparison.fronts import FrontRule

from sae.comparison import card
from sae.comparison.card import FrontPoint, Reading
from sae.comparison.methods import Methods
from sae.scoring import front

# Three vertices of R2 .8, .7, .6 with scores .70, .76, .78; a fourth lies below the
# line between its neighbours, a fifth is the best of all and not feasible.
TRIALS = pd.DataFrame(
    {
        "trial": ["a", "b", "c", "under", "unfit"],
        "r2": [0.8, 0.7, 0.6, 0.75, 0.9],
        "ms": [0.70, 0.76, 0.78, 0.72, 0.99],
        "feasible": [True, True, True, True, False],
    }
)
TEST = {"a": [0.68, 0.70], "b": [0.74, 0.78], "c": [0.79, 0.79]}


@pytest.mark.parametrize(
    ("r2", "read_at", "weights"),
    [
        (0.775, card.AT_OWN_R2, {"a": 0.75, "b": 0.25}),
        (0.4, card.AT_LOWEST, {"c": 1.0}),
        (0.804, card.AT_REACH, {"a": 1.0}),
        (0.806, card.OUT_OF_REACH, {}),
    ],
)
def test_a_front_is_read_at_the_r2_of_the_sae(r2, read_at, weights):
    point = card.find_point(TRIALS, "ms", r2)
    assert point.read_at == read_at
    assert point.weights == pytest.approx(weights)
    assert point.reach == 0.8


def test_no_feasible_trial():
    point = card.find_point(TRIALS.assign(feasible=False), "ms", 0.7)
    assert point.read_at == card.NO_FRONT and not point.weights
    # Trials are feasible, but validation could not measure their score.
    point = card.find_point(TRIALS.assign(ms=np.nan), "ms", 0.7)
    assert point.read_at == card.NO_SCORE and not point.weights


@pytest.mark.parametrize(
    ("firing_of_sae", "feasible"),
    [
        (0.95, [False, True, False, False]),  # The rule of fronts asks for .9.
        (0.68, [True, True, False, False]),  # Less than .02 above .67, as seeds may be.
        (0.7, [False, True, False, False]),
        (0.3, [True, True, True, False]),  # The last one has more active latents.
    ],
)
def test_topk_may_lose_as_many_latents_as_the_sae(firing_of_sae, feasible):
    trials = pd.DataFrame(
        {
            "status": "ok",
            "k": 16,
            "r2": 0.5,
            "l0": [16, 16, 16, 17],
            "firing": [0.67, 0.92, 0.5, 0.95],
        }
    )
    rule = card.rule_beside(firing_of_sae, FrontRule())
    assert front.feasible(trials, rule).tolist() == feasible


def test_between_untrained_and_topk():
    point = card.find_point(TRIALS, "ms", 0.775)
    topk, variance = card.mean_at(point, TEST)
    # .75 x .69 + .25 x .76
    assert topk == pytest.approx(0.7075)
    # (.75^2 x .0002 + .25^2 x .0008) / 2 seeds
    assert variance == pytest.approx((0.5625 * 0.0002 + 0.0625 * 0.0008) / 2)

    reading = Reading("ms", 0.65, 0.5, topk, point, "ms")
    assert reading.way == pytest.approx(0.15 / 0.2075)
    # Where Top-k has no more than an untrained SAE, there is no way.
    for untrained in (0.7, 0.8):
        assert isnan(Reading("ms", 0.65, untrained, topk, point, "ms").way)
    assert isnan(Reading("ms", 0.65, 0.5, nan, FrontPoint(card.NO_FRONT), "ms").way)


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


def test_saes_made_elsewhere_are_read_at_the_front_of_their_cell():
    cell = {"dataset": "d", "backbone": "b", "k": 4, "status": "ok"}
    own = {**cell, "method": "theirs", "trial": "default", "m": 8, "l0": 4}
    own["dead_train"] = 0
    topk = {**own, "method": "topk"}
    rows = [
        {**own, "seed": 0, "split": "val", "r2": 0.75, "ms_mean_alive": 0.1},
        {**own, "seed": 0, "split": "test", "r2": 0.74, "ms_mean_alive": 0.6},
    ]
    for trial, r2, on_val, fresh in (("a", 0.8, 0.5, 0.52), ("b", 0.7, 0.7, 0.72)):
        of_trial = {**topk, "trial": trial, "r2": r2}
        rows += [
            {**of_trial, "seed": 0, "split": "val", "ms_mean_alive": on_val},
            {**of_trial, "seed": 0, "split": "test", "ms_mean_alive": 0.9},
            {**of_trial, "seed": 3, "split": "test", "ms_mean_alive": fresh},
        ]
    names = Methods(methods={"topk": {}, "theirs": {"imported": True}})
    metrics = pd.DataFrame(rows)
    metrics["protocol"] = np.where(metrics["method"] == "topk", "fair", "paper")

    def read(metrics):
        table = card.read_cells(metrics, names, FrontRule(tuning=0), ["ms"])
        (row,) = table.to_dict("records")
        return row

    # Half way between the vertices, by their fresh seeds.
    row = read(metrics)
    assert row["front"] == pytest.approx(0.62)
    assert row["beside_front"] == pytest.approx(-0.02)
    assert (row["cells_at_front"], row["above_reach"]) == (1, 0)
    metrics.loc[0, "r2"] = 0.9
    row = read(metrics)
    assert isnan(row["front"])
    assert (row["cells_at_front"], row["above_reach"]) == (0, 1)
