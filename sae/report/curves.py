"""What the figures of curves share: the chosen SAEs' curves, averaged over seeds, and a grid of panels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.core import files
from sae.core.errors import UserError
from sae.report import style
from sae.report.names import Names
from sae.scoring.selection import CELL, chosen_rows, curves_of_chosen

_BY = [*CELL, "method"]
_HEIGHT = 1.45  # inches, of a panel


def chosen_curves(
    results: Path, names: Names, curve: str, *, optional: bool = False
) -> pd.DataFrame:
    """Points of the chosen SAEs' `curve` on test, mean over seeds: dataset, backbone, k, method, x, y.

    Args:
        optional: whether an experiment may lack the curve, and then has no points.

    Raises:
        UserError: the experiment has curves, but not this one, and it is not optional.
    """
    there = sorted(files.read_parquet(results / "curves.parquet")["curve"].unique())
    if there and curve not in there and not optional:
        said = "if an experiment may lack it, say optional=True"
        raise UserError(f"no curve {curve}; there are: {', '.join(there)} ({said})")
    return (
        _runs(results, names, curve)
        .groupby([*_BY, "x"], sort=False, as_index=False)["y"]
        .mean()
    )


def chosen_points(results: Path, names: Names, curve: str) -> pd.DataFrame:
    """The same of a `curve` that is a single point, whose x differs between seeds too."""
    return (
        _runs(results, names, curve)
        .groupby(_BY, sort=False, as_index=False)[["x", "y"]]
        .mean()
    )


def _runs(results: Path, names: Names, curve: str) -> pd.DataFrame:
    points = files.read_parquet(results / "curves.parquet")
    picked = chosen_rows(
        files.read_parquet(results / "metrics.parquet"), "test", names.compared
    )
    return curves_of_chosen(
        picked, points[(points["curve"] == curve) & (points["split"] == "test")]
    )


def draw_methods(ax: Axes, points: pd.DataFrame, names: Names) -> None:
    """One line a method, told apart by colour, dashes and markers."""
    for method in names.order(points["method"]):
        curve = points[points["method"] == method].sort_values("x")
        every = None if len(curve) < 20 else 0.12  # A share of the panel's diagonal.
        control = method in names.controls
        size: dict[str, Any] = (
            {"linewidth": 0.8, "markersize": 2, "zorder": 1.5}
            if control
            else {"markersize": 2.8}
        )
        ax.plot(
            curve["x"], curve["y"], markevery=every, **style.line(names, method) | size
        )


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
    """A figure of curves: a row per dataset and backbone, a panel per k of the dataset.

    Args:
        points: what :func:`chosen_curves` returned.
        finish: called with a panel and its points after the lines are drawn.
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
            here = points[
                (points["dataset"] == dataset)
                & (points["backbone"] == backbone)
                & (points["k"] == k)
            ]
            if len(here):
                draw_methods(ax, here, names)
                finish(ax, here)
            ax.grid(True)
        labels = [
            style.fit(label, _HEIGHT)
            for label in (names.dataset(dataset), names.backbone(backbone))
        ]
        row[0].set_ylabel("\n".join([*labels, y_label]))
    for bottom in axes[-1]:
        bottom.set_xlabel(x_label)
    return figure


def powers_of_2(ax: Axes, x: pd.Series) -> None:
    """A logarithmic x axis with ticks at the powers of 2 in the range of `x`; `style.save` writes them as numbers."""
    ax.set_xscale("log", base=2)
    ax.set_xticks([k for k in (2**e for e in range(15)) if x.min() <= k <= x.max()])
