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
    """Draw a panel per method: activations by rank, kept ones in colour.

    The image itself stands in the first panel.
    """
    rows = files.read_parquet(results / READS[0])
    methods = names.order(rows["method"])
    columns = min(3, len(methods))
    figure, axes = style.panels(
        -(-len(methods) // columns), columns, 2.1, 0, sharex=True, sharey=True
    )
    for ax in axes.flat[len(methods) :]:
        ax.axis("off")
    for ax, method in zip(axes.flat, methods, strict=False):
        of_method = rows[rows["method"] == method]
        kept_rows = of_method[of_method["kept"]]
        discarded_rows = of_method[~of_method["kept"]]
        for bars, colour in (
            (kept_rows, names.colour(method)),
            (discarded_rows, "#bbbbbb"),
        ):
            ax.bar(
                bars["rank"], bars["activation"], width=1.0, color=colour, linewidth=0
            )

        discarded = discarded_rows["activation"].sum()
        total = of_method["activation"].sum()
        share = f"{discarded / total:.0%} of the sum not kept" if total else "nothing"
        label = style.fit(names.method(method), style.WIDTH / 3.4)
        ax.set_title(f"{label}\n{len(of_method)} active, {share}", fontsize=7)
        ax.set_xlabel("latents by activation")
        ax.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("activation")
    style.of_gallery(figure, names, rows.iloc[0])

    # Beyond this rank every method's activations are too small to see.
    is_visible = rows["activation"] > 0.01 * rows["activation"].max()
    last_visible = rows[is_visible]["rank"].max()
    axes[0, 0].set_xlim(0.5, last_visible + 0.5)

    inset = axes[0, 0].inset_axes([0.66, 0.5, 0.32, 0.48])
    inset.imshow(Image.open(io.BytesIO(rows["png"].iloc[0]), formats=["PNG"]))
    inset.axis("off")
    return figure
