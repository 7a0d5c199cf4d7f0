"""What may be said of effects: by hand, and by scipy and statsmodels' formulas."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae.comparison import verdicts
from sae.comparison.effects import OK, OUT_OF_REACH
from sae.comparison.intervals import IntervalRule

FAMILIES = {"lite0": "efficientnet", "s14": "dinov2"}
RULE = IntervalRule()
STEADY = [0.02, 0.022, 0.018, 0.024, 0.016, 0.021]


def effects(of, score="detection", method="reg1", **changed):
    """Return effects of a method: {backbone: a value for each dataset}."""
    rows = []
    for backbone, values in of.items():
        for number, effect in enumerate(values):
            row = {"dataset": f"d{number}", "backbone": backbone, "k": 16}
            row |= {"method": method, "baseline": "topk", "control": False}
            row |= {"status": OK, "reason": None, "seeds": "3 4 5", "fresh": True}
            row |= {"score": score, "level": 0.7, "effect": effect}
            rows.append(row | {"value": 0.7 + effect} | changed)
    return pd.DataFrame(rows)


def said(*parts, **options):
    """Return the verdict table of effects, by method, score and family."""
    means = verdicts.means(
        pd.concat(parts, ignore_index=True), FAMILIES, RULE, **options
    )
    return means.set_index(["method", "score", "family"])


def both(values):
    return {"lite0": values, "s14": values}


def test_a_family_has_its_row_and_the_mean_is_of_families():
    higher = [value + 0.01 for value in STEADY]
    table = said(effects({"lite0": STEADY, "s14": higher}))
    of_method = table.loc["reg1", "detection"]
    for family, values in {
        "efficientnet": STEADY,
        "dinov2": higher,
        "mean": np.mean([STEADY, higher], axis=0),
    }.items():
        row = of_method.loc[family]
        low, high = stats.t.interval(
            0.95, len(values) - 1, np.mean(values), stats.sem(values)
        )
        assert (row["effect"], row["low"], row["high"]) == pytest.approx(
            (np.mean(values), low, high)
        )
    assert of_method["cells"].tolist() == [6, 6, 12]
    assert of_method["verdict"].isna().tolist() == [True, True, False]
    assert of_method.loc["mean", "verdict"] == "better"


def test_under_six_datasets_there_are_intervals_and_no_words():
    five = {"lite0": STEADY[:5], "s14": STEADY[1:]}
    row = said(effects(five)).loc["reg1", "detection", "mean"]
    assert pd.isna(row["verdict"]) and row["reason"] == verdicts.TOO_FEW
    # Over ten pairs of dataset and family.
    values = [*STEADY[:5], *STEADY[1:]]
    expected = stats.t.interval(0.95, 9, np.mean(values), stats.sem(values))
    assert (row["low"], row["high"]) == pytest.approx(expected)


def test_datasets_of_the_same_pictures_are_one():
    twice = effects(both([*STEADY, STEADY[0]]))
    row = said(twice, pictures={"d6": "p", "d0": "p"}).loc["reg1", "detection", "mean"]
    once = said(effects(both(STEADY))).loc["reg1", "detection", "mean"]
    assert row["datasets"] == 6 and row["cells"] == 14
    assert (row["low"], row["high"]) == pytest.approx((once["low"], once["high"]))


def test_datasets_that_lack_a_family_do_not_count():
    table = said(effects({"lite0": [*STEADY, 0.9], "s14": STEADY}))
    assert table.loc[("reg1", "detection", "mean"), "effect"] == pytest.approx(
        np.mean(STEADY)
    )


def test_the_regularizers_are_corrected_together_and_the_others_apart():
    values = {
        ("reg1", "detection"): [0.02, 0.01, 0.03, 0.02, 0.01, 0.03],
        ("reg1", "ms"): [0.02, 0.03, 0.01, 0.05, 0.02, 0.06],
        ("reg2", "detection"): [0.01, 0.04, 0.01, 0.05, 0.02, 0.03],
        ("reg2", "ms"): [0.01, -0.01, 0.02, 0.05, 0.02, 0.03],
        ("mine", "detection"): STEADY,
        ("mine", "ms"): [0.01, -0.01, 0.02, 0.05, 0.02, 0.03],
    }
    table = said(
        *(effects(both(of), score, name) for (name, score), of in values.items())
    )
    for methods in ({"reg1", "reg2"}, {"mine"}):
        p = {
            key: stats.ttest_1samp(of, 0).pvalue
            for key, of in values.items()
            if key[0] in methods
        }
        adjusted = 0.0
        for rank, (key, value) in enumerate(
            sorted(p.items(), key=lambda item: item[1])
        ):
            adjusted = max(adjusted, min(1, (len(p) - rank) * value))
            assert table.loc[(*key, "mean"), "p_holm"] == pytest.approx(adjusted)


SMALL = [0.004, 0.005, 0.003, 0.006, 0.004, 0.005]


@pytest.mark.parametrize(
    ("of", "verdict", "reason"),
    [
        (both(STEADY), "better", None),
        (both([-value for value in STEADY]), "worse", None),
        (both(SMALL), "better, by less than .01", None),
        (
            both([0.001, -0.002, 0.002, -0.001, 0.0, 0.001]),
            "equivalent within .01",
            None,
        ),
        (both([0.05, -0.04, 0.03, -0.02, 0.06, -0.05]), "inconclusive", None),
        # Of one sign but one, and its interval leaves out 0.
        (
            both([*[0.02, 0.03, 0.025, 0.03, 0.02, 0.025], -0.001]),
            "inconclusive",
            verdicts.SIGNS_DIFFER,
        ),
        (
            {"lite0": STEADY, "s14": [-value for value in STEADY]},
            "differs by backbone",
            None,
        ),
        # Of different signs, but nobody knows whether they differ.
        (
            {"lite0": STEADY, "s14": [0.1, -0.12, 0.11, -0.1, 0.09, -0.11]},
            "inconclusive",
            None,
        ),
    ],
)
def test_words(of, verdict, reason):
    row = said(effects(of)).loc["reg1", "detection", "mean"]
    assert row["verdict"] == verdict
    assert row["reason"] == reason or (reason is None and pd.isna(row["reason"]))


def test_better_in_detection_asks_that_neither_view_falls():
    falls = effects(both([-value for value in SMALL]), "detection_per_activation")
    parts = effects(both(STEADY)), effects(both(STEADY), "ms")
    row = said(*parts, falls).loc["reg1", "detection", "mean"]
    assert (row["verdict"], row["reason"]) == ("inconclusive", verdicts.VIEW_FALLS)
    assert said(*parts, falls).loc[("reg1", "ms", "mean"), "verdict"] == "better"
    # An interval that holds 0 is no fall.
    wide = both([-0.05, 0.04, -0.03, 0.02, -0.06, 0.05])
    table = said(*parts, effects(wide, "detection_per_activation"))
    assert table.loc[("reg1", "detection", "mean"), "verdict"] == "better"


def test_out_of_reach_is_a_quarter_of_the_cells():
    for lost, reason in ((3, None), (4, OUT_OF_REACH)):
        table = effects(both([*STEADY, 0.02, 0.021]))
        places = table.index[:lost]
        table.loc[places, ["status", "reason"]] = [OUT_OF_REACH, "reconstructs less"]
        table.loc[places, ["effect", "value"]] = np.nan
        row = said(table).loc["reg1", "detection", "mean"]
        # Whoever lacks some cells of a dataset is compared in the others.
        assert row["out_of_reach"] == lost
        assert (row["reason"] == OUT_OF_REACH) == (reason is not None)


def test_controls_have_intervals_and_no_verdict():
    row = said(effects(both(STEADY), control=True)).loc["reg1", "detection", "mean"]
    assert pd.isna(row["verdict"]) and row["low"] < 0.02 < row["high"]


@pytest.mark.parametrize(
    ("differs", "is_small"), list(product([True, False], repeat=2))
)
def test_words_of_losses_mirror_those_of_gains(differs, is_small):
    gain, loss = (
        verdicts.word(effect, differs=differs, is_small=is_small)
        for effect in (0.005, -0.005)
    )
    assert loss == gain.replace("better", "worse")
