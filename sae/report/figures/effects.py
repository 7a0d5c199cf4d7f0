"""What each method gains at the same R^2, by each endpoint: the board as a figure."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.comparison import board, fronts, intervals
from sae.comparison.scores import ENDPOINTS, SCORES, across_groups
from sae.report import style
from sae.report.names import Names
from sae.scoring.rows import CELL

READS = ["metrics.parquet", "made_by.json"]
CAPTION = (
    "What each method has above its baseline at the same R², on test images; on top the one of highest detection. "
    "Circle and bar: the mean over (dataset, backbone) blocks and its 95 % interval; filled where the difference is "
    "shown. Small dots: the cells. Shaded: differences that count as none. *: on average it reaches less R² than the "
    "baseline, by more than the window."
)


def draw(results: Path, names: Names) -> Figure:
    """A panel per endpoint, a line per method."""
    metrics, made_by = board.read(results)
    rule = made_by.fronts.model_copy(update={"widths": made_by.fronts.widths[:1]})
    found = fronts.effects(
        fronts.of_rule(across_groups(metrics), rule), names.tuned, rule
    )
    means = (
        intervals.means(found).dropna(subset="effect").set_index(["score", "method"])
    )
    measured = [name for name in ENDPOINTS if name in means.index]
    figure, axes = style.panels(
        1, max(len(measured), 1), 0.6 + 0.19 * found["method"].nunique(), 0.5
    )
    if not measured:
        return style.nothing(figure, "no method has a front beside its baseline's")
    by_method = means["effect"].unstack("score")
    order = by_method.sort_values(
        measured[::-1], kind="stable", na_position="first"
    ).index
    cells = (
        found[found["status"] == "ok"]
        .groupby(["score", "method", *CELL], sort=False)["effect"]
        .mean()
    )
    for ax, name in zip(axes[0], measured, strict=True):
        _panel(ax, means.loc[name].reindex(order), cells.loc[name], names)
        ax.set_xlabel(f"{SCORES[name].label}, above the baseline")
    axes[0, 0].set_yticks(
        range(len(order)),
        labels=[style.fit(names.method(name), 1.6, 1) for name in order],
    )
    return figure


def _panel(ax: Axes, means: pd.DataFrame, cells: pd.Series, names: Names) -> None:
    ax.axvspan(-intervals.NEGLIGIBLE, intervals.NEGLIGIBLE, color="#f0f0f0", zorder=0)
    ax.axvline(0, color=style.GREY, linewidth=0.8)
    for place, row in enumerate(means.itertuples()):
        if row.effect != row.effect:
            continue
        colour, own = names.colour(row.Index), cells.loc[row.Index]
        ax.plot(own, [place - 0.25] * len(own), ".", color=colour, markersize=2.5)
        face = colour if row.outcome.startswith("shown") else "white"
        look: dict[str, Any] = {"color": colour, "markerfacecolor": face}
        ax.errorbar(
            row.effect,
            place,
            xerr=row.high - row.effect,
            fmt="o",
            markersize=4.5,
            **look,
        )
        if row.at_lower_r2:
            ax.annotate(
                "*",
                (row.effect, place),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
            )
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_yticks(range(len(means)), labels=[])
    ax.set_ylim(-0.6, len(means) - 0.4)
    ax.grid(True, axis="x")
