"""Detection of the chosen SAEs beside the baseline's, as if their latents fired as often as the baseline's do.

Rare latents are easier to find: a method whose latents fire less often may owe them its mean. So beside the mean
stands the mean of the method's own means in each band of frequency (`sae.scoring.metrics.detection.BANDS`), weighted by
the baseline's share of latents in it.
"""

from typing import Any

import numpy as np
import pandas as pd

from sae.comparison.methods import Methods
from sae.comparison.scores import RUN
from sae.scoring.metrics.detection import BANDS
from sae.scoring.rows import CELL

ABOUT = ["alive", "reweighted", "measured", "whole"]
COLUMNS = [*CELL, "method", *ABOUT]


def by_cell(
    picked: pd.DataFrame, latents: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Each method's detection in each cell, means over seeds.

    Args:
        picked: of :func:`sae.scoring.selection.chosen`, on test.
        latents: latents.parquet.

    Returns:
        Columns `COLUMNS`. `alive`: mean AUC of measured latents; `reweighted`: the same by the baseline's bands, over
        those in which both have latents; `measured`: the share of the dictionary that is; `whole`: mean of 2 AUC - 1
        over all latents. Empty where nothing was measured.
    """
    if "detection" not in latents or not names.baselines:
        return pd.DataFrame(columns=COLUMNS)
    sae = [*RUN, "trial", "source"]
    latents = latents[
        (latents["split"] == "test") & latents["detection"].notna()
    ].rename(columns={"method": "source"})
    known = picked[[*sae, "method", "m", "n_images"]].merge(
        latents[[*sae, "detection", "n_active"]], on=sae
    )
    band = pd.Series(
        np.searchsorted(BANDS, known["n_active"] / known["n_images"]),
        known.index,
        name="band",
    )
    bands = (
        known.groupby([*RUN, "method", band], sort=False)["detection"]
        .agg(["mean", "size"])
        .reset_index()
    )
    theirs = bands[bands["method"] == names.baselines[0]][[*RUN, "band", "size"]]
    both = bands.merge(theirs, on=[*RUN, "band"], suffixes=("", "_baseline"))
    both["weighted"] = both["mean"] * both["size_baseline"]
    sums = both.groupby([*RUN, "method"])[["weighted", "size_baseline"]].sum()
    found = picked.set_index([*RUN, "method"])
    found = found.assign(
        alive=found["detection_alive"],
        reweighted=sums["weighted"] / sums["size_baseline"],
        measured=found["detection_measured"],
        whole=found["detection"],
    )
    return found.groupby([*CELL, "method"], sort=False)[ABOUT].mean().reset_index()


def differences(table: pd.DataFrame, names: Methods) -> pd.DataFrame:
    """Of the baseline its values, of others what they have above it: mean over cells, lowest, highest.

    Args:
        table: what :func:`by_cell` returned.

    Returns:
        A row per method and column of `ABOUT`: method, about, cells, mean, low, high.
    """
    rows, of = (
        list[dict[str, Any]](),
        dict(iter(table.set_index(CELL).groupby("method", sort=False)[ABOUT])),
    )
    for method in names.order(of):
        theirs = of[names.baselines[0]]
        found = (
            of[method]
            if method == names.baselines[0]
            else of[method] - theirs.reindex(of[method].index)
        )
        for name, values in found.dropna(how="all").items():
            ends = {"mean": values.mean(), "low": values.min(), "high": values.max()}
            rows.append(
                {"method": method, "about": name, "cells": int(values.notna().sum())}
                | ends
            )
    return pd.DataFrame(rows)
