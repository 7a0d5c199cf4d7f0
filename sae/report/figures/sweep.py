"""R^2 and MS against the swept option, per cell, with the chosen values marked.

Drawn as differences from the method that each is against, whose values stand in the panel: the effects are a tenth of
the spread between the k. An exception (nothing acceptable, or a choice at the sweep's end) is written out above its
panel. Trials that differ in another option too are lines of another shade.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from sae.core import files
from sae.core.paths import trial_name
from sae.report import style
from sae.report.names import MARKERS, Names
from sae.report.scores import RUN, across_groups, diverged
from sae.report.style import plt
from sae.scoring.selection import chosen, under

READS = ["metrics.parquet"]
CAPTION = (
    "Difference from the method that each is against, by the swept option: R² on the validation split, which chooses "
    "its value (ringed), and mean MS over alive latents on the test split (across groups, where images have groups). "
    "Above: the values of that method by k. A cross at the bottom: an SAE there diverged; it has no value."
)
# Column, split, label. The choice is made by the first, on val; the second is what it buys, on test.
_ROWS = [("r2", "val", "ΔR² (val)"), ("ms_mean_alive", "test", "Δ mean MS, alive (test)")]
_EXCEPTIONS = {"edge": "at the sweep's end", "fallback": "nothing acceptable"}
_RING: dict[str, Any] = {"markerfacecolor": "none", "markersize": 8, "linestyle": "none"}
_ZERO: dict[str, Any] = {"color": "#444444", "linewidth": 0.8}


class _Sweep(NamedTuple):
    """A method's sweep: the option on the x axis, the method that it is drawn against, what else its trials say."""

    method: str
    option: str
    reference: str
    others: list[str]

    def look(self, names: Names, other: str) -> dict[str, Any]:
        """How the line of the trials that say `other` beside the option looks: the later, the lighter."""
        share = 0.65 * self.others.index(other) / len(self.others)
        red, green, blue = (value + share * (1 - value) for value in to_rgb(names.colour(self.method)))
        return style.line(names, self.method) | {"color": to_hex((red, green, blue))}


def draw(results: Path, names: Names) -> Figure:
    """Rows are dataset and quantity, columns backbones and options, lines k, method and its other swept options."""
    metrics = across_groups(under(files.read_parquet(results / READS[0]), "paper"))
    sweeps = _sweeps(metrics, names)
    if not sweeps:
        figure, ax = plt.subplots(figsize=(style.WIDTH, 1.2))
        style.nothing(ax, "this experiment sweeps no option")
        return figure
    options = list(dict.fromkeys(sweep.option for sweep in sweeps))
    columns = [(backbone, option) for option in options for backbone in metrics["backbone"].unique()]
    lines = [(dataset, *quantity) for dataset in metrics["dataset"].unique() for quantity in _ROWS]
    ks = sorted(metrics["k"].unique())
    width = max(style.WIDTH / len(columns), 2.3)
    height = 0.6
    figure, axes = style.panels(len(lines), len(columns), 1, height, sharex="col", sharey="row")
    for row, (dataset, column, split, label) in zip(axes, lines, strict=True):
        for ax, (backbone, option) in zip(row, columns, strict=True):
            shown = [sweep for sweep in sweeps if sweep.option == option]
            here = metrics[(metrics["dataset"] == dataset) & (metrics["backbone"] == backbone)]
            picked = chosen(here, split, names.compared)
            here = here[here["split"] == split]
            _panel(ax, here, picked, column, shown, names, ks)
            notes = _values(picked, column, shown, names, ks)
            if split == "val":
                notes = [style.place(names, dataset, backbone), *notes, *_exceptions(here, shown, names)]
            ax.set_title("\n".join(style.fit(note, width, 4) for note in notes), fontsize=7)
        row[0].set_ylabel(label)
        height += 1.5 + 0.13 * max(ax.get_title().count("\n") + 1 for ax in row)
    for ax, (_, option) in zip(axes[-1], columns, strict=True):
        ax.set_xlabel("λ" if option == "lambda" else option)
    figure.set_size_inches(width * len(columns), height)
    style.legend(figure, _legend(sweeps, names, ks, diverged(metrics)))
    return figure


def _sweeps(metrics: pd.DataFrame, names: Names) -> list[_Sweep]:
    """Of each method that sweeps a numeric option: lambda if it is one, else the first by name."""
    found = []
    for method in names.order(names.compared):
        rows = metrics[metrics["method"] == method]
        swept = [c for c in sorted(rows.select_dtypes("number")) if _in_trials(rows, c)]
        if swept:
            option, against = "lambda" if "lambda" in swept else swept[0], names.of(method).against
            found.append(_Sweep(method, option, against or method, list(_others(rows, option).unique())))
    return found


def _others(rows: pd.DataFrame, option: str) -> pd.Series:
    """What the trials say beside the value of `option`: '-lr0.1-', or '-' where they say nothing else."""
    parts = zip(rows["trial"], rows[option], strict=True)
    return pd.Series([f"-{trial}-".replace(_part(option, value), "-") for trial, value in parts], rows.index)


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
        for (k, other), line in points.groupby(["k", "others"], sort=False):
            look = sweep.look(names, other) | {"marker": MARKERS[ks.index(k) % len(MARKERS)]}
            ax.plot(line["x"], line["difference"], alpha=0.85, **look)
            ringed = line[line["selected"]]
            ax.plot(ringed["x"], ringed["difference"], **look | _RING | {"markeredgewidth": 1.2})
        for x in rows[(rows["method"] == sweep.method) & (rows["status"] == "diverged")][sweep.option]:
            ax.plot(x, 0.03, "x", color=names.colour(sweep.method), transform=ax.get_xaxis_transform())
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
    base = picked[picked["method"] == sweep.reference][[*RUN, column]]
    both = rows[rows["method"] == sweep.method].merge(base, on=RUN, suffixes=("", "_base"))
    difference = both[column] - both[f"{column}_base"]
    both = both.assign(x=both[sweep.option], difference=difference, others=_others(both, sweep.option))
    grouped = both.groupby(["k", "others", "x"], as_index=False)
    return grouped.agg(difference=("difference", "mean"), selected=("selected", "any"))


def _values(picked: pd.DataFrame, column: str, sweeps: list[_Sweep], names: Names, ks: list[int]) -> list[str]:
    """By k, the values of the methods that others are drawn against."""
    found = []
    for reference in names.order(sweep.reference for sweep in sweeps):
        values = picked[picked["method"] == reference].groupby("k")[column].mean().reindex(ks)
        found.append(f"{names.method(reference)} " + " / ".join(f"{value:.3f}" for value in values))
    return found


def _exceptions(rows: pd.DataFrame, sweeps: list[_Sweep], names: Names) -> list[str]:
    found = []
    swept = rows[rows["method"].isin([sweep.method for sweep in sweeps])]
    for selection, said in _EXCEPTIONS.items():
        ks = swept[swept["selection"] == selection].groupby("method")["k"].unique()
        of = [f"{names.method(m)}, k = {', '.join(map(str, sorted(ks[m])))}" for m in names.order(ks.index)]
        if of:
            found.append(f"{said}: {'; '.join(of)}")
    return found


def _legend(sweeps: list[_Sweep], names: Names, ks: list[int], lost: dict[str, str]) -> list[Line2D]:
    entries = []
    for sweep in sweeps:
        label = names.method(sweep.method)
        label += f" ({lost[sweep.method]} diverged)" if sweep.method in lost else ""
        for other in sweep.others:
            said = re.sub("-(?=[a-z_])", ", ", other.rstrip("-"))
            entries.append(style.reference(label + said, **sweep.look(names, other) | {"marker": ""}))
    point: dict[str, Any] = {"color": "#777777", "linestyle": "none"}
    entries += [style.reference(f"k = {k}", marker=MARKERS[n % len(MARKERS)], **point) for n, k in enumerate(ks)]
    entries.append(style.reference("chosen", marker="o", **point | _RING))
    entries += [style.reference("diverged", marker="x", **point)] if lost else []
    references = " or ".join(names.method(r) for r in names.order(sweep.reference for sweep in sweeps))
    return [*entries, style.reference(f"{references} (values by k)", **_ZERO)]
