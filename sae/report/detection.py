"""Detection beside the baseline, for reading."""

import pandas as pd

from sae.comparison import published
from sae.report.names import Names

NOTES = """\
How well backbones of other families find a latent's images (AUC; chance .5): the method's minus the baseline's, mean
over cells (lowest to highest). Reweighted: as if its latents fired as often as the baseline's do. Measured: the share
of the dictionary that fires often enough. Whole: mean of 2 AUC - 1 over all latents; what was not measured counts as
0."""
NONE = "Empty: no backbone of another family judges the latents of this experiment."


def as_text(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """What :func:`sae.comparison.detection.by_cell` returned, for reading: a row per method."""
    cells = table.set_index(["method", "dataset", "backbone", "k"])
    shown = []
    for method in names.order(table["method"]) if len(table) else []:
        own, theirs = (cells.loc[name] for name in (method, names.baselines[0]))
        differences = (own - theirs).dropna(how="all")
        line = {"method": names.method(method), "cells": str(len(differences))}
        for name, values in (own if method == names.baselines[0] else differences).items():
            low, high = values.min(), values.max()
            if method == names.baselines[0]:
                line[str(name)] = f"{values.mean():.3f} ({low:.3f} to {high:.3f})"
            else:
                line[str(name)] = f"{published.signed(values.mean())} ({low:+.3f} to {high:+.3f})"
        shown.append(line)
    return pd.DataFrame(shown)
