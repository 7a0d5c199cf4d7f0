"""What the figures of curves share: the chosen SAEs' curves, averaged over seeds, and a legend of methods."""

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from sae import labels
from sae.plots import style
from sae.selection import CELL, chosen

_SAE = [*CELL, "lambda", "mask", "seed"]


def chosen_curves(results, curve):
    """Points of the chosen SAEs' `curve` on test, mean over seeds: dataset, backbone, k, regularizer, x, y.

    Where no lambda was acceptable, the baseline's curve stands for the method, as in the tables.
    """
    metrics = pd.read_parquet(Path(results) / "metrics.parquet")
    points = pd.read_parquet(Path(results) / "curves.parquet")
    points = points[points["curve"] == curve]
    picked = chosen(metrics, "test")
    picked = picked.assign(source=picked["regularizer"].where(~picked["fallback"], "none"))
    points = points[[*_SAE, "regularizer", "x", "y"]].rename(columns={"regularizer": "source"})
    points = picked[[*_SAE, "regularizer", "source"]].merge(points, on=[*_SAE, "source"])
    return points.groupby([*CELL, "regularizer", "x"], sort=False, as_index=False)["y"].mean()


def draw_methods(ax, points):
    """One line a method; baseline dashed, so that it is told apart without colour."""
    for number, regularizer in enumerate(labels.method_order(points["regularizer"].unique())):
        line = points[points["regularizer"] == regularizer].sort_values("x")
        dashes = "--" if regularizer == "none" else "-"
        marker = style.MARKERS[number % len(style.MARKERS)] if len(line) < 20 else ""
        ax.plot(line["x"], line["y"], dashes, marker=marker, markersize=2.8, color=style.colour(regularizer))


def legend(figure, regularizers, extra):
    """Below the panels: the methods, and a dotted line that means `extra`."""
    handles = [
        Line2D([], [], color=style.colour(r), linestyle="--" if r == "none" else "-", label=labels.method(r))
        for r in labels.method_order(regularizers)
    ]
    handles.append(Line2D([], [], color="#999999", linestyle=":", label=extra))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
