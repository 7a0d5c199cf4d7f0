"""R^2 and MS against the swept option, per cell, with the chosen values marked.

Drawn as differences from the method that each is against, whose values stand in the
panel: the effects are a tenth of the spread between the k. An exception (nothing
acceptable, or a choice at the sweep's end) is written out above its panel. Trials that
differ in another option too are lines of another shade.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from sae.comparison.scores import RUN, SCORES, across_groups, diverged
from sae.core.paths import value_in_path
from sae.report import style
from sae.report.names import MARKERS, Names
from sae.scoring.rows import read_metrics, swept_options
from sae.scoring.selection import chosen_rows, rows_under

READS = ["metrics.parquet"]
CAPTION = (
    "Difference from the method that each is against, by the swept option: R² on "
    "the validation split, which chooses its value (ringed), and mean MS over "
    "alive latents on the test split (across groups, where images have groups). "
    "Above: the values of that method by k. A cross at the bottom: an SAE there "
    "diverged; it has no value."
)
# Score and split. The choice is made by the first, on val; the second is what it buys,
# on test.
_QUANTITIES = [("r2", "val"), ("ms", "test")]
_RING: dict[str, Any] = {
    "markerfacecolor": "none",
    "markersize": 8,
    "linestyle": "none",
}
_ZERO: dict[str, Any] = {"color": "#444444", "linewidth": 0.8}

Look = dict[str, Any]  # keyword arguments of `Axes.plot`


@dataclass(frozen=True)
class _Looks:
    """How lines, by (method, other options), and all k look."""

    names: Names
    lines: dict[tuple[str, str], Look]
    ks: list[int]

    def marker(self, k: int) -> str:
        """Return the marker of a k."""
        return MARKERS[self.ks.index(k) % len(MARKERS)]


def draw(results: Path, names: Names) -> Figure:
    """Draw a row per dataset and quantity, a column per backbone and option.

    Lines are k, method and its other swept options.
    """
    metrics = across_groups(rows_under(read_metrics(results / READS[0]), "paper"))
    swept = _swept_rows(metrics, names)
    if swept.empty:
        empty_figure, _ = style.panels(1, 1, 1.2, 0)
        return style.nothing(empty_figure, "this experiment sweeps no option")

    columns = [
        (backbone, option)
        for option in swept["option"].unique()
        for backbone in metrics["backbone"].unique()
    ]
    lines = [
        (dataset, *quantity)
        for dataset in metrics["dataset"].unique()
        for quantity in _QUANTITIES
    ]
    looks = _Looks(names, _line_looks(swept, names), sorted(metrics["k"].unique()))
    width = max(style.WIDTH / len(columns), 2.3)
    height = 0.6
    figure, axes = style.panels(
        len(lines), len(columns), 1, height, sharex="col", sharey="row"
    )
    for row, (dataset, score, split) in zip(axes, lines, strict=True):
        column = SCORES[score].column
        for ax, (backbone, option) in zip(row, columns, strict=True):
            of_cells = metrics[
                (metrics["dataset"] == dataset) & (metrics["backbone"] == backbone)
            ]
            chosen = chosen_rows(of_cells, split, names.compared)
            of_option = swept[swept["option"] == option]
            panel_rows = of_option[
                of_option.index.isin(of_cells.index) & (of_option["split"] == split)
            ]
            _draw_panel(ax, panel_rows, _differences(panel_rows, chosen, column), looks)

            ks_of_cells = sorted(of_cells["k"].unique())
            notes = _reference_values(chosen, column, of_option, names, ks_of_cells)
            if split == "val":
                place = style.place(names, dataset, backbone)
                notes = [place, *notes, *_exceptions(panel_rows, names)]
            title = "\n".join(style.fit(note, width, 4) for note in notes)
            ax.set_title(title, fontsize=7)
        row[0].set_ylabel(f"Δ{SCORES[score].label} ({split})")
        height += 1.5 + 0.13 * max(ax.get_title().count("\n") + 1 for ax in row)
    for ax, (_, option) in zip(axes[-1], columns, strict=True):
        ax.set_xlabel("λ" if option == "lambda" else option)
    figure.set_size_inches(width * len(columns), height)
    style.legend(figure, _legend(swept, looks, diverged(metrics)))
    return figure


# -- what is swept


def _swept_rows(metrics: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Return rows of sweeps of a number: with `option`, `x`, `others`, `against`."""
    tables = [metrics[:0]]
    for method in names.order(names.compared):
        rows = metrics[metrics["method"] == method]
        varied_options = _varied_options(rows)
        # Yes and no have no place on an axis.
        numbers = [
            name
            for name in varied_options
            if is_numeric_dtype(rows[name]) and not is_bool_dtype(rows[name])
        ]
        if not numbers:
            continue
        option = "lambda" if "lambda" in numbers else numbers[0]
        other_options = [name for name in varied_options if name != option]
        table = rows.assign(
            option=option,
            x=rows[option],
            others=_write_options(rows, other_options),
            against=names.of(method).against or method,
        )
        tables.append(table)
    return pd.concat(tables)


def _varied_options(rows: pd.DataFrame) -> list[str]:
    """Return the options of which a method tries several values in one place."""
    # What differs only between datasets and backbones is a recipe's, and not swept.
    places = rows.groupby(["dataset", "backbone"])
    return [
        option
        for option in sorted(swept_options(rows))
        if places[option].nunique().max() > 1
    ]


def _write_options(rows: pd.DataFrame, options: list[str]) -> pd.Series:
    """Write the options of each row, such as "lr 0.1, m 64"."""
    texts = [
        ", ".join(
            f"{option} {value_in_path(value)}"
            for option, value in zip(options, values, strict=True)
        )
        for values in rows[options].to_numpy(dtype=object)
    ]
    return pd.Series(texts, rows.index, dtype=object)


# -- a panel


def _line_looks(swept: pd.DataFrame, names: Names) -> dict[tuple[str, str], Look]:
    looks = {}
    for method, rows in swept.groupby("method", sort=False):
        other_options = rows["others"].unique()
        colour = to_rgb(names.colour(method))
        for number, options in enumerate(other_options):
            share_of_white = 0.65 * number / len(other_options)
            red, green, blue = (part + share_of_white * (1 - part) for part in colour)
            look = style.line(names, method)
            looks[method, options] = {**look, "color": to_hex((red, green, blue))}
    return looks


def _draw_panel(
    ax: Axes, rows: pd.DataFrame, points: pd.DataFrame, looks: _Looks
) -> None:
    names = looks.names
    ax.axhline(0, zorder=1, **_ZERO)
    for method in names.order(rows["method"]):
        of_method = points[points["method"] == method]
        for (k, options), line in of_method.groupby(["k", "others"], sort=False):
            look = {**looks.lines[method, options], "marker": looks.marker(k)}
            ax.plot(line["x"], line["difference"], alpha=0.85, **look)
            chosen = line[line["selected"]]
            ring = {**look, **_RING, "markeredgewidth": 1.2}
            ax.plot(chosen["x"], chosen["difference"], **ring)
        is_diverged = (rows["method"] == method) & (rows["status"] == "diverged")
        for x in rows[is_diverged]["x"]:
            ax.plot(
                x,
                0.03,
                "x",
                color=names.colour(method),
                transform=ax.get_xaxis_transform(),
            )
    _scale_x(ax, points["x"])
    ax.grid(True, axis="y")


def _scale_x(ax: Axes, x: pd.Series) -> None:
    """Make the x axis logarithmic, unless an option has the value 0."""
    if not (x > 0).all():
        return
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    # Too short for two powers of 10.
    if x.max() < 10 * x.min():
        ticks = sorted(set(x))
        ax.set_xticks(ticks, labels=[f"{value:g}" for value in ticks])


def _differences(rows: pd.DataFrame, chosen: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return mean differences over seeds, by method, k, others and x."""
    references = chosen[[*RUN, "method", column]].rename(columns={"method": "against"})
    pairs = rows.merge(references, on=[*RUN, "against"], suffixes=("", "_base"))
    pairs = pairs.assign(difference=pairs[column] - pairs[f"{column}_base"])
    by_point = pairs.groupby(["method", "k", "others", "x"])
    means = by_point.agg(
        difference=("difference", "mean"), selected=("selected", "any")
    )
    return means.reset_index()


# -- words


def _reference_values(
    chosen: pd.DataFrame,
    column: str,
    swept: pd.DataFrame,
    names: Names,
    ks: list[int],
) -> list[str]:
    """Print by k the values of the methods that others are drawn against."""
    texts = []
    for method in names.order(swept["against"]):
        of_method = chosen[chosen["method"] == method]
        by_k = of_method.groupby("k")[column].mean().reindex(ks)
        values = " / ".join(f"{value:.3f}" for value in by_k)
        texts.append(f"{names.method(method)} {values}")
    return texts


def _exceptions(rows: pd.DataFrame, names: Names) -> list[str]:
    """Say where the choice is at the sweep's end, or there is none."""
    sentences = []
    meanings = {"edge": "at the sweep's end", "fallback": "nothing acceptable"}
    for selection, meaning in meanings.items():
        of_selection = rows[rows["selection"] == selection]
        ks_by_method = of_selection.groupby("method")["k"].unique()
        parts = []
        for method in names.order(ks_by_method.index):
            ks = ", ".join(map(str, sorted(ks_by_method[method])))
            parts.append(f"{names.method(method)}, k = {ks}")
        if parts:
            sentences.append(f"{meaning}: {'; '.join(parts)}")
    return sentences


def _legend(
    swept: pd.DataFrame, looks: _Looks, diverged_saes: dict[str, str]
) -> list[Line2D]:
    names = looks.names
    entries = []
    for (method, options), look in looks.lines.items():
        label = names.method(method)
        if method in diverged_saes:
            label += f" ({diverged_saes[method]} diverged)"
        if options:
            label += f", {options}"
        entries.append(style.reference(label, **{**look, "marker": ""}))

    point: Look = {"color": "#777777", "linestyle": "none"}
    for k in looks.ks:
        entries.append(style.reference(f"k = {k}", marker=looks.marker(k), **point))
    entries.append(style.reference("chosen", marker="o", **{**point, **_RING}))
    if diverged_saes:
        entries.append(style.reference("diverged", marker="x", **point))
    references = " or ".join(map(names.method, names.order(swept["against"])))
    entries.append(style.reference(f"{references} (values by k)", **_ZERO))
    return entries
