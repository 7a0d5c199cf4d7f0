"""Detection beside the baseline, for reading."""

import pandas as pd

from sae.comparison.detection import differences
from sae.report.markup import column_key, markdown, wrapped
from sae.report.names import Names

NOTES = (
    "Detection is how well backbones of other families find a latent's images (AUC; "
    "chance is .5). A method's row has its difference from the baseline, the mean over "
    "cells (lowest to highest)."
)
COLUMNS = {
    "looks": (
        "by 8 x 8 pixels of the images in place of a backbone: what their looks alone "
        "tell, which says what detection is worth"
    ),
    "reweighted": "as if the method's latents fired as often as the baseline's do",
    "measured": "the share of the dictionary that fires often enough",
    "whole": "the mean over all latents; one that is not measured counts as .5",
}
NONE = "Empty: no backbone of another family judges the latents of this experiment."


def page(table: pd.DataFrame, names: Names) -> str:
    """Return the page of detection.

    Args:
        table: What :func:`sae.comparison.detection.by_cell` returned.
        names: How methods are printed.
    """
    paragraphs = ["# Detection by how often latents fire"]
    if len(table):
        printed = as_text(differences(table, names), names)
        columns = {name: COLUMNS[name] for name in COLUMNS if name in printed}
        paragraphs += [markdown(printed), wrapped(NOTES), column_key(columns)]
    else:
        paragraphs.append(NONE)
    return "\n\n".join(paragraphs) + "\n"


def as_text(above_baseline: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Print detection, a row for each method; the baseline's row has no signs.

    Args:
        above_baseline: What :func:`sae.comparison.detection.differences` returned.
        names: How methods are printed.
    """
    lines: dict[str, dict[str, str]] = {}
    for row in above_baseline.to_dict("records"):
        method = row["method"]
        style = ".3f" if method == names.baselines[0] else "+.3f"
        mean = format(row["mean"], style)
        low = format(row["low"], style)
        high = format(row["high"], style)
        if method not in lines:
            lines[method] = {
                "method": names.method(method),
                "cells": str(row["cells"]),
            }
        lines[method][row["about"]] = f"{mean} ({low} to {high})"
    return pd.DataFrame(lines.values())
