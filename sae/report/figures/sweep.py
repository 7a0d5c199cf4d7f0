"""R^2 and MS against the swept option, per cell, with the chosen values marked.

Drawn as differences from the method that each is against, whose values stand in the panel: the effects are a tenth of
the spread between the k. An exception (nothing acceptable, or a choice at the sweep's end) is written out in its panel.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from sae.core import files
from sae.core.paths import trial_name
from sae.report import style
from sae.report.names import MARKERS, Names
from sae.report.style import plt
from sae.scoring.selection import CELL, chosen

READS = ["metrics.parquet"]
CAPTION = (
    "Difference from the method that each is against, by the swept option: R² on the validation split, which chooses "
    "its value (ringed), and mean MS over alive latents on the test split."
)
# Column, split, label. The choice is made by the first, on val; the second is what it buys, on test.
_ROWS = [("r2", "val", r"$\Delta R^2$ (val)"), ("ms_mean_alive", "test", r"$\Delta$ mean MS, alive (test)")]
_RUN = [*CELL, "seed"]
_ZERO: dict[str, Any] = {"color": "#444444", "linewidth": 0.8}


class _Sweep(NamedTuple):
    """A method's sweep: the option on the x axis, the method that it is drawn against."""

    method: str
    option: str
    reference: str


def draw(results: Path, names: Names) -> Figure:
    """Rows are dataset and quantity, columns backbones and options, lines k and method."""
    metrics = files.read_parquet(results / READS[0])
    sweeps = _sweeps(metrics, names)
    if not sweeps:
        figure, ax = plt.subplots(figsize=(style.WIDTH, 1.2))
        style.nothing(ax, "this experiment sweeps no option")
        return figure
    datasets, options = metrics["dataset"].unique(), list(dict.fromkeys(sweep.option for sweep in sweeps))
    columns = [(backbone, option) for option in options for backbone in metrics["backbone"].unique()]
    ks = sorted(metrics["k"].unique())
    size = (max(style.WIDTH, 2.3 * len(columns)), 1.75 * 2 * len(datasets) + 0.6)
    figure, axes = plt.subplots(
        2 * len(datasets), len(columns), figsize=size, sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    lines = [(2 * i + q, dataset, quantity) for i, dataset in enumerate(datasets) for q, quantity in enumerate(_ROWS)]
    for i, dataset, (column, split, label) in lines:
        for j, (backbone, option) in enumerate(columns):
            ax, shown = axes[i, j], [sweep for sweep in sweeps if sweep.option == option]
            here = metrics[(metrics["dataset"] == dataset) & (metrics["backbone"] == backbone)]
            picked = chosen(here, split, names.compared)
            here = here[here["split"] == split]
            _panel(ax, here, picked, column, shown, names, ks)
            _notes(ax, here, picked, column, shown, names, ks, top=bool(i % 2))
            if i % 2 == 0:
                ax.set_title(style.place(names, dataset, backbone))
            if j == 0:
                ax.set_ylabel(label)
            if i == len(axes) - 1:
                ax.set_xlabel(r"$\lambda$" if option == "lambda" else style.plain(option))
    style.legend(figure, _legend(sweeps, names, ks))
    return figure


def _sweeps(metrics: pd.DataFrame, names: Names) -> list[_Sweep]:
    """Of each method that sweeps a numeric option: lambda if it is one, else the first by name."""
    found = []
    for method in names.order(names.compared):
        rows = metrics[metrics["method"] == method]
        swept = [c for c in sorted(rows.select_dtypes("number")) if _in_trials(rows, c)]
        if swept:
            option = "lambda" if "lambda" in swept else swept[0]
            found.append(_Sweep(method, option, names.against(method) or method))
    return found


def _in_trials(rows: pd.DataFrame, column: str) -> bool:
    """Whether each trial's name holds its value of `column`, as it does if `column` is a swept option."""
    pairs = set(zip(rows["trial"], rows[column], strict=True))
    return len(pairs) > 1 and all(_part(column, value) in f"-{trial}-" for trial, value in pairs)


def _part(column: str, value: float) -> str:
    return f"-{trial_name({column: value})}-"


def _panel(
    ax: Axes, rows: pd.DataFrame, picked: pd.DataFrame, column: str, sweeps: list[_Sweep], names: Names, ks: list[int]
) -> None:
    ax.axhline(0, zorder=1, **_ZERO)
    shown = []
    for sweep in sweeps:
        points = _differences(rows, picked, column, sweep)
        for (k, _), line in points.groupby(["k", "others"]):
            marker = MARKERS[ks.index(k) % len(MARKERS)]
            look = style.line(names, sweep.method) | {"marker": marker}
            ax.plot(line["x"], line["difference"], alpha=0.85, **look)
            ring = look | {"markerfacecolor": "none", "markersize": 8, "linestyle": "none", "markeredgewidth": 1.2}
            chosen_ones = line[line["selected"]]
            ax.plot(chosen_ones["x"], chosen_ones["difference"], **ring)
        shown.append(points["x"])
    x = pd.concat(shown)
    if (x > 0).all():
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        if x.max() < 10 * x.min():  # Too short for two powers of 10.
            ax.set_xticks(sorted(set(x)), labels=[f"{value:g}" for value in sorted(set(x))])
    ax.grid(True, axis="y")


def _differences(rows: pd.DataFrame, picked: pd.DataFrame, column: str, sweep: _Sweep) -> pd.DataFrame:
    """Mean over seeds by k, x, and the values of all other swept options: a line joins what differs in x alone."""
    base = picked[picked["method"] == sweep.reference][[*_RUN, column]]
    both = rows[rows["method"] == sweep.method].merge(base, on=_RUN, suffixes=("", "_base"))
    both = both.assign(x=both[sweep.option], difference=both[column] - both[f"{column}_base"])
    parts = zip(both["trial"], both["x"], strict=True)
    both["others"] = [f"-{trial}-".replace(_part(sweep.option, value), "-") for trial, value in parts]
    grouped = both.groupby(["k", "others", "x"], as_index=False)
    return grouped.agg(difference=("difference", "mean"), selected=("selected", "any"))


def _notes(
    ax: Axes,
    rows: pd.DataFrame,
    picked: pd.DataFrame,
    column: str,
    sweeps: list[_Sweep],
    names: Names,
    ks: list[int],
    top: bool,
) -> None:
    lines = []
    for reference in names.order(sweep.reference for sweep in sweeps):
        values = picked[picked["method"] == reference].groupby("k")[column].mean().reindex(ks)
        lines.append(f"{names.method(reference)} " + " / ".join(f"{value:.3f}" for value in values))
    swept = rows[rows["method"].isin([sweep.method for sweep in sweeps])]
    special = swept[swept["selection"].isin(["edge", "fallback"])]
    for (method, selection), some in special.groupby(["method", "selection"], sort=False):
        lines.append(f"{names.method(method)}, k = {', '.join(map(str, sorted(some['k'].unique())))}: {selection}")
    y, side = (0.98, "top") if top else (0.04, "bottom")
    look: dict[str, Any] = {"fontsize": 6.5, "color": "#555555", "verticalalignment": side}
    ax.text(0.03, y, style.plain("\n".join(lines)), transform=ax.transAxes, in_layout=False, **look)


def _legend(sweeps: list[_Sweep], names: Names, ks: list[int]) -> list[Line2D]:
    entries = style.handles(names, (sweep.method for sweep in sweeps), marker="")
    point: dict[str, Any] = {"color": "#777777", "linestyle": "none"}
    entries += [style.reference(f"k = {k}", marker=MARKERS[n % len(MARKERS)], **point) for n, k in enumerate(ks)]
    entries.append(style.reference("chosen", marker="o", markerfacecolor="none", markersize=8, **point))
    references = " or ".join(names.method(r) for r in names.order(sweep.reference for sweep in sweeps))
    return [*entries, style.reference(f"{references} (values by k)", **_ZERO)]
