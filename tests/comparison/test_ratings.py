"""What people say of latents.

Shares and correlations are worked out by hand, intervals by simulation.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae.comparison import ratings
from sae.comparison.ratings import LATENT


def answers_of(rows):
    """Return answers (rater, method, latent, whether it is right) in one cell."""
    table = pd.DataFrame(rows, columns=["rater", "method", "latent", "correct"])
    return table.assign(
        dataset="d", backbone="b", k=8, correct=table["correct"].astype(float)
    )


def simulated(rng, raters, latents, difference, between_latents, between_raters):
    """Draw answers of raters to all latents of a baseline and of a method."""
    skill = rng.normal(0, between_raters, raters)
    rows = []
    for method, mean in (("topk", 0.7), ("reg1", 0.7 + difference)):
        chance = rng.normal(mean, between_latents, latents)
        probability = np.clip(chance[None] + skill[:, None], 0, 1)
        is_right = rng.random((raters, latents)) < probability
        rows += [
            (rater, method, latent, is_right[rater, latent])
            for rater in range(raters)
            for latent in range(latents)
        ]
    return answers_of(rows)


def test_shares_and_differences_by_hand():
    rows = [("a", "topk", 0, 1), ("a", "topk", 1, 0), ("a", "reg1", 0, 1)]
    rows += [("b", "topk", 0, 0.5), ("b", "topk", 2, 0), ("b", "reg1", 1, 1)]
    table = ratings.shares_right(answers_of(rows), ["topk", "reg1", "reg2"])
    topk, reg1 = table.to_dict("records")
    assert topk["share"] == 1.5 / 4 and topk["latents"] == 3 and topk["raters"] == 2
    assert reg1["share"] == 1 and reg1["difference"] == 1 - 1.5 / 4
    # Two raters say nothing of others.
    assert np.isnan(topk["low"]) and np.isnan(reg1["p"])
    assert reg1["outcome"] == ratings.TOO_FEW_RATERS


@pytest.mark.parametrize(
    ("between_latents", "between_raters"), [(0.15, 0.0), (0.0, 0.15), (0.15, 0.1)]
)
def test_intervals_hold_the_truth(between_latents, between_raters, monkeypatch):
    monkeypatch.setattr(ratings, "RESAMPLES", 200)
    rng = np.random.default_rng(1)
    runs = 80
    covered = 0
    shares = []
    half_widths = []
    for _ in range(runs):
        answers = simulated(rng, 12, 15, 0.0, between_latents, between_raters)
        table = ratings.shares_right(answers, ["topk", "reg1"])
        topk = table.iloc[0]
        covered += topk["low"] <= 0.7 <= topk["high"]
        shares.append(topk["share"])
        half_widths.append((topk["high"] - topk["low"]) / 2)
    # Of 80 intervals of 95 %, 71 or more hold the truth with a probability of .99; one
    # that takes answers for independent holds it in about 50.
    assert covered >= 71
    needed = stats.t.ppf(0.975, 11) * np.std(shares, ddof=1)
    assert np.mean(half_widths) < 1.4 * needed


def test_a_difference_that_is_there_is_found_and_none_where_none_is():
    rng = np.random.default_rng(2)
    outcomes = {}
    for difference in (0.2, 0.0):
        answers = simulated(rng, 20, 30, difference, 0.1, 0.05)
        reg1 = ratings.shares_right(answers, ["topk", "reg1"]).iloc[1]
        outcomes[difference] = reg1["outcome"]
        assert reg1["difference_low"] <= difference <= reg1["difference_high"]
    assert outcomes == {0.2: "better", 0.0: "inconclusive"}


def test_spearman_is_scipys_in_one_group():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 30).astype(float)
    second = first + rng.normal(0, 2, 30)
    group = np.zeros(30, int)
    expected = stats.spearmanr(first, second).statistic
    equal = np.ones(30)
    spearman = ratings.spearman_within(first, second, group, equal)
    assert spearman == pytest.approx(expected)
    assert np.isnan(ratings.spearman_within(equal, second, group, equal))
    # A weight of two is a latent that stands there twice, but for its rank.
    weights = rng.integers(1, 3, 30).astype(float)
    ranks = [stats.rankdata(values) for values in (first, second)]
    doubled = [np.repeat(values, weights.astype(int)) for values in ranks]
    expected = np.corrcoef(*doubled)[0, 1]
    spearman = ratings.spearman_within(first, second, group, weights)
    assert spearman == pytest.approx(expected)


def test_a_method_that_is_lower_in_both_makes_no_correlation():
    rng = np.random.default_rng(4)
    rows = [
        (rater, method, latent, rng.random() < chance)
        for rater in range(8)
        for method, chance in (("topk", 0.9), ("untrained", 0.5))
        for latent in range(40)
    ]
    answers = answers_of(rows)
    scores = answers.drop_duplicates(LATENT)[LATENT].reset_index(drop=True)
    is_control = scores["method"] == "untrained"
    scores["detection"] = np.where(is_control, 0.5, 0.9) + 0.1 * rng.random(80)
    (row,) = ratings.correlations(answers, scores).to_dict("records")
    assert row["low"] < 0 < row["high"]


def test_differences_are_within_cells():
    # Cell 2 is easier for all; reg1 was judged there alone, reg2 in cell 1 alone.
    rows = []
    for cell, share in ((1, 0.5), (2, 1.0)):
        for rater in range(4):
            for method in ("topk", {1: "reg2", 2: "reg1"}[cell]):
                for latent in range(4):
                    rows.append((rater, method, latent, latent < 4 * share, cell))
    columns = ["rater", "method", "latent", "correct", "k"]
    answers = pd.DataFrame(rows, columns=columns).assign(dataset="d", backbone="b")
    answers["correct"] = answers["correct"].astype(float)
    table = ratings.shares_right(answers, ["topk", "reg1", "reg2"])
    assert list(table["share"]) == [0.75, 1, 0.5]
    assert list(table["difference"][1:]) == [0, 0]


def test_where_all_are_right_nothing_differs():
    rows = [
        (rater, method, latent, 1)
        for rater in range(5)
        for method in ("topk", "reg1", "untrained")
        for latent in range(10)
    ]
    methods = ["topk", "reg1", "untrained"]
    table = ratings.shares_right(answers_of(rows), methods, ["untrained"])
    assert list(table["outcome"][1:]) == ["equivalent within .05", ratings.CONTROL]
    assert list(table["low"]) == [1, 1, 1] and np.isnan(table["p_holm"].iloc[2])


def test_answers_go_with_the_score_that_decides_them():
    rng = np.random.default_rng(3)
    chance = np.linspace(0.5, 1, 40)
    rows = [
        (rater, "topk", latent, rng.random() < chance[latent])
        for rater in range(15)
        for latent in range(40)
    ]
    answers = answers_of(rows)
    scores = answers.drop_duplicates(LATENT)[LATENT].reset_index(drop=True)
    scores["detection"] = chance[scores["latent"]]
    scores["ms"] = rng.random(40)
    table = ratings.correlations(answers, scores).set_index("score")
    assert list(table.index) == ["detection", "ms"]
    assert table.loc["detection", "low"] > 0.6
    assert table.loc["ms", "low"] < 0 < table.loc["ms", "high"]

    points = ratings.psychometric(answers, scores, "detection")
    assert (
        points["share"].is_monotonic_increasing and list(points["latents"]) == [10] * 4
    )
    expected = [np.mean(part) for part in np.split(chance, 4)]
    assert points["score"].to_numpy() == pytest.approx(expected)
