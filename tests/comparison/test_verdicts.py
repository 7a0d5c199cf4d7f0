"""Means over datasets, their tests together, and every verdict, against scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae.comparison import verdicts
from sae.comparison.intervals import IntervalRule

FAMILIES = {"x1": "a", "x2": "a", "y": "b"}
# Effects on six datasets, equal in both families.
CLEAR = [0.03, 0.035, 0.032, 0.029, 0.031, 0.034]
WEAK = [0.02, 0.03, 0.001, 0.03, 0.001, 0.012]


def cells(effects, method="reg1", score="detection", **columns):
    """Return effects of two backbones of family a and one of b, at two k.

    Args:
        effects: Of each dataset: one of both families, or (of a, of b). The backbones
            of a differ by .002, and k by .001, so that only their means are these.
        method: The method.
        score: The score.
        columns: Values of other columns.
    """
    rows = []
    for number, of_dataset in enumerate(effects):
        of_families = dict(zip("ab", np.broadcast_to(of_dataset, 2), strict=True))
        for backbone, shift in (("x1", 0.001), ("x2", -0.001), ("y", 0.0)):
            for k, of_k in ((8, 0.0005), (32, -0.0005)):
                effect = of_families[FAMILIES[backbone]] + shift + of_k
                row = {
                    "dataset": f"d{number}",
                    "backbone": backbone,
                    "k": k,
                    "method": method,
                    "baseline": "topk",
                    "control": False,
                    "status": "ok",
                    "seeds": "3 4 5",
                    "fresh": True,
                    "score": score,
                    "level": 0.6,
                    "value": 0.6 + effect,
                    "effect": effect,
                    **columns,
                }
                rows.append(row)
    return rows


def means(*parts, **arguments):
    """Return the means of some effects, indexed by method, score and family."""
    table = pd.DataFrame([row for part in parts for row in part])
    table = verdicts.means(table, FAMILIES, IntervalRule(), **arguments)
    return table.set_index(["method", "score", "family"])


def verdict_of(*parts, method="reg1", score="detection", **arguments):
    """Return the verdict on a method's mean of families, and the reason."""
    row = means(*parts, **arguments).loc[(method, score, "mean")]
    return row["verdict"], row["reason"]


def test_each_family_has_its_row_and_the_mean_weighs_families_equally():
    effects = [(0.02 + 0.002 * n, 0.01 - 0.001 * n**2 / 5) for n in range(6)]
    table = means(cells(effects)).loc[("reg1", "detection")]
    assert list(table.index) == ["a", "b", "mean"]
    of_a, of_b = np.transpose(effects)
    for family, sample in (("a", of_a), ("b", of_b), ("mean", (of_a + of_b) / 2)):
        test = stats.ttest_1samp(sample, 0)
        row = table.loc[family]
        assert row["effect"] == pytest.approx(sample.mean())
        assert row["p"] == pytest.approx(test.pvalue)
        ends = tuple(test.confidence_interval(0.95))
        assert (row["low"], row["high"]) == pytest.approx(ends)
        ends = tuple(test.confidence_interval(0.9))
        assert (row["low_one_sided"], row["high_one_sided"]) == pytest.approx(ends)
    # Verdicts are of the mean alone.
    assert table["verdict"].notna().tolist() == [False, False, True]
    assert table["cells"].tolist() == [24, 12, 36]
    assert table["datasets"].tolist() == [6, 6, 6]
    assert table["seeds"].tolist() == [3, 3, 3] and table["fresh"].all()


# A method alone, so that Holm's correction changes nothing.
@pytest.mark.parametrize(
    ("effects", "verdict", "reason"),
    [
        (CLEAR, "better", None),
        ([-effect for effect in CLEAR], "worse", None),
        ([effect / 10 for effect in CLEAR], "better, by less than .01", None),
        ([-effect / 10 for effect in CLEAR], "worse, by less than .01", None),
        ([0.001, -0.001, 0.002, -0.001, 0.001, 0], "equivalent within .01", None),
        ([0.03, -0.03, 0.02, -0.01, 0.02, 0.0], "inconclusive", None),
        # Surely above 0 on average, but not in every dataset.
        (
            [0.03, 0.03, 0.03, 0.03, 0.03, -0.001],
            "inconclusive",
            "datasets differ in s",
        ),
    ],
)
def test_an_effect_has_the_verdict_of_its_size_and_spread(effects, verdict, reason):
    said, why = verdict_of(cells(effects))
    test = stats.ttest_1samp(effects, 0)
    small = max(
        stats.ttest_1samp(effects, 0.01, alternative="less").pvalue,
        stats.ttest_1samp(effects, -0.01, alternative="greater").pvalue,
    )
    assert said.endswith(".01") == (small < 0.05)
    one_sign = len({np.sign(effect) for effect in effects}) == 1
    assert said.startswith(("b", "w")) == (test.pvalue < 0.05 and one_sign)
    assert said == verdict
    assert why is None if reason is None else why.startswith(reason)


def test_with_under_six_datasets_there_is_an_interval_and_no_verdict():
    table = means(cells(CLEAR[:5])).loc[("reg1", "detection")]
    assert table["verdict"].isna().all() and table["p_holm"].isna().all()
    assert table.loc["mean", "reason"] == "fewer than six datasets"
    # Over (dataset, family) pairs, of which there are ten.
    ends = tuple(stats.ttest_1samp(CLEAR[:5] * 2, 0).confidence_interval(0.95))
    assert tuple(table.loc["mean", ["low", "high"]]) == pytest.approx(ends)
    # Two pairs are too few for any.
    table = means(cells(CLEAR[:1])).loc[("reg1", "detection")]
    assert table["low"].isna().all()
    assert table["effect"].tolist() == pytest.approx([0.03] * 3)


def test_datasets_of_the_same_pictures_are_one():
    effects = [0.01, 0.05, *CLEAR[:5]]
    pictures = {"d0": "the same", "d1": "the same"}
    row = means(cells(effects), pictures=pictures).loc[("reg1", "detection", "mean")]
    expected = stats.ttest_1samp([0.03, *CLEAR[:5]], 0)
    assert row["datasets"] == 6 and row["p"] == pytest.approx(expected.pvalue)
    assert row["cells"] == 42
    verdict, reason = verdict_of(cells(effects[:6]), pictures=pictures)
    assert pd.isna(verdict) and reason == "fewer than six datasets"


def test_only_datasets_of_all_families_are_averaged():
    rows = [
        row
        for row in cells([*CLEAR, 0.9])
        if (row["dataset"], row["backbone"]) != ("d6", "y")
    ]
    table = means(rows).loc[("reg1", "detection")]
    assert table["datasets"].tolist() == [6, 6, 6]
    assert table["effect"].tolist() == pytest.approx([np.mean(CLEAR)] * 3)


def test_holm_corrects_what_is_confirmed_and_what_is_explored_apart():
    effects = {
        ("reg1", "detection"): CLEAR,
        ("reg1", "ms"): WEAK,
        ("reg2", "detection"): [0.02, 0.012, 0.004, 0.022, 0.009, 0.03],
        ("reg2", "ms"): [0.03, -0.03, 0.02, -0.01, 0.02, 0.0],
        ("batch", "detection"): WEAK,
        ("batch", "ms"): CLEAR,
    }
    parts = [cells(values, *key) for key, values in effects.items()]
    # No endpoint, and a control: neither is tested.
    parts.append(cells(CLEAR, "reg1", "purity"))
    parts.append(cells(CLEAR, "raw", control=True))
    table = means(*parts).xs("mean", level="family")
    p = {key: stats.ttest_1samp(values, 0).pvalue for key, values in effects.items()}
    by_hand = {
        ("reg1", "detection"): 4 * p["reg1", "detection"],
        ("reg2", "detection"): 3 * p["reg2", "detection"],
        ("reg1", "ms"): 2 * p["reg1", "ms"],
        ("reg2", "ms"): p["reg2", "ms"],
        ("batch", "ms"): 2 * p["batch", "ms"],
        ("batch", "detection"): p["batch", "detection"],
    }
    # They are in the order of p, and none is below the one before.
    for family in ([*by_hand][:4], [*by_hand][4:]):
        assert family == sorted(family, key=p.get) == sorted(family, key=by_hand.get)
    for key, p_holm in by_hand.items():
        assert table.loc[key, "p_holm"] == pytest.approx(p_holm), key
    # The same effect passes where two are tested, and not where four are.
    assert p["reg1", "ms"] == p["batch", "detection"] < 0.05 < by_hand["reg1", "ms"]
    assert table.loc[("batch", "detection"), "verdict"] == "better"
    assert table.loc[("reg1", "ms"), "verdict"] == "inconclusive"
    assert table.loc[("reg1", "ms"), "reason"] == "before Holm's correction"
    untested = table.loc[[("reg1", "purity"), ("raw", "detection")]]
    assert untested["p_holm"].isna().all() and untested["verdict"].isna().all()


def test_families_that_surely_differ_in_sign_have_no_common_verdict():
    noise = [0.001, -0.001, 0.002, -0.002, 0.0, 0.001]
    apart = [(0.03 + shift, -0.01 - shift) for shift in noise]
    assert stats.ttest_rel(*np.transpose(apart)).pvalue < 0.05
    assert verdict_of(cells(apart))[0] == "differs by backbone"
    # Of one sign they do not, however much they differ.
    one_sign = [(0.03 + shift, 0.01 - shift) for shift in noise]
    assert verdict_of(cells(one_sign))[0] == "better"
    # Nor where their difference may be 0.
    wide = [(0.03, -0.04), (-0.02, 0.03), (0.02, -0.03), (-0.03, 0.02)]
    wide += [(0.02, -0.02), (-0.01, 0.01)]
    assert stats.ttest_rel(*np.transpose(wide)).pvalue > 0.05
    assert verdict_of(cells(wide))[0] != "differs by backbone"


@pytest.mark.parametrize("view", ["detection_per_latent", "detection_per_activation"])
def test_better_in_detection_needs_both_views_not_to_fall(view):
    falls = [-effect for effect in CLEAR]
    said = verdict_of(cells(CLEAR), cells(falls, score=view))
    assert said == ("inconclusive", "one of its two views falls")
    # It may be inconclusive; and MS has no views.
    unsure = [-0.03, 0.001, -0.02, -0.01, 0.01, -0.01]
    assert verdict_of(cells(CLEAR), cells(unsure, score=view))[0] == "better"
    both = cells(CLEAR, score="ms"), cells(falls, score=view)
    assert verdict_of(*both, score="ms")[0] == "better"
    # What another method has is not read.
    others = cells(falls, "reg2", view)
    assert verdict_of(cells(CLEAR), others)[0] == "better"


def lose(rows, count):
    """Return effects of which the first are out of reach."""
    lost = {"status": "out of reach", "effect": np.nan, "value": np.nan}
    return [row | lost for row in rows[:count]] + rows[count:]


def test_many_cells_out_of_reach_prevent_a_verdict():
    # 36 cells, of which 6 are of one dataset.
    few = means(lose(cells(CLEAR), 8)).loc[("reg1", "detection", "mean")]
    assert few["out_of_reach"] == 8 and few["datasets"] == 5
    assert few["reason"] == "fewer than six datasets"
    # Where one family is lost, the other's cells are not averaged, and are there.
    rows = cells(CLEAR)
    row = means(rows[:4] + lose(rows[4:6], 2) + rows[6:]).loc[
        ("reg1", "detection", "mean")
    ]
    assert (row["cells"], row["out_of_reach"], row["all_cells"]) == (30, 2, 36)
    some = lose(cells([0.9, *CLEAR]), 6)
    row = means(some).loc[("reg1", "detection", "mean")]
    assert (row["verdict"], row["out_of_reach"], row["cells"]) == ("better", 6, 36)
    quarter = lose(cells([*[0.03] * 3, *CLEAR]), 18)
    verdict, reason = verdict_of(quarter)
    assert pd.isna(verdict) and reason == "out of reach"
    all_lost = means(lose(cells(CLEAR), 36)).loc[("reg1", "detection", "mean")]
    assert (all_lost["cells"], all_lost["reason"]) == (0, "out of reach")


def test_what_was_nowhere_measured_is_said():
    rows = [row | {"effect": np.nan} for row in cells(CLEAR)]
    verdict, reason = verdict_of(rows)
    assert pd.isna(verdict) and reason == "not measured"
    empty = pd.DataFrame(columns=cells(CLEAR)[0].keys())
    assert verdicts.means(empty, FAMILIES, IntervalRule()).empty


def test_a_backbone_of_no_family_is_one_of_its_own():
    table = verdicts.means(pd.DataFrame(cells(CLEAR)), {}, IntervalRule())
    assert list(table["family"]) == ["x1", "x2", "y", "mean"]
