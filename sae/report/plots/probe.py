"""Fig. 5, right: top-1 of a linear probe on each sample's k' largest activations, one column per training k."""

from pathlib import Path

from sae.core import files
from sae.report.plots import curves, style
from sae.report.plots.style import plt
from sae.scoring.selection import CELL


def draw(results, out, name):
    """A row per dataset and backbone, a column per training k; the raw embedding's probe as a line."""
    points = curves.chosen_curves(results, "probe")
    metrics = files.read_parquet(Path(results) / "metrics.parquet")
    raw = metrics.groupby(CELL)["probe_top1_raw"].first()
    points["raw"] = [raw.get(cell) for cell in points[CELL].itertuples(index=False, name=None)]
    with plt.rc_context(style.RC):
        figure = curves.grid_by_k(points, "top-1", "k' (activations kept)", _panel)
        curves.legend(figure, points["regularizer"].unique(), {"linestyle": "-.", "label": "raw embedding"})
        style.save(figure, out, name)


def _panel(ax, here, k):
    ax.axhline(here["raw"].iloc[0], color="#999999", linestyle="-.", linewidth=1)
    curves.powers_of_2(ax, here["x"])
