"""Draw Figs. 2 and 3: images on which a latent fires most, middling and least."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sae.core import files
from sae.report import style
from sae.report.names import Names, printed
from sae.report.style import plt

PARTS = ("top", "middle", "bottom")
_TITLE_SIZE = 7  # points
_TITLE_GAP = 0.1  # inches from a title to the next one


def draw(table: Path, names: Names, name: str) -> Figure:
    """Draw a block per rank, a column per method.

    A block has a row of images for top, middle and bottom.

    Args:
        table: gallery/images.parquet.
        names: How methods are printed.
        name: The figure whose rows are shown.
    """
    rows = files.read_parquet(table)
    rows = rows[rows["figure"] == name]
    ranks = list(rows["rank"].unique())
    methods = names.order(rows["method"])
    row_count = max(1, len(ranks))
    column_count = max(1, len(methods))
    images_across = int(rows["place"].max()) + 1 if len(rows) else 1

    # Inches.
    width = style.WIDTH / max(2, len(methods))
    side = width / (images_across + 0.5)
    block_height = len(PARTS) * side
    figure, axes = plt.subplots(
        row_count,
        column_count,
        figsize=(width * column_count, row_count * (block_height + 0.32) + 0.2),
        squeeze=False,
        gridspec_kw={"wspace": 0.08, "hspace": 0.3 / block_height},
    )
    if rows.empty:
        return style.nothing(figure, "no latent fires on enough images")

    margins = figure.subplotpars
    panel_width = width * (margins.right - margins.left)
    for i, rank in enumerate(ranks):
        for j, method in enumerate(methods):
            ax = axes[i, j]
            block = rows[(rows["rank"] == rank) & (rows["method"] == method)]
            _draw_block(ax, block, images_across)
            title = _title(names.method(method), block.iloc[0], panel_width)
            colour = names.colour(method)
            ax.set_title(title, color=colour, loc="left", fontsize=_TITLE_SIZE)
            if j == 0:
                ax.set_ylabel(f"rank {rank:.0%}" if rank else "highest MS")
    above_titles = margins.top + 0.24 / figure.get_figheight()
    style.of_gallery(
        figure,
        names,
        rows.iloc[0],
        margins.bottom,
        y=above_titles,
        verticalalignment="bottom",
    )
    return figure


def _draw_block(ax: Axes, rows: pd.DataFrame, images_across: int) -> None:
    """Draw the images of one latent, in a line for each part."""
    for row in rows.to_dict("records"):
        line = len(PARTS) - 1 - PARTS.index(row["part"])
        image = Image.open(io.BytesIO(row["png"]), formats=["PNG"])
        # A gap of 0.06 between images, and they stand in lines of equal height
        # whatever their shape.
        extent = (row["place"] + 0.03, row["place"] + 0.97, line + 0.03, line + 0.97)
        ax.imshow(image, extent=extent, aspect="equal")
    ax.set(xlim=(0, images_across), ylim=(0, len(PARTS)), xticks=[], yticks=[])
    look: dict[str, Any] = {
        "fontsize": 4.5,
        "rotation": 90,
        "ha": "center",
        "va": "center",
        "color": "#777777",
    }
    for line, part in enumerate(reversed(PARTS)):
        ax.annotate(
            part, (0, line + 0.5), (-3.5, 0), textcoords="offset points", **look
        )
    ax.yaxis.labelpad = 9
    for spine in ax.spines.values():
        spine.set_visible(False)


def _title(method: str, row: Any, width: float) -> str:
    parts = [
        style.fit(method, 0.45 * width, 1),
        f"latent {row['latent']}: MS {row['ms']:.2f}",
        f"{row['n_active']:.0f} images",
    ]
    # Last, so that it is the name of a class that is cut.
    if isinstance(row["top_class"], str):
        parts.append(printed(row["top_class"]))
    return style.cut(", ".join(parts), width - _TITLE_GAP, _TITLE_SIZE)
