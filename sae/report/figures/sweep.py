"""R^2 and MS against the swept option, per cell, with the chosen values marked.

Drawn as differences from the method that each is against, whose values stand in the panel: the effects are a tenth of
the spread between the k. An exception (nothing acceptable, or a choice at the sweep's end) is written out above its
panel. Trials that differ in another option too are lines of another shade.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from sae.comparison.scores import RUN, SCORES, across_groups, diverged
from sae.core import files
from sae.core.paths import trial_name
from sae.report import style
from sae.report.names import MARKERS, Names
from sae.scoring.selection import chosen_rows, rows_under

READS = ["metrics.parquet"]
CAPTION = (
    "Difference from the method that each is against, by the swept option: R² on "
    "the validation split, which chooses its value (ringed), and mean MS over "
    "alive latents on the test split (across groups, where images have groups). "
    "Above: the values of that method by k. A cross at the bottom: an SAE there "
    "diverged; it has no value."
)
# Score and split. The choice is made by the first, on val; the second is what it buys, on test.
_ROWS = [("r2", "val"), ("ms", "test")]
_RING: dict[str, Any] = {
    "markerfacecolor": "none",
    "markersize": 8,
    "linestyle": "none",
}
_ZERO: dict[str, Any] = {"color": "#444444", "linewidth": 0.8}


def draw(results: Path, names: Names) -> Figure:
    """Rows are dataset and quantity, columns backbones and options, lines k, method and its other swept options."""
    metrics = across_groups(rows_under(files.read_parquet(results / READS[0]), "paper"))
    swept = _swept(metrics, names)
    if swept.empty:
        return style.nothing(
            style.panels(1, 1, 1.2, 0)[0], "this experiment sweeps no option"
        )
    columns = [
        (backbone, option)
        for option in swept["option"].unique()
        for backbone in metrics["backbone"].unique()
    ]
    lines = [
        (dataset, *quantity)
        for dataset in metrics["dataset"].unique()
        for quantity in _ROWS
    ]
    ks, looks = sorted(metrics["k"].unique()), _looks(swept, names)
    width, height = max(style.WIDTH / len(columns), 2.3), 0.6
    figure, axes = style.panels(
        len(lines), len(columns), 1, height, sharex="col", sharey="row"
    )
    for row, (dataset, score, split) in zip(axes, lines, strict=True):
        column = SCORES[score].column
        for ax, (backbone, option) in zip(row, columns, strict=True):
            of_cells = metrics[
                (metrics["dataset"] == dataset) & (metrics["backbone"] == backbone)
            ]
            picked, of_option = (
                chosen_rows(of_cells, split, names.compared),
                swept[swept["option"] == option],
            )
            here = of_option[
                of_option.index.isin(of_cells.index) & (of_option["split"] == split)
            ]
            _panel(ax, here, picked, column, looks, names, ks)
            notes = _values(picked, column, of_option, names, ks)
            if split == "val":
                notes = [
                    style.place(names, dataset, backbone),
                    *notes,
                    *_exceptions(here, names),
                ]
            ax.set_title(
                "\n".join(style.fit(note, width, 4) for note in notes), fontsize=7
            )
        row[0].set_ylabel(f"Δ{SCORES[score].label} ({split})")
        height += 1.5 + 0.13 * max(ax.get_title().count("\n") + 1 for ax in row)
    for ax, (_, option) in zip(axes[-1], columns, strict=True):
        ax.set_xlabel("λ" if option == "lambda" else option)
    figure.set_size_inches(width * len(columns), height)
    style.legend(figure, _legend(swept, looks, names, ks, diverged(metrics)))
    return figure


def _swept(metrics: pd.DataFrame, names: Names) -> pd.DataFrame:
    """The rows of each method that sweeps a numeric option: lambda if it is one, else the first by name.

    With columns option, x (its value), others (what the trials say beside it), against (what it is drawn against).
    """
    found = [metrics[:0]]
    for method in names.order(names.compared):
        rows = metrics[metrics["method"] == method]
        options = [
            c for c in sorted(rows.select_dtypes("number")) if _in_trials(rows, c)
        ]
        if options:
            option, against = (
                "lambda" if "lambda" in options else options[0],
                names.of(method).against or method,
            )
            rows = rows.assign(
                option=option,
                x=rows[option],
                others=_others(rows, option),
                against=against,
            )
            found.append(rows)
    return pd.concat(found)


def _looks(swept: pd.DataFrame, names: Names) -> dict[tuple[str, str], dict[str, Any]]:
    """{(method, others): how its lines look}: the later, the lighter."""
    found = {}
    for method, rows in swept.groupby("method", sort=False):
        others = rows["others"].unique()
        for number, other in enumerate(others):
            share = 0.65 * number / len(others)
            red, green, blue = (
                value + share * (1 - value) for value in to_rgb(names.colour(method))
            )
            found[method, other] = style.line(names, method) | {
                "color": to_hex((red, green, blue))
            }
    return found


def _others(rows: pd.DataFrame, option: str) -> pd.Series:
    """What the trials say beside the value of `option`: '-lr0.1-', or '-' where they say nothing else."""
    parts = zip(rows["trial"], rows[option], strict=True)
    return pd.Series(
        [f"-{trial}-".replace(_part(option, value), "-") for trial, value in parts],
        rows.index,
    )


def _in_trials(rows: pd.DataFrame, column: str) -> bool:
    """Whether each trial's name holds its value of `column`, as it does if `column` is a swept option."""
    pairs = set(zip(rows["trial"], rows[column], strict=True))
    return len(pairs) > 1 and all(
        _part(column, value) in f"-{trial}-" for trial, value in pairs
    )


def _part(column: str, value: float) -> str:
    return f"-{trial_name({column: value})}-"


def _panel(
    ax: Axes,
    rows: pd.DataFrame,
    picked: pd.DataFrame,
    column: str,
    looks: dict,
    names: Names,
    ks: list[int],
) -> None:
    ax.axhline(0, zorder=1, **_ZERO)
    points = _differences(rows, picked, column)
    for method in names.order(rows["method"]):
        for (k, other), line in points[points["method"] == method].groupby(
            ["k", "others"], sort=False
        ):
            look = looks[method, other] | {
                "marker": MARKERS[ks.index(k) % len(MARKERS)]
            }
            ax.plot(line["x"], line["difference"], alpha=0.85, **look)
            ringed = line[line["selected"]]
            ax.plot(
                ringed["x"],
                ringed["difference"],
                **look | _RING | {"markeredgewidth": 1.2},
            )
        for x in rows[(rows["method"] == method) & (rows["status"] == "diverged")]["x"]:
            ax.plot(
                x,
                0.03,
                "x",
                color=names.colour(method),
                transform=ax.get_xaxis_transform(),
            )
    x = points["x"]
    if (x > 0).all():
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        if x.max() < 10 * x.min():  # Too short for two powers of 10.
            ax.set_xticks(
                sorted(set(x)), labels=[f"{value:g}" for value in sorted(set(x))]
            )
    ax.grid(True, axis="y")


def _differences(rows: pd.DataFrame, picked: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean over seeds by method, k, x, and the values of all other swept options: a line joins what differs in x."""
    base = picked[[*RUN, "method", column]].rename(columns={"method": "against"})
    both = rows.merge(base, on=[*RUN, "against"], suffixes=("", "_base"))
    grouped = both.assign(difference=both[column] - both[f"{column}_base"]).groupby(
        ["method", "k", "others", "x"]
    )
    return grouped.agg(
        difference=("difference", "mean"), selected=("selected", "any")
    ).reset_index()


def _values(
    picked: pd.DataFrame, column: str, swept: pd.DataFrame, names: Names, ks: list[int]
) -> list[str]:
    """By k, the values of the methods that others are drawn against."""
    found = []
    for method in names.order(swept["against"]):
        values = (
            picked[picked["method"] == method].groupby("k")[column].mean().reindex(ks)
        )
        found.append(
            f"{names.method(method)} " + " / ".join(f"{value:.3f}" for value in values)
        )
    return found


def _exceptions(rows: pd.DataFrame, names: Names) -> list[str]:
    found = []
    for selection, said in (
        ("edge", "at the sweep's end"),
        ("fallback", "nothing acceptable"),
    ):
        ks = rows[rows["selection"] == selection].groupby("method")["k"].unique()
        of = [
            f"{names.method(m)}, k = {', '.join(map(str, sorted(ks[m])))}"
            for m in names.order(ks.index)
        ]
        if of:
            found.append(f"{said}: {'; '.join(of)}")
    return found


def _legend(
    swept: pd.DataFrame, looks: dict, names: Names, ks: list[int], lost: dict[str, str]
) -> list[Line2D]:
    entries = []
    for (method, other), look in looks.items():
        label = names.method(method) + (
            f" ({lost[method]} diverged)" if method in lost else ""
        )
        said = re.sub("-(?=[a-z_])", ", ", other.rstrip("-"))
        entries.append(style.reference(label + said, **look | {"marker": ""}))
    point: dict[str, Any] = {"color": "#777777", "linestyle": "none"}
    entries += [
        style.reference(f"k = {k}", marker=MARKERS[n % len(MARKERS)], **point)
        for n, k in enumerate(ks)
    ]
    entries.append(style.reference("chosen", marker="o", **point | _RING))
    entries += [style.reference("diverged", marker="x", **point)] if lost else []
    references = " or ".join(map(names.method, names.order(swept["against"])))
    return [*entries, style.reference(f"{references} (values by k)", **_ZERO)]
