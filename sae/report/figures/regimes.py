"""Where the effect lives: by training images per latent, and by learning rate times steps."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae.core import files
from sae.report import style
from sae.report.fair import picked
from sae.report.names import Names
from sae.report.scores import across_groups
from sae.report.style import plt
from sae.report.trials import MS
from sae.scoring.rows import FAIR
from sae.scoring.selection import CELL, under

NEEDS_FAIR = True
READS = ["metrics.parquet", "selection.parquet"]
CAPTION = (
    "Difference in mean MS (alive, test) from the tuned baseline, a row per tolerance in R², a point per cell: mean of "
    "the fresh seeds, with the lowest and the highest. Left by training images per latent, right by the baseline's "
    "learning rate times its steps. Dotted: where the paper is, as far as is known (1.28 million images for 8,192 "
    "latents; 1e-4 times 31,000 steps: 50 epochs of 2,048 a batch). On the left methods of one cell are moved apart by "
    "8 %. A cross is a tie, which counts as 0: no shortlisted trial is eligible; with a number, as many in one place. "
    "Undertrained cells are hollow, their ties pale."
)
_PAPER = {"images_per_latent": 156, "lr_times_steps": 3.1}
_TIE: dict[str, Any] = {"marker": "x", "markersize": 6, "linestyle": "none"}
_APART = 1.08  # how far apart methods of one cell stand, as a ratio
_LABELS = {"images_per_latent": "training images per latent", "lr_times_steps": "learning rate x steps of the baseline"}


def draw(results: Path, names: Names) -> Figure:
    """A row per tolerance, a column per quantity, a colour and marker per method; cells are joined by images."""
    points = effects_by_cell(results, names)
    tolerances = points["tolerance"].unique()
    size = (style.WIDTH, 1.9 * len(tolerances) + 0.7)
    figure, axes = plt.subplots(
        len(tolerances), 2, figsize=size, sharex="col", sharey=True, squeeze=False, layout="constrained"
    )
    for row, tolerance in zip(axes, tolerances, strict=True):
        at = points[points["tolerance"] == tolerance]
        for ax, quantity in zip(row, _LABELS, strict=True):
            ax.axhline(0, color="#444444", linewidth=0.8, zorder=1)
            ax.axvline(_PAPER[quantity], color=style.GREY, linestyle=":", linewidth=1)
            order = names.order(at["method"])
            for number, method in enumerate(order):
                place = number - (len(order) - 1) / 2
                beside = _APART**place if quantity == "images_per_latent" else 1
                own = at[at["method"] == method]
                _method(ax, own.assign(**{quantity: own[quantity] * beside}), quantity, method, names)
            ax.set_xscale("log")
            ax.grid(True)
        row[0].set_ylabel(f"tolerance {tolerance:g} (R², val)\nΔ mean MS, alive (test)")
    for ax, label in zip(axes[-1], _LABELS.values(), strict=True):
        ax.set_xlabel(label)
    entries = style.handles(names, names.order(points["method"]))
    entries += [style.reference("tie", **_TIE)] if points["tie"].any() else []
    style.legend(figure, [*entries, style.reference("the paper", linestyle=":")])
    return figure


def effects_by_cell(results: Path, names: Names) -> pd.DataFrame:
    """A row per tolerance, cell and compared method: its effect (mean, low, high over seeds), where the cell lies."""
    metrics = across_groups(files.read_parquet(results / READS[0]))
    selection = under(files.read_parquet(results / READS[1]), FAIR)
    found = []
    for tolerance in selection["tolerance"].unique():
        picks = picked(metrics, selection, names.compared, tolerance)
        for key, cell in picks.groupby(CELL, sort=False):
            runs = {method: rows.set_index("seed") for method, rows in cell.groupby("method")}
            for method, other in names.compared.items():
                if other is None or not {method, other} <= runs.keys():
                    continue
                base, change = runs[other], (runs[method][MS] - runs[other][MS]).dropna()
                where = {"tolerance": tolerance} | dict(zip(CELL, key, strict=True)) | {"method": method}
                where |= {"undertrained": base["undertrained"].any(), "tie": runs[method]["fallback"].all()}
                where |= {"mean": change.mean(), "low": change.min(), "high": change.max()}
                where |= {"images_per_latent": base["images_per_latent"].mean()}
                found.append(where | {"lr_times_steps": (base["lr"] * base["steps"]).mean()})
    return pd.DataFrame(found)


def _method(ax: Axes, points: pd.DataFrame, quantity: str, method: str, names: Names) -> None:
    look = style.line(names, method)
    for _, line in points.groupby(["backbone", "k"]):
        line = line.sort_values(quantity)
        joined = look["linestyle"] if quantity == "images_per_latent" else "none"
        measured = line["mean"].mask(line["tie"].astype(bool))  # A tie is no measured 0: the line ends before it.
        ax.plot(line[quantity], measured, **look | {"marker": "", "linestyle": joined, "alpha": 0.6})
    for point in points.to_dict("records"):
        ax.plot([point[quantity]] * 2, [point["low"], point["high"]], color=look["color"], linewidth=0.6)
        if point["tie"]:
            inside = _TIE | {"alpha": 0.4 if point["undertrained"] else 1}
        else:
            inside = {"linestyle": "none"} | ({"markerfacecolor": "none"} if point["undertrained"] else {})
        ax.plot(point[quantity], point["mean"], **look | inside)
    ties = points.loc[points["tie"].astype(bool), quantity].round(6)  # As many in one place, but for rounding.
    for place, count in ties.value_counts().items():
        if count > 1:
            ax.annotate(str(count), (place, 0), (0, 5), textcoords="offset points", ha="center", color=look["color"])
