"""Matched pairs: a method minus its baseline in the same trial.

At a *common point* a method and its baseline have the same learning rate, encoder
scale, AuxK weight and steps, and the method its own options at the middle of their
ranges. The two are twins. Of a grid, whose points are listed, the method has one trial
a point for each listed value of its own options, and all of these are twins of the
baseline's trial there; points at which the baseline is alone have none. Where both are
feasible, the pair's effect is the difference of the score on test; the difference of
R^2 stands beside it, at no price. This asks what a penalty does to the average recipe;
fronts ask about the best ones.
"""

from collections.abc import Mapping

import pandas as pd

from sae.comparison.fronts import TRIAL, FrontRule, root, validation_trials
from sae.comparison.scores import SCORES, values
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL, swept_options

COLUMNS = [*CELL, "method", "score", "points", "effect", "r2_difference"]


def effects(
    metrics: pd.DataFrame, against: Mapping[str, str | None], rule: FrontRule
) -> pd.DataFrame:
    """Return each method's mean pair effect in each cell, for each endpoint.

    Args:
        metrics: Tidy metrics of one protocol, MS across groups.
        against: {method: the method that it is compared with, or None of a baseline}.
        rule: What is feasible. Without `tuned` options there are no common points.

    Returns:
        Columns `COLUMNS`. `points`: how many pairs; `effect`: the mean difference of
        the score, signed so that more is better; `r2_difference`: that of R^2.
    """
    if not rule.tuned:
        return pd.DataFrame(columns=COLUMNS)
    trials = _tested_trials(metrics, rule)
    options = [name for name in swept_options(metrics) if trials[name].notna().any()]
    parts = []
    for score in ENDPOINTS:
        for method in dict.fromkeys(trials["method"]):
            baseline = root(str(method), against)
            if method not in against or baseline == method:
                continue
            of_baseline = trials[trials["method"] == baseline]
            of_method = trials[trials["method"] == method]
            twins = _twins(of_method, of_baseline, options, is_grid=rule.grid)
            cells = _cell_means(twins, score)
            parts.append(cells.assign(method=method, score=score))
    not_empty = [part for part in parts if len(part)]
    if not not_empty:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(not_empty, ignore_index=True)[COLUMNS]


def _tested_trials(metrics: pd.DataFrame, rule: FrontRule) -> pd.DataFrame:
    """Return the trials that validation knows, with options and scores on test."""
    trials = validation_trials(metrics, rule)
    rows = metrics[metrics["split"] == "test"]
    if rule.tuning is not None:
        rows = rows[rows["seed"] == rule.tuning]
    tests = rows[[*TRIAL, *swept_options(rows)]].assign(test_r2=values(rows, "r2"))
    for score in ENDPOINTS:
        tests[f"test_{score}"] = SCORES[score].of(rows)
    return trials.merge(tests.drop_duplicates(TRIAL), on=TRIAL)


def _twins(
    of_method: pd.DataFrame,
    of_baseline: pd.DataFrame,
    options: list[str],
    *,
    is_grid: bool,
) -> pd.DataFrame:
    """Return a row for each pair of twins that are both feasible."""
    shared = [name for name in options if of_baseline[name].notna().any()]
    own_options = [name for name in options if name not in shared]
    # At points that were drawn, own options have one value a cell, their middle; trials
    # with other values were put where the method promised most.
    if own_options and not is_grid:
        of_method = _with_most_frequent(of_method, own_options)
    point = [*CELL, *shared]
    twins = of_method.merge(of_baseline, on=point, suffixes=("_own", "_base"))
    return twins[twins["feasible_own"] & twins["feasible_base"]]


def _with_most_frequent(trials: pd.DataFrame, options: list[str]) -> pd.DataFrame:
    """Return the trials with the most frequent values of some options in each cell."""
    parts = []
    for _, cell in trials.groupby(CELL, sort=False):
        groups = cell.groupby(options, sort=False, dropna=False)
        most_frequent = groups.size().to_numpy().argmax()
        parts.append(cell[groups.ngroup() == most_frequent])
    return pd.concat(parts)


def _cell_means(twins: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the mean effect over the pairs of each cell."""
    difference = twins[f"test_{score}_own"] - twins[f"test_{score}_base"]
    r2_difference = twins["test_r2_own"] - twins["test_r2_base"]
    effect = SCORES[score].better * difference
    pairs = twins[CELL].assign(effect=effect, r2_difference=r2_difference).dropna()
    cells = pairs.groupby(CELL, sort=False)
    means = cells[["effect", "r2_difference"]].mean()
    return means.assign(points=cells.size()).reset_index()
