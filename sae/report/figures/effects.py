"""The leaderboard as a figure: what each method gains at the same R^2 by each endpoint."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.comparison import leaderboard, outcomes
from sae.comparison.scores import SCORES, across_groups
from sae.report import style
from sae.report.names import Names
from sae.scoring.front import DETECTION, ENDPOINTS
from sae.scoring.rows import CELL

READS = ["metrics.parquet", "made_by.json"]
CAPTION = (
    "What each method has above its baseline at the same R², on test images; on "
    "top the one of highest detection. Circle and bar: the mean over (dataset, "
    "family of backbones) blocks, or over datasets where there are six, and its 95 % "
    "interval; filled where the method is better or worse. Small dots: the cells. "
    "Shaded: differences that count as none. Cells alone: not comparable, since in a "
    "quarter of the cells or more the method does not reach the R² at which the "
    "baseline is compared."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a panel per endpoint, a line per method."""
    metrics, made_by = leaderboard.read(results)
    rule = made_by.fronts.model_copy(update={"widths": made_by.fronts.widths[:1]})
    all_readings = outcomes.readings_of(across_groups(metrics), names.tuned, rule)
    means = outcomes.means(
        all_readings, made_by.families, made_by.intervals, made_by.pictures
    )
    means = means.dropna(subset="effect").set_index(["score", "method"])
    measured = [name for name in ENDPOINTS if name in means.index]
    height = 0.6 + 0.19 * all_readings.fronts["method"].nunique()
    figure, axes = style.panels(1, len(measured), height, 0.5)
    if not measured:
        return style.nothing(figure, "no method has a front beside its baseline's")

    by_method = means["effect"].unstack("score")
    # The last key decides between equal values of the first.
    sort_scores = [name for name in (DETECTION, *ENDPOINTS) if name in measured]
    in_order = by_method.sort_values(sort_scores, kind="stable", na_position="first")
    order = in_order.index
    compared = all_readings.fronts[all_readings.fronts["status"] == "ok"]
    cells = compared.groupby(["score", "method", *CELL], sort=False)["effect"].mean()

    for ax, name in zip(axes[0], measured, strict=True):
        _draw_panel(ax, means.loc[name].reindex(order), cells.loc[name], names)
        ax.set_xlabel(f"{SCORES[name].label}, above the baseline")
    labels = [style.fit(names.method(name), 1.6, 1) for name in order]
    axes[0, 0].set_yticks(range(len(order)), labels=labels)
    return figure


def _draw_panel(ax: Axes, means: pd.DataFrame, cells: pd.Series, names: Names) -> None:
    negligible = outcomes.NEGLIGIBLE
    ax.axvspan(-negligible, negligible, color="#f0f0f0", zorder=0)
    ax.axvline(0, color=style.GREY, linewidth=0.8)
    for place, row in enumerate(means.itertuples()):
        if pd.isna(row.effect):
            continue
        colour = names.colour(row.Index)
        of_cells = cells.loc[row.Index]
        heights = [place - 0.25] * len(of_cells)
        ax.plot(of_cells, heights, ".", color=colour, markersize=2.5)
        if row.reason == outcomes.OUT_OF_REACH:
            continue
        face = colour if outcomes.is_shown(row.outcome) else "white"
        look: dict[str, Any] = {"color": colour, "markerfacecolor": face}
        half = row.high - row.effect
        ax.errorbar(row.effect, place, xerr=half, fmt="o", markersize=4.5, **look)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_yticks(range(len(means)), labels=[])
    ax.set_ylim(-0.6, len(means) - 0.4)
    ax.grid(True, axis="x")
