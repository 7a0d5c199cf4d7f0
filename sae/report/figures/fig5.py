"""Fig. 5, left: reconstruction error against the inference-time k."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from sae.report import curves, style
from sae.report.names import Names

READS = ["metrics.parquet", "curves.parquet"]
CAPTION = (
    "Normalised reconstruction error (1 - R², test) against the k used at "
    "inference, for SAEs trained with one k (dotted); mean over seeds. A star: "
    "an SAE with thresholds as it is, at its mean number of active latents."
)
_STAR: dict[str, Any] = {
    "marker": "*",
    "markersize": 7.5,
    "linestyle": "none",
    "markeredgecolor": "#000000",
    "markeredgewidth": 0.5,
}


def draw(results: Path, names: Names) -> Figure:
    """Draw a row per dataset and backbone, a column per training k.

    Both axes are logarithmic.
    """
    points = curves.chosen_curves(results, names, "robustness", optional=True)
    with_thresholds = curves.chosen_points(results, names, "robustness_own")

    def finish(ax: Axes, panel_points: pd.DataFrame) -> None:
        training_k = panel_points["k"].iloc[0]
        ax.axvline(training_k, color=style.GREY, linestyle=":", linewidth=1)
        methods = panel_points[[*curves.CELL, "method"]].drop_duplicates()
        for star in with_thresholds.merge(methods).to_dict("records"):
            ax.plot(
                star["x"],
                star["y"],
                color=names.colour(star["method"]),
                zorder=3,
                **_STAR,
            )
        curves.powers_of_2(ax, panel_points["x"])
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(NullFormatter())

    figure = curves.grid_by_k(points, names, "NMSE", "inference-time k", finish)
    entries = [
        *style.handles(names, points["method"]),
        style.reference("training k", linestyle=":"),
    ]
    if len(with_thresholds):
        entries.append(style.reference("with its thresholds", **_STAR))
    style.legend(figure, entries)
    return figure
