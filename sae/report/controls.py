"""What a score is worth, for reading: controls, and detection beside the baseline."""

import pandas as pd

from sae.comparison import published
from sae.comparison.controls import detection_beside_baseline
from sae.comparison.scores import SCORES
from sae.report.markup import column_key, markdown, wrapped
from sae.report.names import Names

NOTES = (
    "Each dataset has its rows; the last are over all datasets. The baseline's mean "
    "over cells stands beside each control's difference from it. In brackets is the "
    "wider of two intervals: a bootstrap over (dataset, backbone) blocks, with seeds "
    "inside them, and Student's t of the blocks' means. There is none with fewer "
    "blocks than the claims ask for. Controls are not tuned and stand at their own R2."
)
MARKS = {
    "?": (
        "the interval reaches 0. There the score cannot tell a trained SAE from what "
        "was not trained, or only in part"
    )
}
NO_CONTROLS = (
    "Empty: no method of this experiment is a control (`control` in config.yaml)."
)
DETECTION_NOTES = (
    "Detection is how well backbones of other families find a latent's images (AUC; "
    "chance is .5). A method's row has its difference from the baseline, the mean over "
    "cells (lowest to highest)."
)
DETECTION_COLUMNS = {
    "looks": (
        "by 8 x 8 pixels of the images in place of a backbone: what their looks alone "
        "tell, which says what detection is worth"
    ),
    "reweighted": "as if the method's latents fired as often as the baseline's do",
    "measured": "the share of the dictionary that fires often enough",
    "whole": "the mean over all latents; one that is not measured counts as .5",
}
NO_DETECTION = (
    "Empty: no backbone of another family judges the latents of this experiment."
)


def page(table: pd.DataFrame, head: str, names: Names) -> str:
    """Return the page of controls.

    Args:
        table: What :func:`sae.comparison.controls.compare` returned.
        head: A paragraph that stands first.
        names: How methods and datasets are printed.
    """
    paragraphs = ["# What the scores are worth", head]
    if table.empty:
        paragraphs.append(NO_CONTROLS)
    else:
        paragraphs += [
            markdown(as_text(table, names)),
            wrapped(NOTES),
            column_key(MARKS),
        ]
    return "\n\n".join(paragraphs) + "\n"


def as_text(table: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Print differences: a row for each dataset and score, a column for each control.

    Args:
        table: What :func:`sae.comparison.controls.compare` returned.
        names: How methods and datasets are printed.
    """
    lines = []
    for (dataset, score_name), rows in table.groupby(["dataset", "score"], sort=False):
        score = SCORES[str(score_name)]
        line = {
            "data": names.dataset(str(dataset)),
            "score": score.label or score.heading,
            "baseline": f"{rows['baseline'].iloc[0]:.3f}",
        }
        for row in rows.to_dict("records"):
            difference = published.interval(
                row["difference"], row["low"], row["high"], "{:+.3f}".format
            )
            mark = " ?" if row["tells_nothing"] else ""
            line[names.method(row["control"])] = difference + mark
        lines.append(line)
    control_labels = [names.method(name) for name in names.controls]
    columns = ["data", "score", "baseline", *control_labels]
    return pd.DataFrame(lines, columns=columns).fillna("-")


def detection_page(table: pd.DataFrame, names: Names) -> str:
    """Return the page of detection.

    Args:
        table: What :func:`sae.comparison.controls.detection_by_cell` returned.
        names: How methods are printed.
    """
    paragraphs = ["# Detection by how often latents fire"]
    if table.empty:
        paragraphs.append(NO_DETECTION)
    else:
        printed = detection_as_text(detection_beside_baseline(table, names), names)
        columns = {
            name: meaning
            for name, meaning in DETECTION_COLUMNS.items()
            if name in printed
        }
        paragraphs += [
            markdown(printed),
            wrapped(DETECTION_NOTES),
            column_key(columns),
        ]
    return "\n\n".join(paragraphs) + "\n"


def detection_as_text(above_baseline: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Print detection, a row for each method; the baseline's row has no signs.

    Args:
        above_baseline: What
            :func:`sae.comparison.controls.detection_beside_baseline` returned.
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
