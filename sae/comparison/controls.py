"""What a score is worth: the controls beside the trained baseline.

A control (`control` in config.yaml) has not learned what the baseline has: it is
untrained, in part or wholly, or no SAE at all. Where it scores as high, the score does
not tell a trained SAE from such a thing, and a difference in it tells nothing.
"""

import itertools
from collections.abc import Iterable
from math import nan

import pandas as pd

from sae.comparison.bootstrap import wider_interval
from sae.comparison.methods import Methods
from sae.comparison.scores import across_groups, by_run
from sae.config.rule import ClaimRule
from sae.scoring.selection import CELL

ALL = "all datasets"  # the name of the rows over all datasets
COLUMNS = [
    "dataset",
    "score",
    "baseline",
    "control",
    "value",
    "difference",
    "low",
    "high",
    "tells_nothing",
]
IMPORTED = ["method", "score", "value", "baseline", "cells"]


def compare(
    picked: pd.DataFrame, names: Methods, scores: Iterable[str], rule: ClaimRule
) -> pd.DataFrame:
    """Compare each control with the baseline, for each dataset and score.

    Rows over all datasets (`ALL`) come last, where there are several datasets. In these
    MS is across groups, where a dataset has groups.

    Args:
        picked: Of :func:`sae.scoring.selection.chosen_rows`, on test.
        names: The experiment's methods.
        scores: Names in `SCORES`; of all of these, more is better.
        rule: The rule of intervals.

    Returns:
        Columns `COLUMNS`. `baseline`, `value`: the means of the baseline and of the
        control over the runs that both have; `difference`: the mean over cells of their
        difference; `low`, `high`: its interval, NaN with fewer blocks than the rule
        asks for; `tells_nothing`: whether the interval reaches 0. A score that either
        lacks has no row.
    """
    rows_by_dataset = list(picked.groupby("dataset", sort=False))
    if len(rows_by_dataset) > 1:
        rows_by_dataset.append((ALL, across_groups(picked)))

    compared = []
    for baseline, (dataset, rows), score, control in itertools.product(
        names.baselines[:1], rows_by_dataset, scores, names.controls
    ):
        if dataset == ALL and score.endswith("_across"):
            continue  # Over all datasets the score itself is across groups.
        of_baseline = by_run(rows[rows["method"] == baseline], score)
        of_control = by_run(rows[rows["method"] == control], score)
        difference = (of_control - of_baseline).dropna()
        if difference.empty:
            continue
        low, high = _interval(difference, rule)
        compared.append(
            {
                "dataset": dataset,
                "score": score,
                "baseline": of_baseline[difference.index].mean(),
                "control": control,
                "value": of_control[difference.index].mean(),
                "difference": difference.groupby(CELL).mean().mean(),
                "low": low,
                "high": high,
                "tells_nothing": high >= 0,
            }
        )
    return pd.DataFrame(compared, columns=COLUMNS).astype({"tells_nothing": bool})


def _interval(difference: pd.Series, rule: ClaimRule) -> tuple[float, float]:
    blocks = difference.groupby(["dataset", "backbone"]).ngroups
    if blocks < rule.min_blocks:
        return nan, nan
    return wider_interval(difference, rule)


def imported_beside(
    picked: pd.DataFrame, names: Methods, scores: Iterable[str]
) -> pd.DataFrame:
    """Put SAEs that were made elsewhere beside the trained baseline.

    `sae.comparison.card.read_cells` reads them at their own R^2.

    Args:
        picked: Of :func:`sae.scoring.selection.chosen_rows`, on test, MS across groups.
        names: The experiment's methods.
        scores: Names in `SCORES`.

    Returns:
        Columns `IMPORTED`: the means of a method and of the baseline over the cells
        that both have. Where the baseline has none of them, its mean is NaN, and the
        method's is over all of its own.
    """
    rows = []
    for method, score in itertools.product(names.imported, scores):
        by_cell = _cell_means(picked[picked["method"] == method], score)
        baseline_mean = nan
        if names.baselines:
            is_baseline = picked["method"] == names.baselines[0]
            baseline_by_cell = _cell_means(picked[is_baseline], score)
            common_cells = by_cell.index.intersection(baseline_by_cell.index)
            if len(common_cells):
                by_cell = by_cell.loc[common_cells]
                baseline_mean = baseline_by_cell.loc[common_cells].mean()
        if len(by_cell):
            rows.append(
                {
                    "method": method,
                    "score": score,
                    "value": by_cell.mean(),
                    "baseline": baseline_mean,
                    "cells": len(by_cell),
                }
            )
    return pd.DataFrame(rows, columns=IMPORTED)


def _cell_means(rows: pd.DataFrame, score: str) -> pd.Series:
    return by_run(rows, score).dropna().groupby(CELL).mean()
