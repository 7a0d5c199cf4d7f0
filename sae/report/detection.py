"""Detection beside the baseline, for reading."""

import pandas as pd

from sae.report.names import Names

NOTES = """\
How well backbones of other families find a latent's images (AUC; chance .5): the method's minus the baseline's, mean
over cells (lowest to highest). Reweighted: as if its latents fired as often as the baseline's do. Measured: the share
of the dictionary that fires often enough. Whole: mean of 2 AUC - 1 over all latents; what was not measured counts as
0."""
NONE = "Empty: no backbone of another family judges the latents of this experiment."


def as_text(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """What :func:`sae.comparison.detection.differences` returned, for reading: a row per method."""
    shown: dict[str, dict[str, str]] = {}
    for row in table.to_dict("records"):
        sign = "" if row["method"] == names.baselines[0] else "+"
        mean, low, high = (
            format(row[name], f"{sign}.3f") for name in ("mean", "low", "high")
        )
        line = shown.setdefault(
            row["method"],
            {"method": names.method(row["method"]), "cells": str(row["cells"])},
        )
        line[row["about"]] = f"{mean} ({low} to {high})"
    return pd.DataFrame(shown.values())
