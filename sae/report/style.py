"""One look for all figures, and the pieces that they share.

These are text that is printed as it is, a legend, and files.
"""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axis import Axis
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
_LEGEND = 7.5  # points: the text of legends
_CREDIT = 5  # points: who made the pictures
_LETTER = 0.06  # inches, about, at the size of a legend's text
_LEGEND_ROW = 0.213  # inches

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
    # A label is printed as it is: what stands between two $ would else be mathematics,
    # and wrong as such.
    "text.parse_math": False,
}


def fit(text: str, width: float, lines: int = 2) -> str:
    """Break a text into lines that are about `width` inches long.

    It ends in ... where it has more of them than `lines`.
    """
    letters = int(width / _LETTER)
    return "\n".join(textwrap.wrap(text, letters, max_lines=lines, placeholder=" ..."))


def cut(text: str, width: float, size: float) -> str:
    """Cut a text to one line, ending in ... where it is wider than the line.

    Args:
        text: The text.
        width: Of the line, in inches.
        size: Of the letters, in points.
    """
    font = FontProperties(family=RC["font.family"], size=size)

    def inches(text: str) -> float:
        points, _, _ = text_to_path.get_text_width_height_descent(
            text, font, ismath=False
        )
        return points / 72

    if inches(text) <= width:
        return text
    while text and inches(f"{text} ...") > width:
        text = text[:-1].rstrip()
    return f"{text} ..."


def place(names: Names, dataset: str, backbone: str) -> str:
    """Return a dataset and a backbone in words."""
    return f"{names.dataset(dataset)}, {names.backbone(backbone)}"


def of_gallery(
    figure: Figure, names: Names, row: Any, bottom: float = 0, **look: Any
) -> None:
    """Write above a gallery which cell it shows, and which methods it lacks.

    Below it stands whose pictures it shows.

    Args:
        figure: The gallery.
        names: How methods, datasets and backbones are printed.
        row: One of the gallery's.
        bottom: Of what is drawn, as a share of the figure's height.
        look: Of the text above.
    """
    cell_place = place(names, row["dataset"], row["backbone"])
    text = fit(f"{cell_place}, k = {row['k']}, seed {row['seed']}", WIDTH)
    if row["left_out"]:
        left_out = ", ".join(map(names.method, row["left_out"].split()))
        sentence = f"Not shown, since no trial was acceptable here: {left_out}"
        text += "\n" + fit(sentence, WIDTH, 4)
    figure.suptitle(text, fontsize=8, **look)

    if row["credit"]:
        credit = fit(f"Pictures: {row['credit']}", WIDTH * _LEGEND / _CREDIT, 20)
        below = bottom - 0.06 / figure.get_figheight()
        figure.text(
            0.5, below, credit, fontsize=_CREDIT, color="#777777", ha="center", va="top"
        )


def line(names: Names, method: str) -> dict[str, Any]:
    """Return how the lines of a method look, for `Axes.plot`."""
    return {
        "color": names.colour(method),
        "linestyle": names.dashes(method),
        "marker": names.marker(method),
    }


def handles(names: Names, methods: Iterable[str]) -> list[Line2D]:
    """Return entries of a legend: the methods in the order of config."""
    return [
        Line2D([], [], **line(names, method), label=names.method(method))
        for method in names.order(methods)
    ]


def reference(label: str, **look: Any) -> Line2D:
    """Return an entry of a legend that is no method; grey, unless `look` says more."""
    return Line2D([], [], **{"color": GREY, **look}, label=label)


def legend(figure: Figure, entries: list[Line2D]) -> None:
    """Draw a legend below the panels, in as many columns as the figure's width takes.

    A figure's size has room for two rows; it grows by further ones, so that panels keep
    their height.
    """
    labels = [fit(str(entry.get_label()), 0.6 * WIDTH) for entry in entries]
    column_count = _legend_columns(labels, figure.get_figwidth())
    look: dict[str, Any] = {
        "loc": "outside lower center",
        "ncols": column_count,
        "frameon": False,
    }
    # Handles are long enough to show the dashes.
    figure.legend(entries, labels, handlelength=3.2, columnspacing=1.2, **look)
    row_count = -(-len(entries) // column_count)
    more_rows = max(0, row_count - 2)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * more_rows)


def _legend_columns(labels: list[str], width: float) -> int:
    """Return into how many columns of a legend labels fit, at least one."""
    # With the handle, about.
    label_widths = [
        _LETTER * max(map(len, label.split("\n"))) + 0.62 for label in labels
    ]
    for column_count in range(len(labels), 1, -1):
        row_count = -(-len(labels) // column_count)  # Filled column by column.
        column_widths = [
            max(label_widths[first : first + row_count])
            for first in range(0, len(labels), row_count)
        ]
        if sum(column_widths) <= width:
            return column_count
    return 1


def nothing(figure: Figure, text: str) -> Figure:
    """Return the figure, whose first panel says why it is empty."""
    ax = figure.axes[0]
    ax.axis("off")
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
    return figure


def panels(
    rows: int, columns: int, height: float, beside: float, **look: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes (rows, columns), one of each at least.

    Args:
        rows: How many rows.
        columns: How many columns.
        height: Of a row, in inches.
        beside: Inches of height for all else.
        look: Further arguments of `plt.subplots`.
    """
    rows = max(1, rows)
    columns = max(1, columns)
    size = (max(WIDTH, 2.3 * columns), height * rows + beside)
    return plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **look
    )


def save(figure: Figure, out: Path, name: str) -> None:
    """Write `out`/`name`.png, .pdf and .svg and close the figure.

    The same figure gives the same bytes.
    """
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            _write_plain_numbers(axis)
    # No time, no version.
    metadata_by_suffix = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
    }
    has_pictures = any(ax.images for ax in figure.axes)
    for suffix, metadata in metadata_by_suffix.items():
        with files.atomic_file(out / f"{name}.{suffix}") as temporary:
            figure.savefig(
                temporary, format=suffix, bbox_inches="tight", metadata=metadata
            )
            if suffix == "png" and not has_pictures:
                _shrink(temporary)
        # A layout takes a third of the time: the other files have that of the first.
        figure.set_layout_engine("none")
    plt.close(figure)


def _write_plain_numbers(axis: Axis) -> None:
    major = axis.get_major_formatter()
    if isinstance(major, LogFormatterMathtext):
        axis.set_major_formatter(_PlainNumbers(major))
    minor = axis.get_minor_formatter()
    if isinstance(minor, LogFormatterMathtext):
        axis.set_minor_formatter(_PlainNumbers(minor))


def _shrink(png: Path) -> None:
    """Write a drawing anew with the 256 colours that it has most of."""
    # It has a third of the bytes, and looks as it did.
    with Image.open(png) as image:
        dpi = image.info["dpi"]
        drawing = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    drawing.save(png, format="PNG", optimize=True, dpi=dpi)


class _PlainNumbers(Formatter):
    """Plain numbers at the ticks of a logarithmic axis, where matplotlib has any."""

    def __init__(self, of_matplotlib: LogFormatterMathtext) -> None:
        self._of_matplotlib = of_matplotlib

    def set_locs(self, locs: Any) -> None:
        self._of_matplotlib.set_locs(locs)

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if self._of_matplotlib(x, pos) else ""
