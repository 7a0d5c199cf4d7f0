"""What the figures of curves share.

These are the chosen SAEs' curves, averaged over seeds, and a grid of panels.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.core import files
from sae.core.errors import UserError
from sae.report import style
from sae.report.names import Names
from sae.scoring.rows import read_metrics
from sae.scoring.selection import CELL, chosen_rows, curves_of_chosen

_KEY = [*CELL, "method"]
_HEIGHT = 1.45  # inches, of a panel


def chosen_curves(
    results: Path, names: Names, curve: str, *, optional: bool = False
) -> pd.DataFrame:
    """Return the points of a curve of the chosen SAEs on test, means over seeds.

    Args:
        results: Folder of the experiment's tables.
        names: Which methods have trials.
        curve: The name of the curve.
        optional: Whether an experiment may lack the curve, and then has no points.

    Returns:
        dataset, backbone, k, method, x, y.

    Raises:
        UserError: the experiment has curves, but not this one, and it is not optional.
    """
    curves = files.read_parquet(results / "curves.parquet")["curve"]
    measured = sorted(curves.unique())
    if measured and curve not in measured and not optional:
        raise UserError(
            f"no curve {curve}; there are: {', '.join(measured)} (if an experiment may "
            "lack it, say optional=True)"
        )
    points = _points_of_chosen(results, names, curve)
    by_x = points.groupby([*_KEY, "x"], sort=False, as_index=False)
    return by_x["y"].mean()


def chosen_points(results: Path, names: Names, curve: str) -> pd.DataFrame:
    """Return a curve of the chosen SAEs that is a single point, means over seeds.

    Its x differs between seeds too.

    Args:
        results: Folder of the experiment's tables.
        names: Which methods have trials.
        curve: The name of the curve.

    Returns:
        dataset, backbone, k, method, x, y.
    """
    points = _points_of_chosen(results, names, curve)
    return points.groupby(_KEY, sort=False, as_index=False)[["x", "y"]].mean()


def _points_of_chosen(results: Path, names: Names, curve: str) -> pd.DataFrame:
    """Return the points of a curve on test, with each seed."""
    points = files.read_parquet(results / "curves.parquet")
    of_curve = points[(points["curve"] == curve) & (points["split"] == "test")]
    metrics = read_metrics(results / "metrics.parquet")
    chosen = chosen_rows(metrics, "test", names.compared)
    return curves_of_chosen(chosen, of_curve)


def draw_methods(ax: Axes, points: pd.DataFrame, names: Names) -> None:
    """Draw one line a method, told apart by colour, dashes and markers."""
    for method in names.order(points["method"]):
        curve = points[points["method"] == method].sort_values("x")
        # Of long curves a marker at each such share of the panel's diagonal.
        marker_distance = None if len(curve) < 20 else 0.12
        look = style.line(names, method)
        if method in names.controls:
            look.update(linewidth=0.8, markersize=2, zorder=1.5)
        else:
            look.update(markersize=2.8)
        ax.plot(curve["x"], curve["y"], markevery=marker_distance, **look)


def ks_by_dataset(points: pd.DataFrame) -> dict[str, list[int]]:
    """Return the training k of each dataset that has points, from low to high."""
    return {
        str(dataset): sorted(of_dataset["k"].unique())
        for dataset, of_dataset in points.groupby("dataset", sort=False)
    }


def grid_by_k(
    points: pd.DataFrame,
    names: Names,
    y_label: str,
    x_label: str,
    finish: Callable[[Axes, pd.DataFrame], None],
) -> Figure:
    """Draw curves: a row per dataset and backbone, a panel per k of the dataset.

    Args:
        points: What :func:`chosen_curves` returned.
        names: How methods, datasets and backbones are printed and drawn.
        y_label: What stands beside the panels, below dataset and backbone.
        x_label: What stands below the panels.
        finish: Called with a panel and its points after the lines are drawn.
    """
    places = points[["dataset", "backbone"]].drop_duplicates().to_numpy()
    ks_of = ks_by_dataset(points)
    column_count = max(map(len, ks_of.values()), default=0)
    figure, axes = style.panels(len(places), column_count, _HEIGHT, 0.6, sharex="col")
    if points.empty:
        return style.nothing(figure, "not defined for these datasets")
    titled_ks: list[int] = []
    for (dataset, backbone), row in zip(places, axes, strict=True):
        ks = ks_of[dataset]
        for ax in row[len(ks) :]:
            ax.set_axis_off()
        # The rows below one that is titled are of the same k.
        if ks != titled_ks:
            for k, ax in zip(ks, row, strict=False):
                ax.set_title(f"trained with k = {k}")
            titled_ks = ks
        for k, ax in zip(ks, row, strict=False):
            panel_points = points[
                (points["dataset"] == dataset)
                & (points["backbone"] == backbone)
                & (points["k"] == k)
            ]
            if len(panel_points):
                draw_methods(ax, panel_points, names)
                finish(ax, panel_points)
            ax.grid(True)
        dataset_lines = style.fit(names.dataset(dataset), _HEIGHT)
        backbone_lines = style.fit(names.backbone(backbone), _HEIGHT)
        row[0].set_ylabel(f"{dataset_lines}\n{backbone_lines}\n{y_label}")
    for bottom in axes[-1]:
        bottom.set_xlabel(x_label)
    return figure


def powers_of_2(ax: Axes, x: pd.Series) -> None:
    """Make the x axis logarithmic, with ticks at the powers of 2 in the range of `x`.

    `style.save` writes these as numbers.
    """
    ax.set_xscale("log", base=2)
    powers = [2**exponent for exponent in range(15)]
    ax.set_xticks([power for power in powers if x.min() <= power <= x.max()])
