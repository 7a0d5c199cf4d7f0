"""What each method gains in each cell, and what share of latents it leaves measured.

A row a cell: on the left the effect on detection, on the right that on the share of
latents that fire often enough for detection.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sae.comparison import fronts, leaderboard
from sae.comparison.scores import SCORES, across_groups
from sae.report import style
from sae.report.names import Names
from sae.scoring.front import DETECTION
from sae.scoring.rows import CELL

READS = ["metrics.parquet", "made_by.json"]
SHOWN = (DETECTION, "measured")
MOST = 4  # methods: those of more do not tell apart in a line
CAPTION = (
    "What each method has above its baseline at the same R² in each cell "
    "(dataset, backbone, k), on test images: detection, and the share of latents "
    "that fire often enough to be measured, each on a front of its own. Bars: "
    "the lowest and the highest of the fresh seeds, where there are any. Hollow: "
    "the method ends at a lower R² than the baseline is compared at. The first "
    "four methods are shown."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a panel per score, a line per cell."""
    metrics, made_by = leaderboard.read(results)
    rule = made_by.fronts.model_copy(update={"widths": made_by.fronts.widths[:1]})
    of_protocol = fronts.of_protocol(across_groups(metrics), rule)
    effects = fronts.effects(of_protocol, names.tuned, rule)
    effects = effects[(effects["status"] == "ok") & effects["score"].isin(SHOWN)]
    datasets = list(effects["dataset"].unique())
    cells = effects.groupby("dataset")[CELL[1:]].apply(pd.DataFrame.drop_duplicates)
    most_lines = cells.groupby(level="dataset").size().max() if datasets else 1
    height = 0.5 + 0.22 * most_lines
    figure, axes = style.panels(len(datasets), len(SHOWN), height, 0.5, sharex="col")
    if DETECTION not in set(effects["score"]):
        return style.nothing(figure, "no method has a front of detection here")

    methods = names.order(effects["method"])[:MOST]
    for row, dataset in zip(axes, datasets, strict=True):
        of_dataset = effects[effects["dataset"] == dataset]
        lines = list(cells.loc[dataset].itertuples(index=False, name=None))
        for ax, score in zip(row, SHOWN, strict=True):
            of_score = of_dataset[of_dataset["score"] == score]
            _draw_panel(ax, of_score, lines, methods, names)
        labels = [f"{names.backbone(backbone)}, k = {k}" for backbone, k in lines]
        labels = [style.fit(label, 2.6, 1) for label in labels]
        row[0].set_yticks(range(len(lines)), labels=labels)
        row[0].set_title(style.fit(names.dataset(dataset), 3), fontsize=8, loc="left")
    for ax, score in zip(axes[-1], SHOWN, strict=True):
        ax.set_xlabel(f"{SCORES[score].label}, above the baseline")
    style.legend(figure, style.handles(names, methods))
    return figure


def _draw_panel(
    ax: Axes, effects: pd.DataFrame, lines: list, methods: list[str], names: Names
) -> None:
    ax.axvline(0, color=style.GREY, linewidth=0.8)
    by_line = dict(iter(effects.groupby([*CELL[1:], "method"], sort=False)))
    for place, line in enumerate(lines):
        for number, method in enumerate(methods):
            rows = by_line.get((*line, method))
            if rows is None:
                continue
            height = place + 0.16 * (number - (len(methods) - 1) / 2)
            mean = rows["effect"].mean()
            colour = names.colour(method)
            face = "white" if rows["below_floor"].any() else colour
            ends = [rows["effect"].min(), rows["effect"].max()]
            ax.plot(ends, [height] * 2, color=colour, linewidth=1)
            ax.plot(
                mean,
                height,
                names.marker(method),
                color=colour,
                markerfacecolor=face,
                markersize=4,
            )
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.set_yticks(range(len(lines)), labels=[])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.grid(True, axis="x")
