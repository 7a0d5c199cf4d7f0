"""Matched pairs: a method minus its baseline in the same trial, at a price for R^2.

At a *common point* a method and its baseline have the same learning rate, encoder
scale, AuxK weight and steps, and the method its own options at the middle of their
ranges. The two are twins. Of a grid, whose points are listed, the method has one trial
a point for each listed value of its own options, and all of these are twins of the
baseline's trial there; points at which the baseline is alone have none. Where both are
feasible, the pair's effect is the difference on test of

    score + kappa R^2,

where kappa is what the baseline pays in score for R^2: minus the slope of the score on
R^2 over the vertices of its fronts. So a method is not credited for what it loses in
R^2. This asks what a penalty does to the average recipe; fronts ask about the best
ones.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sae.comparison.fronts import TRIAL, FrontRule, root, validation_trials
from sae.comparison.scores import SCORES, values
from sae.scoring import front
from sae.scoring.front import ENDPOINTS
from sae.scoring.rows import CELL, swept_options

NEAR = 0.02  # of R^2 below R*: vertices further left say nothing about kappa
COLUMNS = [*CELL, "method", "score", "points", "effect", "r2_difference", "kappa"]


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
        score + kappa R^2, signed so that more is better; `r2_difference`: that of R^2.
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
            price = kappa(of_baseline, score)
            of_method = trials[trials["method"] == method]
            twins = _twins(of_method, of_baseline, options, is_grid=rule.grid)
            cells = _cell_means(twins, score, price)
            parts.append(cells.assign(method=method, score=score))
    not_empty = [part for part in parts if len(part)]
    if not not_empty:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(not_empty, ignore_index=True)[COLUMNS]


def kappa(baseline: pd.DataFrame, score: str) -> float:
    """Return what the baseline pays in a score for R^2.

    It is minus the slope of the score on R^2, both on test, over the vertices of its
    fronts that lie within `NEAR` of R* on validation; the means of cells are removed.
    One value for all cells. The vertices alone trade one for the other: of trials that
    were badly trained both are low. It is not below 0, so that no loss of R^2 is
    credited, and NaN where no cell has two such vertices.

    Args:
        baseline: Its rows of :func:`_tested_trials`.
        score: An endpoint.
    """
    parts = []
    for _, cell in baseline.groupby(CELL, sort=False):
        vertices = front.vertices(cell, score, SCORES[score].better)
        near = vertices[vertices["r2"] >= front.best_r2(cell) - NEAR]
        parts.append(near[["test_r2", f"test_{score}"]].dropna())
    centred = [part - part.mean() for part in parts if len(part)]
    if not centred:
        return np.nan
    r2, scores = pd.concat(centred).to_numpy(float).T
    spread = float(r2 @ r2)
    if spread == 0:
        return np.nan
    return max(0.0, -SCORES[score].better * float(r2 @ scores) / spread)


def _tested_trials(metrics: pd.DataFrame, rule: FrontRule) -> pd.DataFrame:
    """Return the trials that validation knows, with their options and scores on test.

    Columns beside those of `validation_trials`: the swept options, and `test_r2` and
    `test_SCORE` of each endpoint.
    """
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
    """Return a row for each pair of twins that are both feasible.

    Args:
        of_method: The method's trials, of :func:`_tested_trials`.
        of_baseline: The baseline's.
        options: The swept options.
        is_grid: Whether every value of the method's own options was tried at all of its
            points.

    Returns:
        Columns of the method's twin end in `_own`, those of the baseline's in `_base`.
    """
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


def _cell_means(twins: pd.DataFrame, score: str, price: float) -> pd.DataFrame:
    """Return the mean effect over the pairs of each cell.

    Args:
        twins: Of :func:`_twins`.
        score: An endpoint.
        price: What a unit of R^2 costs in the score: kappa.
    """
    difference = twins[f"test_{score}_own"] - twins[f"test_{score}_base"]
    r2_difference = twins["test_r2_own"] - twins["test_r2_base"]
    effect = SCORES[score].better * difference + price * r2_difference
    pairs = twins[CELL].assign(effect=effect, r2_difference=r2_difference).dropna()
    cells = pairs.groupby(CELL, sort=False)
    means = cells[["effect", "r2_difference"]].mean()
    return means.assign(points=cells.size(), kappa=price).reset_index()
