"""What a score is worth: what stands beside the baseline that the paper's rule chose.

A control (`control` in config.yaml) has not learned what the baseline has: it is
untrained, in part or wholly, or no SAE at all. Where it scores as high, the score does
not tell a trained SAE from such a thing, and a difference in it tells nothing.
"""

import itertools
from collections.abc import Iterable
from math import nan

import pandas as pd

from sae.comparison.bootstrap import wider_interval
from sae.comparison.intervals import BACKBONE
from sae.comparison.methods import Methods
from sae.comparison.scores import across_groups, by_run
from sae.config.rule import ClaimRule
from sae.scoring.rows import CELL

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
        low = high = nan
        if difference.groupby(BACKBONE).ngroups >= rule.min_blocks:
            low, high = wider_interval(difference, rule)
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
