"""Fig. 5, right: top-1 of a linear probe on each image's k' largest activations."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.report import curves, style
from sae.report.names import Names
from sae.scoring.rows import read_metrics

READS = ["metrics.parquet", "curves.parquet"]
CAPTION = (
    "Test top-1 of a linear probe on each image's k' largest activations; mean over "
    "seeds."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a row per dataset and backbone, a column per training k.

    The probe on the raw embedding is a line.
    """
    points = curves.chosen_curves(results, names, "probe", optional=True)
    metrics = read_metrics(results / "metrics.parquet")
    raw_top1 = {}
    if "probe_top1_raw" in metrics:
        raw_top1 = metrics.groupby(curves.CELL)["probe_top1_raw"].first()

    def finish(ax: Axes, panel_points: pd.DataFrame) -> None:
        cell = tuple(panel_points[curves.CELL].iloc[0])
        cell_top1 = raw_top1.get(cell)
        if cell_top1 is not None:
            ax.axhline(cell_top1, color=style.GREY, linestyle="-.", linewidth=1)
        curves.powers_of_2(ax, panel_points["x"])

    figure = curves.grid_by_k(points, names, "top-1", "k' (activations kept)", finish)
    reference = style.reference("raw embedding", linestyle="-.")
    style.legend(figure, [*style.handles(names, points["method"]), reference])
    return figure
