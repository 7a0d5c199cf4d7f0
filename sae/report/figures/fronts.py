"""The trade-off: R^2 against each endpoint on validation.

A point is a trial; each method's front and the window are drawn.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.comparison import fronts, leaderboard
from sae.comparison.scores import SCORES, across_groups
from sae.report import style
from sae.report.names import Names
from sae.scoring.front import ENDPOINTS, Window, reach, vertices, weights
from sae.scoring.front import window as window_of
from sae.scoring.rows import CELL

READS = ["metrics.parquet", "made_by.json"]
CAPTION = (
    "R² against detection (how well a backbone of another family finds a "
    "latent's images; chance 0.5) and against MS over alive latents, on the "
    "validation split: a point a trial, hollow where it is not feasible (too "
    "many dead latents, or too many active ones). Lines: each method's front; "
    "shaded: where methods are compared, below the baseline's best R² and not "
    "left of its vertex of highest score; ringed: the vertices that weigh there. "
    "Crosses: controls, at their own R² where that lies in the panel."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a row per dataset and endpoint, a column per backbone and k."""
    metrics, made_by = leaderboard.read(results)
    rule = made_by.fronts
    of_protocol = fronts.of_protocol(across_groups(metrics), rule)
    points = fronts.validation_trials(of_protocol, rule)
    measured = [name for name in ENDPOINTS if points[name].notna().any()]
    places_by_dataset = {
        dataset: rows[["backbone", "k"]].drop_duplicates().to_numpy()
        for dataset, rows in points.groupby("dataset", sort=False)
    }
    column_count = max(map(len, places_by_dataset.values()), default=0)
    lines = [
        (dataset, name) for dataset in points["dataset"].unique() for name in measured
    ]
    figure, axes = style.panels(len(lines), column_count, 1.7, 0.7)
    if not lines:
        return style.nothing(figure, "not measured in this experiment")
    width = figure.get_figwidth() / column_count
    for row, (dataset, name) in zip(axes, lines, strict=True):
        places = places_by_dataset[dataset]
        for ax in row[len(places) :]:
            ax.set_axis_off()
        for ax, (backbone, k) in zip(row, places, strict=False):
            cell = points[(points[CELL] == [dataset, backbone, k]).all(axis=1)]
            _draw_panel(ax, cell, name, names, rule)
            dataset_line = style.fit(names.dataset(dataset), width)
            backbone_line = style.fit(f"{names.backbone(backbone)}, k = {k}", width)
            ax.set_title(f"{dataset_line}\n{backbone_line}", fontsize=7)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        row[0].set_ylabel(f"{SCORES[name].label} (val)")
    for ax in axes[-1]:
        ax.set_xlabel("R² (val)")
    drawn = [name for name in names.order(points["method"]) if name in names.tuned]
    entries = [
        *style.handles(names, drawn),
        style.reference("not feasible", marker="o", **_HOLLOW),
    ]
    if names.controls:
        entries.append(style.reference("control", marker="x", linestyle="none"))
    style.legend(figure, entries)
    return figure


_HOLLOW = {"markerfacecolor": "none", "linestyle": "none"}


def _draw_panel(
    ax: Axes,
    cell: pd.DataFrame,
    name: str,
    names: Names,
    rule: fronts.FrontRule,
) -> None:
    trained = cell[cell["method"].isin(list(names.tuned)) & cell[name].notna()]
    windows = _windows(cell, name, names.tuned, rule)
    for window in dict.fromkeys(windows.values()):
        start = max(window.low, window.floor)
        # A window of one vertex has no width; a line is seen all the same.
        ax.axvspan(start, window.high, color="#ececec", linewidth=1, zorder=0)
    for method in names.order(trained["method"]):
        rows = trained[trained["method"] == method]
        look = style.line(names, method)
        point = {**look, "linestyle": "none", "markersize": 3}
        feasible = rows[rows["feasible"]]
        infeasible = rows[~rows["feasible"]]
        ax.plot(feasible["r2"], feasible[name], **point)
        ax.plot(infeasible["r2"], infeasible[name], **{**point, **_HOLLOW})

        front = vertices(rows, name)
        if front.empty:
            continue
        # Left of its highest vertex a front is flat.
        r2 = [trained["r2"].min(), *front["r2"][::-1]]
        heights = [front[name].iloc[-1], *front[name][::-1]]
        ax.plot(r2, heights, **{**look, "marker": ""})
        if method in windows:
            method_window = windows[method]._replace(reach=reach(rows))
            weighs = weights(front["r2"].to_numpy(float), method_window) > 0
            ring: dict[str, Any] = {
                **look,
                **_HOLLOW,
                "marker": "o",
                "markersize": 7,
                "markeredgewidth": 0.6,
            }
            ax.plot(front["r2"][weighs], front[name][weighs], **ring)
    if len(trained):
        low = trained["r2"].min()
        high = trained["r2"].max()
        is_control = cell["method"].isin(names.controls)
        inside = cell[is_control & cell["r2"].between(low, high)]
        ax.plot(inside["r2"], inside[name], "x", color=style.GREY, markersize=4)
    ax.grid(True)


def _windows(
    cell: pd.DataFrame,
    name: str,
    compared: dict[str, str | None],
    rule: fronts.FrontRule,
) -> dict[str, Window]:
    """Return {method: where it is read beside its baseline}."""
    windows = {}
    for method in compared:
        baseline = cell[cell["method"] == fronts.root(method, compared)]
        window = window_of(baseline, name, rule.widths[0])
        if window is not None:
            windows[method] = window
    return windows
