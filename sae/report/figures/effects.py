"""The comparison as a figure: a panel a family of backbones, and what it costs."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.comparison import leaderboard, verdicts
from sae.comparison.effects import OUT_OF_REACH
from sae.comparison.scores import SCORES
from sae.comparison.verdicts import ALL_FAMILIES
from sae.report import comparison, style
from sae.report.names import Names
from sae.scoring.rows import CELL

READS = ["metrics.parquet", "selection.parquet", "made_by.json"]
COST = ("coverage", "r2")
CAPTION = (
    "What each method has beside its baseline, of the same SAEs: detection (MS where "
    "no encoder of another family sees the images), a panel for each family of "
    "backbones and one for their mean; at the right what it costs in coverage and in "
    "R². Circle and bar: the mean over datasets and its 95 % interval, where there are "
    "enough of them; filled where the method is better or worse. Small dots: the cells. "
    "Shaded: differences that count as none. Squares: controls, at their own R²; one "
    "that is far off is written at the edge. A method out of reach has no trial that "
    "reconstructs as well as the baseline's best, or a fresh seed failed: in brackets "
    "the most R² that it lacks."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a line for each method and control, best in the mean of families on top."""
    experiment = leaderboard.read(results)
    made_by = experiment.made_by
    cells = experiment.effects()
    means = verdicts.means(cells, made_by.families, made_by.intervals, made_by.pictures)
    endpoints = comparison.measured(means)
    if not endpoints:
        figure, _ = style.panels(1, 1, 1, 0.5)
        return style.nothing(figure, "no method has a chosen SAE beside its baseline's")

    score = endpoints[0]
    order = _order(means, score)
    families = list(dict.fromkeys(means["family"]))
    if len(families) == 2:  # One family is its own mean.
        families = [ALL_FAMILIES]
    has_cost = (means["score"] == COST[0]) & means["effect"].notna()
    costs = COST if has_cost.any() else COST[1:]
    height = 0.6 + 0.19 * len(order)
    figure, axes = style.panels(1, len(families) + 1, height, 0.5)
    of_score = cells[cells["score"] == score]
    in_family = of_score["backbone"].map(lambda name: made_by.families.get(name, name))
    limits = _limits(means[means["score"] == score], of_score)
    for ax, family in zip(axes[0], families, strict=False):
        rows = means[(means["family"] == family) & (means["score"] == score)]
        is_in_family = (in_family == family) | (family == ALL_FAMILIES)
        in_order = rows.set_index("method").reindex(order)
        _draw_panel(ax, in_order, of_score[is_in_family], names, limits)
        title = "mean of families" if family == ALL_FAMILIES else family
        if len(families) == 1:
            title = ", ".join(dict.fromkeys(in_family))
        ax.set_title(style.fit(title, 2, 1), fontsize=8, loc="left")
        ax.set_xlabel(f"{SCORES[score].label}, minus the baseline's")

    cost_ax = axes[0, -1]
    of_mean = verdicts.of_mean(means)
    for number, cost in enumerate(costs):
        of_cost = of_mean[of_mean["score"] == cost].set_index("method").reindex(order)
        is_method = of_cost["control"] == False  # noqa: E712 (objects)
        effects = of_cost["effect"].where(is_method)
        cost_ax.plot(
            effects, range(len(order)), "dx"[number % 2], color="#555555", markersize=4
        )
    cost_ax.axvline(0, color=style.GREY, linewidth=0.8)
    cost_ax.set_title("cost", fontsize=8, loc="left")
    marks = ", ".join(
        f"{SCORES[cost].label} ({mark})"
        for cost, mark in zip(costs, "◆×", strict=False)
    )
    cost_ax.set_xlabel(marks)
    _finish(cost_ax, len(order))
    labels = [style.fit(names.method(name), 1.6, 1) for name in order]
    axes[0, 0].set_yticks(range(len(order)), labels=labels)
    return figure


def _order(means: pd.DataFrame, score: str) -> list[str]:
    """Return methods and controls from the lowest line to the highest."""
    rows = verdicts.of_mean(means)
    rows = rows[rows["score"] == score]
    rows = rows.assign(is_method=rows["control"] == False)  # noqa: E712 (objects)
    in_order = rows.sort_values(
        ["is_method", "effect"], kind="stable", na_position="first"
    )
    return list(in_order["method"])


def _limits(means: pd.DataFrame, cells: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of an axis that holds all methods, and not all controls."""
    means, cells = (table[~table["control"].astype(bool)] for table in (means, cells))
    ends = [means["low"], means["high"], means["effect"], cells["effect"]]
    least = pd.Series([-verdicts.NEGLIGIBLE, verdicts.NEGLIGIBLE])
    values = pd.concat([*ends, least])
    low, high = values.min(), values.max()
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _draw_panel(
    ax: Axes,
    means: pd.DataFrame,
    cells: pd.DataFrame,
    names: Names,
    limits: tuple[float, float],
) -> None:
    low, high = limits
    negligible = verdicts.NEGLIGIBLE
    ax.axvspan(-negligible, negligible, color="#f0f0f0", zorder=0)
    ax.axvline(0, color=style.GREY, linewidth=0.8)
    of_cells = cells.groupby(["method", *CELL], sort=False)["effect"].mean().dropna()
    for place, row in enumerate(means.itertuples()):
        if pd.isna(row.effect):
            text = _out_of_reach(cells[cells["method"] == row.Index])
            ax.text(0, place, text, color="#555555", size=7, ha="center", va="center")
            continue
        colour = names.colour(row.Index)
        if row.control and not low < row.effect < high:
            is_left = row.effect <= low
            text = f"◂ {row.effect:+.3f}" if is_left else f"{row.effect:+.3f} ▸"
            side = "left" if is_left else "right"
            x = low if is_left else high
            ax.text(x, place, text, color="#555555", size=7, ha=side, va="center")
            continue
        points = of_cells.loc[row.Index]
        ax.plot(points, [place - 0.25] * len(points), ".", color=colour, markersize=2.5)
        face = colour if verdicts.is_shown(row.verdict) else "white"
        look: dict[str, Any] = {"color": colour, "markerfacecolor": face}
        half = None if pd.isna(row.high) else row.high - row.effect
        mark = "s" if row.control else "o"
        ax.errorbar(row.effect, place, xerr=half, fmt=mark, markersize=4.5, **look)
        if row.reason == OUT_OF_REACH:
            text = f"out of reach in {row.out_of_reach:.0f} of {row.all_cells:.0f}"
            ax.text(high, place, text, color="#555555", size=6, ha="right", va="bottom")
    ax.set_xlim(limits)
    _finish(ax, len(means))


def _out_of_reach(cells: pd.DataFrame) -> str:
    """Say of a method without an effect that it is out of reach, and by how much."""
    lacking = cells.loc[cells["status"] == OUT_OF_REACH, "shortfall"]
    if lacking.isna().all():
        return "out of reach" if len(lacking) else ""
    return f"out of reach (R² {-lacking.max():.3f})"


def _finish(ax: Axes, lines: int) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_yticks(range(lines), labels=[])
    ax.set_ylim(-0.6, lines - 0.4)
    ax.grid(True, axis="x")
