"""Fig. 5, right: top-1 of a linear probe on each sample's k' largest activations, one column per training k."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.core import files
from sae.report import curves, style
from sae.report.names import Names

READS = ["metrics.parquet", "curves.parquet"]
CAPTION = (
    "Test top-1 of a linear probe on each image's k' largest activations; mean over "
    "seeds."
)


def draw(results: Path, names: Names) -> Figure:
    """A row per dataset and backbone, a column per training k; the raw embedding's probe as a line."""
    points = curves.chosen_curves(results, names, "probe", optional=True)
    metrics = files.read_parquet(results / "metrics.parquet")
    raw = (
        metrics.groupby(curves.CELL)["probe_top1_raw"].first()
        if "probe_top1_raw" in metrics
        else {}
    )

    def finish(ax: Axes, here: pd.DataFrame) -> None:
        value = raw.get(tuple(here[curves.CELL].iloc[0]))
        if value is not None:
            ax.axhline(value, color=style.GREY, linestyle="-.", linewidth=1)
        curves.powers_of_2(ax, here["x"])

    figure = curves.grid_by_k(points, names, "top-1", "k' (activations kept)", finish)
    reference = style.reference("raw embedding", linestyle="-.")
    style.legend(figure, [*style.handles(names, points["method"]), reference])
    return figure
