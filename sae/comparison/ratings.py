"""What people say of latents: shares right, their differences, and correlations.

In a task a person sees nine images on which a latent fires and nine on which it is
silent, and says on which of two further images it fires. The latent fires on one of
them, drawn among all others on which it does; on the other it is silent. So the share
right is an area under the ROC curve, with a person in the place that another
backbone has in detection. The task is kin to that of Zimmermann et al., "How Well
do Feature Visualizations Support Causal Understanding of CNN Activations?" (NeurIPS
2021).

Answers share raters, and they share latents: errors are clustered in two ways. Three
bootstraps say how much a number varies: raters are drawn with replacement, latents are
(within their cell and method), single answers are. The variance is that over raters
plus that over latents minus that over answers, which the first two both hold (Cameron,
Gelbach and Miller, "Robust Inference with Multiway Clustering", JBES 2011), and no
less than either of the first two. Intervals and p values are Student's t, with as many
degrees of freedom as there are raters or latents, whichever are fewer, less one.
`bench/judging.py` shows how often they hold the truth.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sae.comparison.intervals import IntervalRule, holm, t_quantile, t_test
from sae.comparison.verdicts import word

RESAMPLES = 1000  # of each of the three bootstraps
SEED = 0
RULE = IntervalRule()
# A difference of shares right within this of 0 is negligible. Detection has .01, which
# would take thousands of raters.
NEGLIGIBLE = 0.05
FEWEST_RATERS = 3
FEWEST_LATENTS = 3
TOO_FEW_RATERS = "not comparable: too few raters"
CONTROL = "control"  # what a difference is worth: not tested
# What is set beside people's answers, latent by latent: columns of a study.
SCORES = ("detection", "ms")

# What identifies a latent, and in what it is drawn.
LATENT = ["dataset", "backbone", "k", "method", "latent"]


# What a statistic is computed from: how often each answer counts, (answers,).
Statistic = Callable[[np.ndarray], Float[np.ndarray, " statistics"]]


def shares_right(
    answers: pd.DataFrame, methods: Sequence[str], controls: Collection[str] = ()
) -> pd.DataFrame:
    """Return by method the share of answers that are right, and what differs.

    A difference is taken within cells, and averaged over the method's answers; cells
    in which the baseline was not rated are in no difference.

    Args:
        answers: A row for each answer: `rater`, the columns `LATENT`, and `correct`, 1,
            0 or .5 of "cannot tell", which is worth a guess.
        methods: The methods in order, the baseline first.
        controls: Those of the methods that are controls. They say what a difference is
            worth, and take no part in Holm's correction.

    Returns:
        A row for each method that has answers: method, raters, latents, answers, share,
        low, high; and, but for the baseline, difference, difference_low,
        difference_high, p, p_holm (over the methods), outcome.
    """
    shown = [method for method in methods if (answers["method"] == method).any()]
    cell_of_answer = answers.groupby(LATENT[:-2], sort=True).ngroup().to_numpy()
    # (cells, methods, answers)
    is_cell = cell_of_answer == np.arange(cell_of_answer.max() + 1)[:, None]
    is_method = np.array([answers["method"] == method for method in shown])
    is_group = is_cell[:, None] & is_method
    correct = answers["correct"].to_numpy(float)

    def shares_and_differences(weights: np.ndarray) -> np.ndarray:
        counts = is_group @ weights
        correct_counts = is_group @ (weights * correct)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = correct_counts.sum(axis=0) / counts.sum(axis=0)
            share_by_cell = correct_counts / counts
            differences = share_by_cell - share_by_cell[:, :1]
            is_known = ~np.isnan(differences)
            cell_weights = np.where(is_known, counts, 0)
            total = np.where(is_known, differences, 0) * cell_weights
            mean_differences = total.sum(axis=0) / cell_weights.sum(axis=0)
        return np.concatenate([shares, mean_differences])

    estimates = estimate(answers, shares_and_differences)
    rows = []
    for place, method in enumerate(shown):
        of_method = answers[answers["method"] == method]
        share = estimates[place]
        row = {
            "method": method,
            "raters": of_method["rater"].nunique(),
            "latents": _count_latents(of_method),
            "answers": len(of_method),
            "share": share.value,
            "low": np.clip(share.low, 0, 1),
            "high": np.clip(share.high, 0, 1),
        }
        if place > 0 and shown[0] == methods[0]:
            difference = estimates[len(shown) + place]
            row["difference"] = difference.value
            row["difference_low"] = difference.low
            row["difference_high"] = difference.high
            row["p"] = difference.p
            row["largest"] = difference.largest
        rows.append(row)

    table = pd.DataFrame(rows)
    if "p" not in table:
        return table
    is_control = table["method"].isin(controls)
    table["p_holm"] = holm(table["p"].where(~is_control))
    table["outcome"] = [
        CONTROL if row.method in controls else _outcome(row)
        for row in table.itertuples()
    ]
    return table.drop(columns="largest")


def correlations(answers: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return how people's answers go with other scores of the same latents.

    Spearman's correlation over latents between the observed share of right answers on
    a latent and its score. Ranks are those within a cell and method, so that no method
    makes it by being lower in both; latents weigh as the answers that they have. It is
    of the observed shares: with few answers a latent they are noisy, and it lies nearer
    to 0 than that of the true ones.

    Args:
        answers: As for :func:`shares_right`.
        scores: The columns `LATENT` and some of `SCORES`, a row for each latent.

    Returns:
        A row for each score that any rated latent has: score, latents, correlation,
        low, high.
    """
    correct = answers["correct"].to_numpy(float)
    latents = answers.groupby(LATENT, sort=True)
    number_of_latent = latents.ngroup().to_numpy()
    keys = latents.size().reset_index()[LATENT]
    score_by_latent = keys.merge(scores, on=LATENT, how="left", validate="one_to_one")
    group_of_latent = keys.groupby(LATENT[:-1], sort=True).ngroup().to_numpy()

    rows = []
    for score in SCORES:
        if score not in score_by_latent:
            continue
        values = score_by_latent[score].to_numpy(float)
        has_score = ~np.isnan(values)
        if has_score.sum() < FEWEST_LATENTS:
            continue

        def correlation(
            weights: np.ndarray,
            values: np.ndarray = values,
            has_score: np.ndarray = has_score,
        ) -> np.ndarray:
            total = np.bincount(number_of_latent, weights)
            correct_total = np.bincount(number_of_latent, weights * correct)
            is_drawn = has_score & (total > 0)
            share = correct_total[is_drawn] / total[is_drawn]
            return np.array(
                [
                    spearman_within(
                        share,
                        values[is_drawn],
                        group_of_latent[is_drawn],
                        total[is_drawn],
                    )
                ]
            )

        (estimated,) = estimate(answers, correlation)
        row = {
            "score": score,
            "latents": int(has_score.sum()),
            "correlation": estimated.value,
            "low": np.clip(estimated.low, -1, 1),
            "high": np.clip(estimated.high, -1, 1),
        }
        rows.append(row)
    columns = ["score", "latents", "correlation", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def spearman_within(
    first: Float[np.ndarray, " latents"],
    second: Float[np.ndarray, " latents"],
    groups: Int[np.ndarray, " latents"],
    weights: Float[np.ndarray, " latents"],
) -> float:
    """Return Spearman's correlation of ranks within groups, pooled over groups.

    NaN where either does not vary within any group.
    """
    first_ranks = _centred_ranks(first, groups, weights)
    second_ranks = _centred_ranks(second, groups, weights)
    variances = (weights @ first_ranks**2) * (weights @ second_ranks**2)
    if variances <= 0:
        return np.nan
    return float(weights @ (first_ranks * second_ranks) / np.sqrt(variances))


def _centred_ranks(
    values: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ranks within groups, from 0 to 1, less their weighted mean there."""
    ranks = np.zeros(len(values))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        of_group = (_midranks(values[rows]) - 0.5) / len(rows)
        ranks[rows] = of_group - np.average(of_group, weights=weights[rows])
    return ranks


def _midranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1 on; equal values have the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    return (last_rank - (counts - 1) / 2)[place]


def psychometric(
    answers: pd.DataFrame, scores: pd.DataFrame, score: str
) -> pd.DataFrame:
    """Return by method the share right on latents of a low to a high score.

    Args:
        answers: As for :func:`shares_right`.
        scores: As for :func:`correlations`.
        score: The score; four bins hold as many of the rated latents each.

    Returns:
        Columns method, score (the mean of a bin's rated latents), share, low, high,
        latents.
    """
    table = answers.merge(scores[[*LATENT, score]], on=LATENT).dropna(subset=score)
    columns = ["method", "score", "share", "low", "high", "latents"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    by_latent = table.drop_duplicates(LATENT)
    edges = np.quantile(by_latent[score], np.linspace(0, 1, 5))
    bin_of_answer = np.searchsorted(edges, table[score], "right") - 1
    table["bin"] = np.clip(bin_of_answer, 0, 3)
    rows = []
    for (method, _), answers_of_bin in table.groupby(["method", "bin"], sort=True):
        share = shares_right(answers_of_bin, [method]).iloc[0]
        row = {
            "method": method,
            "score": answers_of_bin.drop_duplicates(LATENT)[score].mean(),
            "share": share["share"],
            "low": share["low"],
            "high": share["high"],
            "latents": share["latents"],
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def estimate(answers: pd.DataFrame, statistic: Statistic) -> list[Any]:
    """Return a statistic of answers with its intervals.

    Args:
        answers: As for :func:`shares_right`.
        statistic: What is computed of them, by how often each answer counts.

    Returns:
        A row for each number that the statistic gives, NaN where it is not known:
        `value`; `low`, `high`, the ends of its interval; `p` of the test that the true
        value is 0; `largest`, the larger distance from 0 of the ends of the interval of
        two one-sided tests, of 90 %. With too few raters all but `value` are NaN.
    """
    values = statistic(np.ones(len(answers)))
    raters = answers["rater"].nunique()
    latents = _count_latents(answers)
    if raters < FEWEST_RATERS or latents < FEWEST_LATENTS:
        unknown = {name: np.nan for name in ("low", "high", "p", "largest")}
        return [*pd.DataFrame({"value": values, **unknown}).itertuples(index=False)]

    rng = np.random.default_rng(SEED)
    rater_of_answer = pd.factorize(answers["rater"])[0]
    latent_of_answer = answers.groupby(LATENT, sort=True).ngroup().to_numpy()
    method_of_answer = answers.groupby(LATENT[:-1], sort=True).ngroup().to_numpy()
    one_stratum = np.zeros(len(answers), int)
    over_raters = _variance(rng, statistic, rater_of_answer, one_stratum)
    over_latents = _variance(rng, statistic, latent_of_answer, method_of_answer)
    every_answer = np.arange(len(answers))
    over_answers = _variance(rng, statistic, every_answer, method_of_answer)

    variance = over_raters + over_latents - over_answers
    variance = np.maximum(variance, np.maximum(over_raters, over_latents))
    error = np.sqrt(variance)
    freedom = min(raters, latents) - 1
    half_width = t_quantile(freedom, RULE.confidence) * error
    largest = np.abs(values) + t_quantile(freedom, RULE.one_sided) * error
    p = t_test(values, error, freedom)
    estimates = pd.DataFrame(
        {
            "value": values,
            "low": values - half_width,
            "high": values + half_width,
            "p": p,
            "largest": largest,
        }
    )
    return [*estimates.itertuples(index=False)]


def _variance(
    rng: np.random.Generator,
    statistic: Statistic,
    cluster_of_answer: np.ndarray,
    stratum_of_answer: np.ndarray,
) -> np.ndarray:
    """Return how much a statistic varies when clusters are drawn within strata."""
    cluster_count = int(cluster_of_answer.max()) + 1
    stratum_of_cluster = np.zeros(cluster_count, int)
    stratum_of_cluster[cluster_of_answer] = stratum_of_answer
    times_drawn = np.zeros((RESAMPLES, cluster_count))
    for stratum in np.unique(stratum_of_cluster):
        clusters = np.flatnonzero(stratum_of_cluster == stratum)
        count = len(clusters)
        equal_chances = np.full(count, 1 / count)
        times_drawn[:, clusters] = rng.multinomial(count, equal_chances, RESAMPLES)
    resampled = pd.DataFrame(
        [statistic(times[cluster_of_answer]) for times in times_drawn]
    )
    # A statistic that a resample does not have is in no variance.
    return resampled.var(ddof=1).to_numpy()


def _count_latents(answers: pd.DataFrame) -> int:
    return len(answers.drop_duplicates(LATENT))


def _outcome(row: Any) -> str | None:
    """Say in a word how a method differs from the baseline; None of the baseline."""
    if np.isnan(row.difference):
        return None
    if np.isnan(row.difference_low):
        return TOO_FEW_RATERS
    return word(
        row.difference,
        differs=row.p_holm < RULE.level,
        is_small=row.largest < NEGLIGIBLE,
        margin=NEGLIGIBLE,
    )
