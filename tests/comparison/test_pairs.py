"""Matched pairs, by hand: which trials are twins, and what they differ in."""

import pandas as pd
import pytest
from sae.comparison.fronts import FrontRule
from sae.scoring.front import DETECTION

from sae.comparison import pairs

AGAINST = {"topk": None, "reg": "topk"}
RULE = FrontRule(tuning=0, tuned=["lr"])


def trial_row(method, lr, strength, r2, ms, detection, **changed):
    """Return the rows of a trial on both splits."""
    row = {
        "dataset": "d",
        "backbone": "b",
        "k": 8,
        "method": method,
        "seed": 0,
        "trial": f"lr{lr}" if strength is None else f"lambda{strength}-lr{lr}",
        "swept": "lr" if strength is None else "lambda lr",
        "mask": None,
        "lambda": strength,
        "lr": lr,
        "status": "ok",
        "l0": 8.0,
        "dead_train": 0,
        "m": 100,
        "r2": r2,
        "ms_mean_alive": ms,
        "detection_auc": detection,
        **changed,
    }
    return [row | {"split": split} for split in ("val", "test")]


TOPK = [
    ("topk", 1, None, 0.70, 0.50, 0.70),
    ("topk", 2, None, 0.69, 0.53, 0.72),
    ("topk", 3, None, 0.68, 0.40, 0.60),
    ("topk", 4, None, 0.60, 0.60, 0.80),
]
REG = [
    ("reg", 1, 0.1, 0.69, 0.55, 0.75),
    ("reg", 2, 0.1, 0.69, 0.55, 0.70),
    ("reg", 3, 0.1, 0.68, 0.43, 0.63),
    ("reg", 2, 0.3, 0.60, 0.90, 0.95),  # Of another lambda than at most points.
    ("reg", 9, 0.1, 0.69, 0.90, 0.95),  # The baseline has no such trial.
]


@pytest.fixture
def metrics():
    trials = [row for trial in TOPK + REG for row in trial_row(*trial)]
    trials += trial_row("topk", 5, None, 0.72, 0.10, 0.1, dead_train=50)
    trials += trial_row("reg", 5, 0.1, 0.70, 0.90, 0.9)
    return pd.DataFrame(trials)


def test_twins_are_compared_in_the_score_with_r2_beside(metrics):
    table = pairs.effects(metrics, AGAINST, RULE).set_index("score")
    ms = table.loc["ms"]
    # Score differences .05, .02 and .03; R^2 differences -.01, 0 and 0.
    assert ms["points"] == 3
    assert ms["effect"] == pytest.approx((0.05 + 0.02 + 0.03) / 3)
    assert ms["r2_difference"] == pytest.approx(-0.01 / 3)
    detection = table.loc[DETECTION]
    assert detection["effect"] == pytest.approx((0.05 - 0.02 + 0.03) / 3)


def test_without_common_points_there_are_no_pairs(metrics):
    assert pairs.effects(metrics, AGAINST, FrontRule()).empty


def test_of_a_grid_every_own_value_has_a_twin_and_lone_points_have_none():
    trials = [
        ("topk", 1, None, 0.70, 0.50, 0.70),
        ("topk", 2, None, 0.69, 0.53, 0.72),
        ("topk", 7, None, 0.60, 0.20, 0.30),  # There the baseline is alone.
        ("reg", 1, 0.1, 0.70, 0.51, 0.70),
        ("reg", 1, 0.3, 0.70, 0.54, 0.70),
        ("reg", 2, 0.1, 0.69, 0.55, 0.72),
        ("reg", 2, 0.3, 0.69, 0.59, 0.72),
    ]
    metrics = pd.DataFrame([row for trial in trials for row in trial_row(*trial)])
    rule = FrontRule(tuning=0, tuned=["lr"], grid=True)
    ms = pairs.effects(metrics, AGAINST, rule).set_index("score").loc["ms"]
    assert ms["points"] == 4
    assert ms["effect"] == pytest.approx((0.01 + 0.04 + 0.02 + 0.06) / 4)
