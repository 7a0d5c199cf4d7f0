"""Detection of each method, as if its latents fired as often as the baseline's do.

Rare latents are easier to find: a method whose latents fire less often may owe its mean
to that. So beside the mean stands a reweighted one. It takes the method's own means in
each band of frequency (`sae.scoring.frequency.FREQUENCY_BANDS`), weighted by the
baseline's number of latents in the band.
"""

import numpy as np
import pandas as pd

from sae.comparison.methods import Methods
from sae.comparison.scores import RUN, SCORES
from sae.scoring.frequency import FREQUENCY_BANDS
from sae.scoring.rows import CELL

ABOUT = ["alive", "looks", "reweighted", "measured", "whole"]
COLUMNS = [*CELL, "method", *ABOUT]


def by_cell(
    picked: pd.DataFrame, latents: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Return each method's detection in each cell, means over seeds.

    Args:
        picked: Of :func:`sae.scoring.selection.chosen_rows`, on test.
        latents: latents.parquet.
        names: The experiment's methods.

    Returns:
        Columns `COLUMNS`. `alive`: the mean AUC of measured latents; `looks`: that by
        8 x 8 pixels, NaN where the metric `looks` was not computed; `reweighted`: the
        mean at the baseline's frequencies, over bands in which both have latents;
        `measured`: the measured share of the dictionary; `whole`: the mean AUC of all
        latents, of which one that is not measured counts as .5. Empty where nothing was
        measured.
    """
    if "detection" not in latents or not names.baselines:
        return pd.DataFrame(columns=COLUMNS)

    saes = picked.set_index([*RUN, "method"])
    saes = saes.assign(
        alive=saes["detection_auc"],
        looks=SCORES["detection_looks"].of(saes),
        reweighted=_reweighted(picked, latents, names.baselines[0]),
        measured=saes["detection_measured"],
        whole=saes["detection_auc_all"],
    )
    return saes.groupby([*CELL, "method"], sort=False)[ABOUT].mean().reset_index()


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


def differences(table: pd.DataFrame, names: Methods) -> pd.DataFrame:
    """Return what each method has above the baseline, and the baseline's own values.

    Args:
        table: What :func:`by_cell` returned.
        names: The experiment's methods.

    Returns:
        A row for each method and column of `ABOUT`: method, about, cells, and the mean
        over these cells, the lowest (`low`) and the highest (`high`). Of the baseline
        they are its values, of others their differences from it.
    """
    by_method = {}
    for method, rows in table.set_index(CELL).groupby("method", sort=False):
        by_method[str(method)] = rows[ABOUT]

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
