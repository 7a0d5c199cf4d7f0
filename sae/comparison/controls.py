"""What a score is worth: the controls (`control` in config.yaml) beside the trained baseline.

A control has not learned what the baseline has: it is untrained, in part or wholly, or no SAE at all. Where it scores
as high, the score does not tell a trained SAE from such a thing, and a difference in it tells nothing.
"""

import itertools
from collections.abc import Iterable
from math import nan

import pandas as pd

from sae.comparison.bootstrap import wider_interval
from sae.comparison.methods import Methods
from sae.comparison.scores import across_groups, by_run
from sae.config.rule import Rule
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


def compare(
    picked: pd.DataFrame, names: Methods, scores: Iterable[str], rule: Rule
) -> pd.DataFrame:
    """Each control's difference from the baseline, per dataset and score, then over all datasets (`ALL`).

    Args:
        picked: of :func:`sae.scoring.selection.chosen`, on test.
        scores: of `SCORES`; of all of these, more is better.

    Returns:
        Columns `COLUMNS`: means over cells and seeds; `low`, `high`, the interval of `difference`, NaN with fewer than
        `min_blocks` blocks; `tells_nothing`, whether it reaches 0. A score that either lacks has no row. Over all
        datasets MS is across groups, where a dataset has groups.
    """
    found, by_dataset = [], list(picked.groupby("dataset", sort=False))
    if len(by_dataset) > 1:
        by_dataset.append((ALL, across_groups(picked)))
    for baseline, (dataset, rows), score, control in itertools.product(
        names.baselines[:1], by_dataset, scores, names.controls
    ):
        if dataset == ALL and score.endswith("_across"):
            continue  # The score itself is across groups here.
        theirs, ours = (
            by_run(rows[rows["method"] == method], score)
            for method in (baseline, control)
        )
        difference = (ours - theirs).dropna()
        if difference.empty:
            continue
        enough = difference.groupby(["dataset", "backbone"]).ngroups >= rule.min_blocks
        low, high = wider_interval(difference, rule) if enough else (nan, nan)
        both = theirs[difference.index].mean(), control, ours[difference.index].mean()
        found.append(
            (
                dataset,
                score,
                *both,
                difference.groupby(CELL).mean().mean(),
                low,
                high,
                high >= 0,
            )
        )
    return pd.DataFrame(found, columns=COLUMNS).astype({"tells_nothing": bool})


IMPORTED = ["method", "score", "value", "baseline", "cells"]


def imported_beside(
    picked: pd.DataFrame, names: Methods, scores: Iterable[str]
) -> pd.DataFrame:
    """Put SAEs that were made elsewhere beside the trained baseline, not at the same R^2.

    Args:
        picked: Of :func:`sae.scoring.selection.chosen`, on test, MS across groups.
        names: The experiment's methods.
        scores: Of `SCORES`.

    Returns:
        Columns `IMPORTED`: the means of a method and of the baseline over the cells that
        both have. Where the baseline has none of them, its mean is NaN, and the method's
        is over all of its own.
    """
    rows = []
    for method, score in itertools.product(names.imported, scores):
        own = _cell_means(picked[picked["method"] == method], score)
        baseline = nan
        for name in names.baselines[:1]:
            of_baseline = _cell_means(picked[picked["method"] == name], score)
            common = own.index.intersection(of_baseline.index)
            # Both over the same cells, where there are any.
            if len(common):
                own = own.loc[common]
                baseline = of_baseline.loc[common].mean()
        if len(own):
            rows.append((method, score, own.mean(), baseline, len(own)))
    return pd.DataFrame(rows, columns=IMPORTED)


def _cell_means(rows: pd.DataFrame, score: str) -> pd.Series:
    """Return a score by cell, mean over seeds."""
    return by_run(rows, score).dropna().groupby(CELL).mean()
