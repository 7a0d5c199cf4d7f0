"""Effects over crossed blocks, the order of their tests, and every outcome."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae.comparison import intervals, outcomes
from sae.comparison.pairs import COLUMNS as PAIR_COLUMNS
from sae.comparison.readings import Readings

FAMILIES = {"b0": "a", "b1": "a", "b2": "b"}
PLACES = [(dataset, backbone) for dataset in ("d", "e") for backbone in FAMILIES]
# Effects of the four blocks (d, a), (d, b), (e, a), (e, b).
CLEAR = [0.03, 0.035, 0.032, 0.029]


def effect_rows(
    blocks, score="detection_auc", method="reg", width=0.01, seeds=(0,), noise=0.0
):
    """Return effects of two backbones of family a and one of b, on two datasets.

    The backbones of family a differ by .002, and the two values of k by .001, so that
    only their means are those of `blocks`.
    """
    rows = []
    for number, (dataset, backbone) in enumerate(PLACES):
        block = blocks[2 * (number // 3) + (number % 3 == 2)]
        of_backbone = (0.001, -0.001, 0.0)[number % 3]
        for k, of_k in ((8, 0.0005), (32, -0.0005)):
            for seed in seeds:
                of_seed = noise * (seed - np.mean(seeds))
                row = {
                    "dataset": dataset,
                    "backbone": backbone,
                    "k": k,
                    "method": method,
                    "score": score,
                    "front": score,
                    "width": width,
                    "status": "ok",
                    "seed": seed,
                    "fresh": len(seeds) > 1,
                    "below_floor": False,
                    **dict.fromkeys(outcomes.BESIDE, 0.0),
                    "effect": block + of_backbone + of_k + of_seed,
                }
                rows.append(row)
    return rows


def judged(rows, equal_r2=None, pairs=None):
    """Return the means of effects, with other readings if they are given."""
    table = pd.DataFrame(rows)
    equal = table[:0] if equal_r2 is None else pd.DataFrame(equal_r2)
    if pairs is None:
        pairs = pd.DataFrame(columns=PAIR_COLUMNS)
    return outcomes.means(
        Readings(table, equal, pairs), FAMILIES, intervals.IntervalRule()
    )


def test_blocks_are_crossed_of_datasets_and_families():
    blocks = [0.01, 0.03, 0.002, 0.018]
    row = judged(effect_rows(blocks)).iloc[0]
    expected = stats.ttest_1samp(blocks, 0)
    assert (row["blocks"], row["cells"]) == (4, 12)
    assert row["effect"] == pytest.approx(np.mean(blocks))
    assert row["p"] == pytest.approx(expected.pvalue)
    ends = tuple(expected.confidence_interval(0.95))
    assert (row["low"], row["high"]) == pytest.approx(ends)
    # Two of three cells of a dataset are of family a.
    by_cell = np.mean([0.01, 0.01, 0.03, 0.002, 0.002, 0.018])
    assert row["effect_by_cell"] == pytest.approx(by_cell)
    six = [0.011, 0.009, 0.03, 0.003, 0.001, 0.018]
    ends = tuple(stats.ttest_1samp(six, 0).confidence_interval(0.95))
    assert (row["low_backbones"], row["high_backbones"]) == pytest.approx(ends)
    datasets = outcomes.by_dataset(pd.DataFrame(effect_rows(blocks)), FAMILIES)
    assert datasets["effect"].tolist() == pytest.approx([0.02, 0.01])


@pytest.mark.parametrize(
    ("blocks", "outcome"),
    [
        (CLEAR, "higher in these cells"),
        ([-effect for effect in CLEAR], "lower in these cells"),
        ([0.004, 0.005, 0.0045, 0.0042], "higher in these cells, small"),
        ([0.001, -0.001, 0.002, -0.001], "equivalent"),
        ([0.03, -0.03, 0.02, -0.01], "undecided"),
    ],
)
def test_an_effect_has_the_outcome_of_its_size_and_spread(blocks, outcome):
    assert judged(effect_rows(blocks)).iloc[0]["outcome"] == outcome


def test_too_few_blocks_are_not_tested():
    of_one_dataset = [row for row in effect_rows(CLEAR) if row["dataset"] == "d"]
    row = judged(of_one_dataset).iloc[0]
    assert row["outcome"] == "too few blocks" and row["blocks"] == 2
    # Each backbone a family of its own: three blocks.
    table = pd.DataFrame(of_one_dataset)
    none = table[:0]
    row = outcomes.means(
        Readings(table, none, none), {}, intervals.IntervalRule()
    ).iloc[0]
    assert row["blocks"] == 3 and row["outcome"] != "too few blocks"
    two = intervals.IntervalRule(min_blocks=2)
    row = outcomes.means(Readings(table, none, none), FAMILIES, two).iloc[0]
    assert row["outcome"] != "too few blocks"


def test_every_reading_must_have_the_sign():
    rows = effect_rows(CLEAR)
    against = effect_rows([-effect for effect in CLEAR])
    pairs = pd.DataFrame(against).assign(points=3, kappa=1.0)
    assert judged(rows, equal_r2=against).iloc[0]["outcome"] == "undecided"
    assert judged(rows, pairs=pairs).iloc[0]["outcome"] == "undecided"
    agreeing = judged(rows, equal_r2=rows, pairs=pd.DataFrame(rows).assign(kappa=1.5))
    row = agreeing.iloc[0]
    assert row["outcome"] == "higher in these cells" and row["kappa"] == 1.5
    assert row["equal_r2"] == pytest.approx(row["effect"])
    assert row["equal_r2_cells"] == 12
    # An effect within the margin, too.
    nothing = effect_rows([0.001, -0.001, 0.002, -0.001])
    assert judged(nothing, equal_r2=rows).iloc[0]["outcome"] == "equivalent"
    assert judged(nothing, equal_r2=against).iloc[0]["outcome"] == "undecided"


def test_every_dataset_must_have_the_sign():
    # By three blocks of d and one of e p would be small, but the mean of e is below 0.
    rows = effect_rows([0.05, 0.05, 0.05, 0.05])
    for row in rows:
        if row["dataset"] == "e":
            row["dataset"] = f"e{row['backbone']}"
            row["effect"] = 0.045
    extra = [row | {"dataset": "f", "effect": -0.001} for row in rows if row["k"] == 8]
    table = judged(rows + extra)
    row = table.iloc[0]
    assert row["p"] < 0.05 and not row["same_sign"] and row["outcome"] == "undecided"


def test_detection_is_tested_first_and_ms_only_where_it_passed():
    weak = [0.03, -0.03, 0.02, -0.01]
    parts = []
    for method, detection in (("one", CLEAR), ("two", CLEAR), ("three", weak)):
        parts += effect_rows(detection, "detection_auc", method)
        parts += effect_rows([0.02, 0.03, 0.012, 0.018], "ms", method)
        parts += effect_rows(CLEAR, "purity", method)
    table = judged(parts).set_index(["score", "method"])
    p_detection = stats.ttest_1samp(CLEAR, 0).pvalue
    p_ms = stats.ttest_1samp([0.02, 0.03, 0.012, 0.018], 0).pvalue
    # Three methods are tested in detection, the two that passed in MS.
    detection = table.loc["detection_auc"]
    ms = table.loc["ms"]
    assert detection.loc["one", "p_holm"] == pytest.approx(3 * p_detection)
    assert ms.loc["one", "p_holm"] == pytest.approx(2 * p_ms)
    assert ms.loc["three", "outcome"] == "not tested"
    assert np.isnan(ms.loc["three", "p_holm"])
    assert table.loc["purity", "outcome"].isna().all()
    expected = intervals.smallest_found(np.array(CLEAR), 0.05 / 3)
    assert detection.loc["one", "smallest"] == pytest.approx(expected)
    # Where no backbone of another family judges, MS is not tested.
    assert judged(effect_rows(CLEAR, "ms")).iloc[0]["outcome"] == "not tested"


def test_cells_out_of_reach_are_in_no_mean_and_many_prevent_a_test():
    rows = effect_rows(CLEAR)

    def lose(count):
        changed = {name: np.nan for name in ("effect", "seed", *outcomes.BESIDE)}
        changed["status"] = "out of reach"
        changed["fresh"] = False
        return [row | changed for row in rows[:count]] + rows[count:]

    two = judged(lose(2)).iloc[0]
    assert (two["cells"], two["out_of_reach"]) == (10, 2)
    assert two["outcome"] == "higher in these cells"
    assert judged(lose(3)).iloc[0]["outcome"] == "out of reach"
    infeasible = [row | {"status": "infeasible", "effect": np.nan} for row in rows[:1]]
    row = judged(infeasible + rows[1:]).iloc[0]
    assert (row["cells"], row["infeasible"], row["out_of_reach"]) == (11, 1, 0)


def test_fresh_seeds_have_an_interval_of_their_own():
    rows = effect_rows(CLEAR, seeds=(3, 4, 5), noise=0.001)
    rows[0]["below_floor"] = rows[1]["below_floor"] = rows[2]["below_floor"] = True
    row = judged(rows).iloc[0]
    half = stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
    assert row["high_seeds"] - row["low_seeds"] == pytest.approx(2 * half)
    assert row["at_lower_r2"] == 1


@pytest.mark.slow
def test_size_and_power_of_the_rule():
    from bench import power

    effects = {"detection_auc": 0.0, "ms": 0.0}
    by_backbone = power.SCENARIOS["by backbone"]
    design = power.DESIGNS["fair"]
    nothing = power.shares_shown(design, by_backbone, effects, runs=300)
    size = nothing.loc["detection_auc", "any_shown"]
    # Independent blocks: any is shown in 5 % of worlds, within three standard errors.
    assert size < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
    effects = {"detection_auc": 0.03, "ms": 0.03}
    clear = power.shares_shown(design, by_backbone, effects, runs=100)
    assert clear.loc["detection_auc", "shown"] > 0.9
    # Through trials: fronts, and pairs, have the effect that is there.
    with_trials = power.shares_shown(design, by_backbone, effects, runs=20, price=0.0)
    for reading in ("effect", "equal_r2", "pairs"):
        assert with_trials.loc["ms", reading] == pytest.approx(0.03, abs=0.003)


def test_the_smallest_effect_that_is_found_lies_between_two_that_were_asked():
    from bench import power

    powers = {0.02: 0.9, 0.0: 0.05, 0.01: 0.6}
    assert power.smallest_effect(powers) == pytest.approx(0.01 + 0.01 * 0.2 / 0.3)
    assert power.smallest_effect({0.0: 0.05, 0.01: 0.8}) == pytest.approx(0.01)
    assert np.isnan(power.smallest_effect({0.0: 0.05, 0.01: 0.79}))


def test_a_world_without_spread_has_the_effects_that_were_put_in():
    from bench import power

    design = power.Design(datasets=3, ks=1, between=0.0, within=0.0)
    effects = {"detection_auc": 0.02, "ms": -0.01}
    world = power.World(np.random.default_rng(0), design, (0.5, 0.5, 0.0), effects)
    means = world.means(world.readings()).set_index(["method", "score"])
    for method in ("m0", "m1"):
        for score, effect in effects.items():
            assert means.loc[(method, score), "effect"] == pytest.approx(effect)
            assert means.loc[(method, score), "pairs"] == pytest.approx(effect)
            assert means.loc[(method, score), "cells"] == 9


@pytest.mark.parametrize(("name", "runs"), [("decisive", 25), ("demo", 15)])
def test_many_worlds_at_once_are_judged_as_each_by_the_rule(name, runs):
    from bench import power

    design = power.DESIGNS[name]
    shares = power.SCENARIOS["half by dataset"]
    at_once = power.shown_first(design, shares, 0.01, runs=runs)
    one_by_one = []
    for run in range(runs):
        effects = {"detection_auc": 0.01}
        world = power.World(np.random.default_rng(run), design, shares, effects)
        means = world.means(world.readings()).set_index("method")
        shown = [outcomes.is_shown(means.loc[m, "outcome"]) for m in ("m0", "m1")]
        one_by_one.append(shown)
    assert at_once.tolist() == one_by_one
    # Some are shown and some are not.
    assert 0.1 < at_once.mean() < 0.9
