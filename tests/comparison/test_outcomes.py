"""Effects over crossed blocks, their tests together, and every outcome."""

import numpy as np
import pandas as pd
import pytest
from sae.comparison.outcomes import Readings
from sae.comparison.pairs import COLUMNS as PAIR_COLUMNS
from sae.scoring.front import DETECTION, MS
from scipy import stats

from sae.comparison import intervals, outcomes

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


def judged(rows, equal_r2=None, pairs=None, pictures=None):
    """Return the means of effects, with other readings if they are given."""
    table = pd.DataFrame(rows)
    equal = table[:0] if equal_r2 is None else pd.DataFrame(equal_r2)
    if pairs is None:
        pairs = pd.DataFrame(columns=PAIR_COLUMNS)
    return outcomes.means(
        Readings(table, equal, pairs),
        FAMILIES,
        intervals.IntervalRule(),
        pictures or {},
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


# Of one method in one score, so that Holm's correction changes nothing.
@pytest.mark.parametrize(
    ("blocks", "outcome", "reason"),
    [
        (CLEAR, "better", None),
        ([-effect for effect in CLEAR], "worse", None),
        ([0.004, 0.005, 0.0045, 0.0042], "better, by less than .01", None),
        ([-0.004, -0.005, -0.0045, -0.0042], "worse, by less than .01", None),
        ([0.001, -0.001, 0.002, -0.001], "equivalent within .01", None),
        # The 95 % interval reaches beyond .01, that of 90 % does not.
        ([0.0078, 0.0002, 0.0078, 0.0002], "equivalent within .01", None),
        ([0.0086, -0.0006, 0.0086, -0.0006], "inconclusive", None),
        ([0.03, -0.03, 0.02, -0.01], "inconclusive", None),
    ],
)
def test_an_effect_has_the_outcome_of_its_size_and_spread(blocks, outcome, reason):
    row = judged(effect_rows(blocks)).iloc[0]
    test = stats.ttest_1samp(blocks, 0)
    ends = tuple(test.confidence_interval(0.9))
    assert (row["low_one_sided"], row["high_one_sided"]) == pytest.approx(ends)
    # Two one-sided tests at .05 say the same as the interval.
    below = stats.ttest_1samp(blocks, 0.01, alternative="less").pvalue
    above = stats.ttest_1samp(blocks, -0.01, alternative="greater").pvalue
    assert ("less than .01" in outcome or "within .01" in outcome) == (
        max(below, above) < 0.05
    )
    assert outcome.startswith(("better", "worse")) == (test.pvalue < 0.05)
    assert (row["outcome"], row["reason"]) == (outcome, reason)


def test_an_effect_is_better_by_less_where_the_narrow_interval_lies_within():
    # The mean is .006; half a 90 % interval of four blocks is 2.353 standard errors.
    spread = np.array([-1.0, 1.0, -1.0, 1.0])
    error = spread.std(ddof=1) / 2
    for half, outcome in ((0.00399, "better, by less than .01"), (0.00401, "better")):
        blocks = 0.006 + half / (stats.t.ppf(0.95, 3) * error) * spread
        assert stats.ttest_1samp(blocks, 0).pvalue < 0.05
        assert judged(effect_rows(blocks)).iloc[0]["outcome"] == outcome


def test_too_few_blocks_are_not_comparable():
    of_one_dataset = [row for row in effect_rows(CLEAR) if row["dataset"] == "d"]
    row = judged(of_one_dataset).iloc[0]
    assert (row["outcome"], row["reason"]) == ("not comparable", "too few blocks")
    assert (row["blocks"], row["datasets"]) == (2, 1) and np.isnan(row["p_holm"])
    # Each backbone a family of its own: three blocks.
    table = pd.DataFrame(of_one_dataset)
    none = table[:0]
    row = outcomes.means(
        Readings(table, none, none), {}, intervals.IntervalRule()
    ).iloc[0]
    assert row["blocks"] == 3 and row["outcome"] == "better"
    two = intervals.IntervalRule(min_blocks=2)
    row = outcomes.means(Readings(table, none, none), FAMILIES, two).iloc[0]
    assert row["outcome"] != "not comparable"


def test_other_readings_stand_beside_and_decide_nothing():
    rows = effect_rows(CLEAR)
    against = effect_rows([-effect for effect in CLEAR])
    pairs = pd.DataFrame(against).assign(points=3, r2_difference=-0.002)
    row = judged(rows, equal_r2=against, pairs=pairs).iloc[0]
    assert row["outcome"] == "better"
    assert row["equal_r2"] == row["pairs"] == pytest.approx(-row["effect"])
    assert row["equal_r2_cells"] == row["pairs_cells"] == 12
    assert row["pairs_r2"] == pytest.approx(-0.002)


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
    assert row["p"] < 0.05 and not row["same_sign"]
    assert row["outcome"] == "inconclusive"
    assert row["reason"] == "datasets differ in sign"


def test_holm_corrects_for_methods_and_both_scores_together():
    blocks = {
        ("one", DETECTION): CLEAR,
        ("two", DETECTION): [0.03, -0.03, 0.02, -0.01],
        ("one", MS): [0.02, 0.03, 0.012, 0.018],
        ("two", MS): [0.02, 0.04, 0.002, 0.022],
    }
    parts = []
    for (method, score), of_effect in blocks.items():
        parts += effect_rows(of_effect, score, method)
    parts += effect_rows(CLEAR, "purity", "one")
    table = judged(parts).set_index(["method", "score"])
    p = {
        key: stats.ttest_1samp(of_effect, 0).pvalue for key, of_effect in blocks.items()
    }
    # From the smallest: 4, 3, 2 and 1 times p, and none below the one before.
    by_hand = {
        ("one", DETECTION): 4 * p["one", DETECTION],
        ("one", MS): 3 * p["one", MS],
        ("two", MS): 2 * p["two", MS],
        ("two", DETECTION): p["two", DETECTION],
    }
    assert [*by_hand] == sorted(p, key=p.get) and by_hand["two", MS] < 1
    expected_outcomes = ["better", "better", "inconclusive", "inconclusive"]
    for (key, p_holm), outcome in zip(by_hand.items(), expected_outcomes, strict=True):
        assert table.loc[key, "p_holm"] == pytest.approx(p_holm)
        assert table.loc[key, "outcome"] == outcome
    assert p["two", MS] > 0.05 and table.loc[("two", MS), "reason"] is None
    assert pd.isna(table.loc[("one", "purity"), "outcome"])
    expected = intervals.smallest_found(np.array(CLEAR), 0.05 / 4)
    assert table.loc[("one", DETECTION), "smallest"] == pytest.approx(expected)


def test_what_passes_before_the_correction_alone_is_inconclusive_and_says_so():
    weak = [0.02, 0.032, 0.004, 0.02]
    p = stats.ttest_1samp(weak, 0).pvalue
    assert 0.025 < p < 0.05
    table = judged(effect_rows(weak, DETECTION) + effect_rows(weak, MS))
    assert table["outcome"].tolist() == ["inconclusive"] * 2
    assert table["reason"].tolist() == ["before Holm's correction"] * 2
    # Alone in its family it passes; MS is tested where nobody can be a judge, too.
    assert judged(effect_rows(weak, MS)).iloc[0]["outcome"] == "better"


def six_datasets(blocks):
    """Return effects on six datasets, of two families each, (datasets, 2)."""
    parts = []
    for number in range(0, len(blocks), 2):
        pair = [*blocks[number], *blocks[number + 1]]
        for row in effect_rows(pair):
            dataset = f"{number + (row['dataset'] == 'e')}"
            parts.append(row | {"dataset": dataset})
    return parts


def test_from_six_datasets_on_the_dataset_is_the_unit():
    blocks = [(0.01, 0.03), (0.02, 0.04), (0.0, 0.01), (0.03, 0.01), (0.02, 0.02)]
    blocks.append((0.01, -0.002))
    six = judged(six_datasets(blocks)).iloc[0]
    expected = stats.ttest_1samp([np.mean(pair) for pair in blocks], 0)
    assert (six["unit"], six["blocks"], six["datasets"]) == ("dataset", 6, 6)
    assert six["p"] == pytest.approx(expected.pvalue)
    ends = tuple(expected.confidence_interval(0.95))
    assert (six["low"], six["high"]) == pytest.approx(ends)
    assert six["cells"] == 36 and six["outcome"] == "better"
    # With five the blocks are those of datasets and families.
    rows = [row for row in six_datasets(blocks) if row["dataset"] != "5"]
    five = judged(rows).iloc[0]
    expected = stats.ttest_1samp(np.ravel(blocks[:5]), 0)
    assert (five["unit"], five["blocks"]) == ("dataset and family", 10)
    assert five["p"] == pytest.approx(expected.pvalue)


def test_datasets_of_the_same_pictures_count_as_one():
    blocks = [(0.02, 0.03), (0.03, 0.05), (0.01, 0.02), (0.02, 0.03), (0.03, 0.04)]
    blocks.append((-0.01, -0.01))
    rows = six_datasets(blocks)
    pictures = {"0": "a", "1": "a", "2": "b", "3": "b", "5": "4"}
    by_pictures = judged(rows, pictures=pictures).iloc[0]
    assert (by_pictures["unit"], by_pictures["datasets"]) == ("dataset and family", 3)
    means = [np.mean(blocks[first : first + 2], axis=0) for first in (0, 2, 4)]
    expected = stats.ttest_1samp(np.ravel(means), 0)
    assert by_pictures["p"] == pytest.approx(expected.pvalue)
    assert by_pictures["outcome"] == "better"

    by_name = judged(rows).iloc[0]
    assert by_name["unit"] == "dataset" and not by_name["same_sign"]


def test_cells_out_of_reach_are_in_no_mean_and_many_prevent_a_test():
    rows = effect_rows(CLEAR)

    def lose(count):
        changed = {name: np.nan for name in ("effect", "seed", *outcomes.BESIDE)}
        changed["status"] = "out of reach"
        changed["fresh"] = False
        return [row | changed for row in rows[:count]] + rows[count:]

    two = judged(lose(2)).iloc[0]
    assert (two["cells"], two["out_of_reach"]) == (10, 2)
    assert two["outcome"] == "better"
    three = judged(lose(3)).iloc[0]
    assert (three["outcome"], three["reason"]) == ("not comparable", "out of reach")
    infeasible = [row | {"status": "infeasible", "effect": np.nan} for row in rows[:1]]
    row = judged(infeasible + rows[1:]).iloc[0]
    assert (row["cells"], row["infeasible"], row["out_of_reach"]) == (11, 1, 0)
    assert row["outcome"] == "better"
    none = [row | {"status": "infeasible", "effect": np.nan} for row in rows]
    row = judged(none).iloc[0]
    assert (row["outcome"], row["reason"]) == ("not comparable", "no feasible trial")


def test_fresh_seeds_have_an_interval_of_their_own():
    rows = effect_rows(CLEAR, seeds=(3, 4, 5), noise=0.001)
    rows[0]["below_floor"] = rows[1]["below_floor"] = rows[2]["below_floor"] = True
    row = judged(rows).iloc[0]
    half = stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
    assert row["high_seeds"] - row["low_seeds"] == pytest.approx(2 * half)
    assert row["at_lower_r2"] == 1
