"""Fig. 1: what the regularizers do to one image's activations before the selection."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from sae.core import files
from sae.report import style
from sae.report.names import Names

READS = ["gallery/sample.parquet"]
CAPTION = (
    "Activations of one test image (the one with the baseline's median error) "
    "before the Top-k, sorted. In colour what the Top-k, or a latent's "
    "threshold, keeps, in grey what it discards and the regularizers act on."
)


def draw(results: Path, names: Names) -> Figure:
    """A panel per method: activations by rank, kept ones in colour; the image itself in the first panel."""
    rows = files.read_parquet(results / READS[0])
    methods = names.order(rows["method"])
    columns = min(3, len(methods))
    figure, axes = style.panels(
        -(-len(methods) // columns), columns, 2.1, 0, sharex=True, sharey=True
    )
    for ax in axes.flat[len(methods) :]:
        ax.axis("off")
    for ax, method in zip(axes.flat, methods, strict=False):
        here = rows[rows["method"] == method]
        for kept, colour in ((True, names.colour(method)), (False, "#bbbbbb")):
            part = here[here["kept"] == kept]
            ax.bar(
                part["rank"], part["activation"], width=1.0, color=colour, linewidth=0
            )
        off, total = (
            here.loc[~here["kept"], "activation"].sum(),
            here["activation"].sum(),
        )
        share = f"{off / total:.0%} of the sum not kept" if total else "nothing"
        label = style.fit(names.method(method), style.WIDTH / 3.4)
        ax.set_title(f"{label}\n{len(here)} active, {share}", fontsize=7)
        ax.set_xlabel("latents by activation")
        ax.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("activation")
    style.of_gallery(figure, names, rows.iloc[0])
    # Beyond this rank every method's activations are too small to see.
    visible = rows[rows["activation"] > 0.01 * rows["activation"].max()]["rank"].max()
    axes[0, 0].set_xlim(0.5, visible + 0.5)
    inset = axes[0, 0].inset_axes([0.66, 0.5, 0.32, 0.48])
    inset.imshow(Image.open(io.BytesIO(rows["png"].iloc[0]), formats=["PNG"]))
    inset.axis("off")
    return figure
