"""One look for all figures, and the pieces that they share: text that is no mathematics, a legend, files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sae.core import files
from sae.report.names import Names

WIDTH = 7.0  # inches: the text width of a page
GREY = "#999999"  # of references: a training k, the raw embedding
_HANDLE = 3.2  # of legends: long enough to show the dashes

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


def plain(text: object) -> str:
    """A label or the name of a class, for matplotlib: it would take what lies between two $ for mathematics."""
    return str(text).replace("$", r"\$")


def cell(names: Names, row: Any) -> str:
    """A cell in words: dataset, backbone, k, seed."""
    return f"{place(names, row['dataset'], row['backbone'])}, k = {row['k']}, seed {row['seed']}"


def place(names: Names, dataset: str, backbone: str, between: str = ", ") -> str:
    """A dataset and a backbone in words."""
    return plain(names.dataset(dataset) + between + names.backbone(backbone))


def line(names: Names, method: str) -> dict[str, Any]:
    """How the lines of a method look, for `Axes.plot`."""
    return {"color": names.colour(method), "linestyle": names.dashes(method), "marker": names.marker(method)}


def handles(names: Names, methods: Iterable[str], **other: Any) -> list[Line2D]:
    """Entries of a legend: the methods in the order of config.

    Args:
        other: what differs from :func:`line`.
    """
    return [
        Line2D([], [], **{**line(names, method), **other}, label=plain(names.method(method)))
        for method in names.order(methods)
    ]


def reference(label: str, **look: Any) -> Line2D:
    """An entry of a legend that is no method; grey, unless `look` says more."""
    return Line2D([], [], **{"color": GREY, **look}, label=plain(label))


def legend(figure: Figure, entries: list[Line2D]) -> None:
    """A legend below the panels, in as many columns as the figure's width takes."""
    widths = [0.06 * len(str(entry.get_label())) + 0.62 for entry in entries]  # inches, about

    def fits(columns: int) -> bool:
        rows = -(-len(widths) // columns)  # Filled column by column.
        return sum(max(widths[i : i + rows]) for i in range(0, len(widths), rows)) <= figure.get_figwidth()

    columns = next((n for n in range(len(entries), 1, -1) if fits(n)), 1)
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(handles=entries, handlelength=_HANDLE, columnspacing=1.2, **look)


def nothing(ax: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    ax.axis("off")
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)


def save(figure: Figure, out: str | Path, name: str) -> None:
    """Write `out`/`name`.png and .pdf and close the figure; the same figure gives the same bytes."""
    for suffix in ("png", "pdf"):
        # No time, no version.
        metadata: dict[str, Any] = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
        with files.atomic_file(Path(out) / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, format=suffix, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
