"""What the figures of curves share: the chosen SAEs' curves, averaged over seeds, and a legend of methods."""

from pathlib import Path

from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter

from sae.core import files
from sae.report import labels
from sae.report.plots import style
from sae.report.plots.style import plt
from sae.scoring.selection import CELL, chosen, of_chosen


def chosen_curves(results, curve):
    """Points of the chosen SAEs' `curve` on test, mean over seeds: dataset, backbone, k, regularizer, x, y."""
    picked = chosen(files.read_parquet(Path(results) / "metrics.parquet"), "test")
    points = of_chosen(picked, files.read_parquet(Path(results) / "curves.parquet"))
    points = points[points["curve"] == curve]
    return points.groupby([*CELL, "regularizer", "x"], sort=False, as_index=False)["y"].mean()


def draw_methods(ax, points):
    """One line a method; baseline dashed, so that it is told apart without colour."""
    for number, regularizer in enumerate(labels.method_order(points["regularizer"].unique())):
        line = points[points["regularizer"] == regularizer].sort_values("x")
        dashes = "--" if regularizer == "none" else "-"
        marker = style.MARKERS[number % len(style.MARKERS)] if len(line) < 20 else ""
        ax.plot(line["x"], line["y"], dashes, marker=marker, markersize=2.8, color=style.colour(regularizer))


def grid_by_k(points, y_label, x_label, finish):
    """A figure of curves: a row per dataset and backbone, a column per training k.

    Args:
        finish: called with (ax, the panel's points, k) after the lines are drawn.
    """
    rows = points[["dataset", "backbone"]].drop_duplicates().to_numpy()
    ks = sorted(points["k"].unique())
    size = (max(style.WIDTH, 2.3 * len(ks)), 1.45 * max(1, len(rows)) + 0.6)
    shape = (max(1, len(rows)), max(1, len(ks)))
    figure, axes = plt.subplots(*shape, figsize=size, sharex="col", squeeze=False, layout="constrained")
    if points.empty:
        axes[0, 0].text(0.5, 0.5, "not defined for these datasets", ha="center", transform=axes[0, 0].transAxes)
    for i, (dataset, backbone) in enumerate(rows):
        for j, k in enumerate(ks):
            ax = axes[i, j]
            here = points[(points["dataset"] == dataset) & (points["backbone"] == backbone) & (points["k"] == k)]
            draw_methods(ax, here)
            finish(ax, here, k)
            ax.grid(True)
            if i == 0:
                ax.set_title(f"trained with k = {k}")
            if j == 0:
                ax.set_ylabel(f"{labels.name(dataset)}\n{labels.name(backbone)}\n{y_label}")
            if i == len(rows) - 1:
                ax.set_xlabel(x_label)
    return figure


def powers_of_2(ax, x):
    """A logarithmic x axis with ticks at the powers of 2 in the range of `x`."""
    ax.set_xscale("log", base=2)
    ax.set_xticks([k for k in (2**e for e in range(15)) if x.min() <= k <= x.max()])
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())


def legend(figure, regularizers, reference):
    """Below the panels: the methods, and a grey line: `reference` holds its style and its label."""
    handles = [
        Line2D([], [], color=style.colour(r), linestyle="--" if r == "none" else "-", label=labels.method(r))
        for r in labels.method_order(regularizers)
    ]
    handles.append(Line2D([], [], color="#999999", **reference))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
