"""Detection by how often a latent fires, beside the controls.

Its SAEs are those that protocol `paper` chose.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.report import curves, style
from sae.report.names import Names

READS = ["metrics.parquet", "curves.parquet"]
CAPTION = (
    "How well a backbone of another family finds the images of a latent (AUC, "
    "test split; dotted: chance), mean over the latents that fire on so many of "
    "the images: up to 1 %, 3 %, 10 % and all of them. The SAEs are those that the "
    "paper's rule chose."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a row per dataset and backbone, a column per training k."""
    points = curves.chosen_curves(
        results, names, "detection_by_frequency", optional=True
    )
    figure = curves.grid_by_k(points, names, "detection", "fires on up to", _finish)
    if len(points):
        chance = style.reference("chance", linestyle=":")
        style.legend(figure, [*style.handles(names, points["method"]), chance])
    return figure


def _finish(ax: Axes, points: pd.DataFrame) -> None:
    ax.axhline(0.5, color=style.GREY, linestyle=":", linewidth=1)
    ax.set_xscale("log")
    ticks = sorted(points["x"].unique())
    ax.set_xticks(ticks, labels=[f"{x:.0%}" for x in ticks], minor=False)
    ax.minorticks_off()
