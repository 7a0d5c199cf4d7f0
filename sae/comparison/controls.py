"""What a score is worth: what stands beside the trained baseline's.

A control (`control` in config.yaml) has not learned what the baseline has: it is
untrained, in part or wholly, or no SAE at all. Where it scores as high, the score does
not tell a trained SAE from such a thing, and a difference in it tells nothing.

Of detection two things more: what looks alone tell, and how often latents fire. Rare
latents are easier to find: a method whose latents fire less often may owe its mean to
that. So beside the mean stands a reweighted one. It takes the method's own means in
each band of frequency (`sae.scoring.frequency.FREQUENCY_BANDS`), weighted by the
baseline's number of latents in the band.
"""

import itertools
from collections.abc import Iterable
from math import nan

import numpy as np
import pandas as pd

from sae.comparison.bootstrap import wider_interval
from sae.comparison.intervals import BACKBONE
from sae.comparison.methods import Methods
from sae.comparison.scores import RUN, SCORES, across_groups, by_run
from sae.config.rule import ClaimRule
from sae.scoring.frequency import FREQUENCY_BANDS
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
IMPORTED = ["method", "score", "value", "baseline", "cells"]
# What is said of detection beside its mean.
DETECTION_ABOUT = ["alive", "looks", "reweighted", "measured", "whole"]
DETECTION_COLUMNS = [*CELL, "method", *DETECTION_ABOUT]


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


# -- detection


def detection_by_cell(
    picked: pd.DataFrame, latents: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Return each method's detection in each cell, means over seeds.

    Args:
        picked: Of :func:`sae.scoring.selection.chosen_rows`, on test.
        latents: latents.parquet.
        names: The experiment's methods.

    Returns:
        Columns `DETECTION_COLUMNS`. `alive`: the mean AUC of measured latents; `looks`: that by
        8 x 8 pixels, NaN where the metric `looks` was not computed; `reweighted`: the
        mean at the baseline's frequencies, over bands in which both have latents;
        `measured`: the measured share of the dictionary; `whole`: the mean AUC of all
        latents, of which one that is not measured counts as .5. Empty where nothing was
        measured.
    """
    if "detection" not in latents or not names.baselines:
        return pd.DataFrame(columns=DETECTION_COLUMNS)

    saes = picked.set_index([*RUN, "method"])
    saes = saes.assign(
        alive=saes["detection_auc"],
        looks=SCORES["detection_looks"].of(saes),
        reweighted=_reweighted(picked, latents, names.baselines[0]),
        measured=saes["detection_measured"],
        whole=saes["detection_auc_all"],
    )
    return (
        saes.groupby([*CELL, "method"], sort=False)[DETECTION_ABOUT]
        .mean()
        .reset_index()
    )


def _reweighted(
    picked: pd.DataFrame, latents: pd.DataFrame, baseline: str
) -> pd.Series:
    """Return the mean detection of each SAE at the baseline's frequencies of firing."""
    bands = _means_by_band(picked, latents)
    of_baseline = bands[bands["method"] == baseline][[*RUN, "band", "size"]]
    shared_bands = bands.merge(
        of_baseline, on=[*RUN, "band"], suffixes=("", "_baseline")
    )
    shared_bands["weighted"] = shared_bands["mean"] * shared_bands["size_baseline"]
    by_sae = shared_bands.groupby([*RUN, "method"])
    sums = by_sae[["weighted", "size_baseline"]].sum()
    return sums["weighted"] / sums["size_baseline"]


def _means_by_band(picked: pd.DataFrame, latents: pd.DataFrame) -> pd.DataFrame:
    """Return the mean detection and the number of each SAE's latents in each band."""
    # On fallback an SAE of another method, its source, stands for a method.
    sae = [*RUN, "trial", "source"]
    is_measured = (latents["split"] == "test") & latents["detection"].notna()
    measured = latents[is_measured].rename(columns={"method": "source"})
    measured = picked[[*sae, "method", "m", "n_images"]].merge(
        measured[[*sae, "detection", "n_active"]], on=sae
    )

    frequency = measured["n_active"] / measured["n_images"]
    band_number = np.searchsorted(FREQUENCY_BANDS, frequency)
    band = pd.Series(band_number, measured.index, name="band")
    by_band = measured.groupby([*RUN, "method", band], sort=False)["detection"]
    return by_band.agg(["mean", "size"]).reset_index()


def detection_beside_baseline(table: pd.DataFrame, names: Methods) -> pd.DataFrame:
    """Return what each method has above the baseline, and the baseline's own values.

    Args:
        table: What :func:`detection_by_cell` returned.
        names: The experiment's methods.

    Returns:
        A row for each method and column of `DETECTION_ABOUT`: method, about, cells, and the mean
        over these cells, the lowest (`low`) and the highest (`high`). Of the baseline
        they are its values, of others their differences from it.
    """
    by_method = {}
    for method, rows in table.set_index(CELL).groupby("method", sort=False):
        by_method[str(method)] = rows[DETECTION_ABOUT]

    lines = []
    for method in names.order(by_method):
        baseline = names.baselines[0]
        shown = by_method[method]
        if method != baseline:
            shown = shown - by_method[baseline].reindex(shown.index)
        for about, values in shown.dropna(how="all").dropna(axis=1, how="all").items():
            lines.append(
                {
                    "method": method,
                    "about": about,
                    "cells": int(values.notna().sum()),
                    "mean": values.mean(),
                    "low": values.min(),
                    "high": values.max(),
                }
            )
    return pd.DataFrame(lines)
