"""What Figs. 2 and 3 share: the images on which a latent fires most, middling and least."""

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
_SIZE, _GAP = 7, 0.1  # of titles: points, and inches to the next one


def draw(table: Path, names: Names, name: str) -> Figure:
    """A block per rank, a column per method; in each block a row of images for top, middle and bottom.

    Args:
        table: gallery/images.parquet.
        name: the figure whose rows are shown.
    """
    rows = files.read_parquet(table)
    rows = rows[rows["figure"] == name]
    ranks, methods = list(rows["rank"].unique()), names.order(rows["method"])
    places = int(rows["place"].max()) + 1 if len(rows) else 1
    width = style.WIDTH / max(2, len(methods))
    side = width / (places + 0.5)
    figure, axes = plt.subplots(
        max(1, len(ranks)),
        max(1, len(methods)),
        figsize=(
            width * max(1, len(methods)),
            max(1, len(ranks)) * (len(PARTS) * side + 0.32) + 0.2,
        ),
        squeeze=False,
        gridspec_kw={"wspace": 0.08, "hspace": 0.3 / (len(PARTS) * side)},
    )
    if rows.empty:
        return style.nothing(figure, "no latent fires on enough images")
    margins = figure.subplotpars
    for i, rank in enumerate(ranks):
        for j, method in enumerate(methods):
            here = rows[(rows["rank"] == rank) & (rows["method"] == method)]
            _panel(axes[i, j], here, places)
            title = _title(
                names.method(method),
                here.iloc[0],
                width * (margins.right - margins.left),
            )
            axes[i, j].set_title(
                title, color=names.colour(method), loc="left", fontsize=_SIZE
            )
            if j == 0:
                axes[i, j].set_ylabel(f"rank {rank:.0%}" if rank else "highest MS")
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


def _panel(ax: Axes, rows: pd.DataFrame, places: int) -> None:
    for row in rows.to_dict("records"):
        line = len(PARTS) - 1 - PARTS.index(row["part"])
        image = Image.open(io.BytesIO(row["png"]), formats=["PNG"])
        # A gap of 0.06 between images, and they stand in lines of equal height whatever their shape.
        extent = (row["place"] + 0.03, row["place"] + 0.97, line + 0.03, line + 0.97)
        ax.imshow(image, extent=extent, aspect="equal")
    ax.set(xlim=(0, places), ylim=(0, len(PARTS)), xticks=[], yticks=[])
    for line, part in enumerate(reversed(PARTS)):
        look: dict[str, Any] = {
            "fontsize": 4.5,
            "rotation": 90,
            "ha": "center",
            "va": "center",
            "color": "#777777",
        }
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
    ]
    parts.append(f"{row['n_active']:.0f} images")
    # Last, so that it is the name of a class that is cut.
    parts += [printed(row["top_class"])] if isinstance(row["top_class"], str) else []
    return style.cut(", ".join(parts), width - _GAP, _SIZE)
