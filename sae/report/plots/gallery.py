"""Figs. 2 and 3: the images on which a latent fires most, middling and least, with and without a regularizer."""

import io
from pathlib import Path

from PIL import Image

from sae.core import files
from sae.report import labels
from sae.report.plots import style
from sae.report.plots.style import plt

PARTS = ("top", "middle", "bottom")
TITLES = {"fig2": "at the same rank of MS", "fig3": "of the same index"}


def draw(results, out, name):
    """A block per rank, a column per method; in each block a row of images for top, middle and bottom."""
    rows = files.read_parquet(Path(results) / "gallery/images.parquet")
    rows = rows[rows["figure"] == name]
    ranks, methods = list(rows["rank"].unique()), labels.method_order(rows["regularizer"].unique())
    places = int(rows["place"].max()) + 1 if len(rows) else 1
    with plt.rc_context(style.RC):
        width = style.WIDTH / max(2, len(methods))
        side = width / (places + 0.5)
        figure, axes = plt.subplots(
            max(1, len(ranks)),
            max(1, len(methods)),
            figsize=(width * max(1, len(methods)), max(1, len(ranks)) * (len(PARTS) * side + 0.32) + 0.2),
            squeeze=False,
            gridspec_kw={"wspace": 0.08, "hspace": 0.3 / (len(PARTS) * side)},
        )
        for i, rank in enumerate(ranks):
            for j, method in enumerate(methods):
                here = rows[(rows["rank"] == rank) & (rows["regularizer"] == method)]
                _panel(axes[i, j], here, places)
                title = _title(here.iloc[0], method)
                axes[i, j].set_title(title, color=style.colour(method), loc="left", fontsize=7)
                if j == 0:
                    axes[i, j].set_ylabel(f"rank {rank:.0%}" if rank else "highest MS")
        if rows.empty:
            axes[0, 0].axis("off")
            axes[0, 0].text(0.5, 0.5, "no latent fires on enough images", ha="center")
        else:
            figure.suptitle(style.cell(rows.iloc[0]), fontsize=8, y=0.94 if len(ranks) > 2 else 1.0)
        style.save(figure, out, name)


def _panel(ax, rows, places):
    for row in rows.to_dict("records"):
        line = len(PARTS) - 1 - PARTS.index(row["part"])
        image = Image.open(io.BytesIO(row["png"]))
        # A gap of 0.06 between images, and they stand in lines of equal height whatever their shape.
        ax.imshow(image, extent=(row["place"] + 0.03, row["place"] + 0.97, line + 0.03, line + 0.97), aspect="equal")
    ax.set(xlim=(0, places), ylim=(0, len(PARTS)), xticks=[], yticks=[])
    for line, part in enumerate(reversed(PARTS)):
        ax.text(-0.14, line + 0.5, part, fontsize=4.5, rotation=90, ha="center", va="center", color="#777777")
    ax.yaxis.labelpad = 9
    for spine in ax.spines.values():
        spine.set_visible(False)


def _title(row, method):
    about = row["top_class"] if isinstance(row["top_class"], str) else ""
    text = f"{labels.method(method)}, latent {row['latent']}: MS {row['ms']:.2f}, {row['n_active']} images"
    return text + (f", {about}" if about and len(text) + len(about) < 58 else "")
