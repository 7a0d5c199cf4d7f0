"""One look for all figures, and the pieces that they share: text that is printed as it is, a legend, files."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import Formatter, LogFormatterMathtext
from PIL import Image

from sae.core import files
from sae.report.names import Names

WIDTH = 7.0  # inches: the text width of a page
GREY = "#999999"  # of references: a training k, the raw embedding
_LEGEND, _CREDIT = 7.5, 5  # points: the text of legends, and of who made the pictures
_LETTER = 0.06  # inches, about, at the size of a legend's text

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": _LEGEND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.hashsalt": "sae",  # Else the names of its parts are random.
    # A label is printed as it is: what stands between two $ would else be mathematics, and wrong as such.
    "text.parse_math": False,
}


def fit(text: str, width: float, lines: int = 2) -> str:
    """A text in lines that are about `width` inches long; it ends in ... where it has more of them than `lines`."""
    return "\n".join(
        textwrap.wrap(text, int(width / _LETTER), max_lines=lines, placeholder=" ...")
    )


def cut(text: str, width: float, size: float) -> str:
    """A text on one line, ending in ... where it is wider than `width` inches in letters of `size` points."""
    font = FontProperties(family=RC["font.family"], size=size)

    def inches(text: str) -> float:
        return (
            text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72
        )

    if inches(text) <= width:
        return text
    while text and inches(f"{text} ...") > width:
        text = text[:-1].rstrip()
    return f"{text} ..."


def place(names: Names, dataset: str, backbone: str) -> str:
    """A dataset and a backbone in words."""
    return f"{names.dataset(dataset)}, {names.backbone(backbone)}"


def of_gallery(
    figure: Figure, names: Names, row: Any, bottom: float = 0, **look: Any
) -> None:
    """Write above a gallery which cell it shows, and which methods it lacks; below it, whose pictures it shows.

    Args:
        row: one of the gallery's.
        bottom: of what is drawn, as a share of the figure's height.
    """
    text = fit(
        f"{place(names, row['dataset'], row['backbone'])}, k = {row['k']}, seed {row['seed']}",
        WIDTH,
    )
    if row["left_out"]:
        left_out = ", ".join(map(names.method, row["left_out"].split()))
        text += "\n" + fit(
            f"Not shown, since no trial was acceptable here: {left_out}", WIDTH, 4
        )
    figure.suptitle(text, fontsize=8, **look)
    if row["credit"]:
        credit = fit(f"Pictures: {row['credit']}", WIDTH * _LEGEND / _CREDIT, 20)
        below = bottom - 0.06 / figure.get_figheight()
        figure.text(
            0.5, below, credit, fontsize=_CREDIT, color="#777777", ha="center", va="top"
        )


def line(names: Names, method: str) -> dict[str, Any]:
    """How the lines of a method look, for `Axes.plot`."""
    return {
        "color": names.colour(method),
        "linestyle": names.dashes(method),
        "marker": names.marker(method),
    }


def handles(names: Names, methods: Iterable[str]) -> list[Line2D]:
    """Entries of a legend: the methods in the order of config."""
    return [
        Line2D([], [], **line(names, method), label=names.method(method))
        for method in names.order(methods)
    ]


def reference(label: str, **look: Any) -> Line2D:
    """An entry of a legend that is no method; grey, unless `look` says more."""
    return Line2D([], [], **{"color": GREY, **look}, label=label)


def legend(figure: Figure, entries: list[Line2D]) -> None:
    """A legend below the panels, in as many columns as the figure's width takes.

    A figure's size has room for two rows; it grows by the others, so that panels keep their height.
    """
    labels = [fit(str(entry.get_label()), 0.6 * WIDTH) for entry in entries]
    widths = [
        _LETTER * max(map(len, label.split("\n"))) + 0.62 for label in labels
    ]  # inches, about

    def fits(columns: int) -> bool:
        rows = -(-len(widths) // columns)  # Filled column by column.
        return (
            sum(max(widths[i : i + rows]) for i in range(0, len(widths), rows))
            <= figure.get_figwidth()
        )

    columns = next((n for n in range(len(entries), 1, -1) if fits(n)), 1)
    look: dict[str, Any] = {
        "loc": "outside lower center",
        "ncols": columns,
        "frameon": False,
    }
    # Handles are long enough to show the dashes.
    figure.legend(entries, labels, handlelength=3.2, columnspacing=1.2, **look)
    rows = -(-len(entries) // columns)
    figure.set_figheight(
        figure.get_figheight() + 0.213 * max(0, rows - 2)
    )  # A row of a legend, in inches.


def nothing(figure: Figure, text: str) -> Figure:
    """The figure, whose panel says why it is empty."""
    figure.axes[0].axis("off")
    figure.axes[0].text(
        0.5, 0.5, text, ha="center", va="center", transform=figure.axes[0].transAxes
    )
    return figure


def panels(
    rows: int, columns: int, height: float, beside: float, **look: Any
) -> tuple[Figure, Any]:
    """A figure and its axes (rows, columns), one of each at least.

    Args:
        height: of a row, in inches.
        beside: inches of height for all else.
    """
    rows, columns = max(1, rows), max(1, columns)
    size = (max(WIDTH, 2.3 * columns), height * rows + beside)
    return plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **look
    )


def save(figure: Figure, out: Path, name: str) -> None:
    """Write `out`/`name`.png, .pdf and .svg and close the figure; the same figure gives the same bytes."""
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        if isinstance(major := axis.get_major_formatter(), LogFormatterMathtext):
            axis.set_major_formatter(_Numbers(major))
        if isinstance(minor := axis.get_minor_formatter(), LogFormatterMathtext):
            axis.set_minor_formatter(_Numbers(minor))
    # No time, no version.
    without = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
    }
    for suffix, metadata in without.items():
        with files.atomic_file(out / f"{name}.{suffix}") as temporary:
            figure.savefig(
                temporary, format=suffix, bbox_inches="tight", metadata=metadata
            )
            if suffix == "png" and not any(ax.images for ax in figure.axes):
                _shrink(temporary)
    plt.close(figure)


def _shrink(png: Path) -> None:
    """Write a drawing anew with the 256 colours that it has most of: a third of the bytes, as it looked."""
    with Image.open(png) as image:
        dpi, drawing = (
            image.info["dpi"],
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE),
        )
    drawing.save(png, format="PNG", optimize=True, dpi=dpi)


class _Numbers(Formatter):
    """Plain numbers at the ticks of a logarithmic axis that matplotlib would write as mathematics."""

    def __init__(self, theirs: LogFormatterMathtext) -> None:
        self._theirs = theirs

    def set_locs(self, locs: Any) -> None:
        self._theirs.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if self._theirs(x, pos) else ""
