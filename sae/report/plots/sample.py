"""Fig. 1: what the regularizers do to one image's activations before the Top-k."""

import io
from pathlib import Path

from PIL import Image

from sae.core import files
from sae.report import labels
from sae.report.plots import style
from sae.report.plots.style import plt


def draw(results, out, name):
    """A panel per method: activations by rank, kept ones in colour; the image itself in the first panel."""
    rows = files.read_parquet(Path(results) / "gallery/sample.parquet")
    methods = labels.method_order(rows["regularizer"].unique())
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(
            1, len(methods), figsize=(style.WIDTH, 2.1), sharex=True, sharey=True, squeeze=False, layout="constrained"
        )
        for ax, method in zip(axes[0], methods, strict=True):
            here = rows[rows["regularizer"] == method]
            for kept, colour in ((True, style.colour(method)), (False, "#bbbbbb")):
                part = here[here["kept"] == kept]
                ax.bar(part["rank"], part["activation"], width=1.0, color=colour, linewidth=0)
            off, total = here.loc[~here["kept"], "activation"].sum(), here["activation"].sum()
            ax.set_title(f"{labels.method(method)}\n{len(here)} active, {off / total:.0%} of the sum not kept")
            ax.set_xlabel("latents by activation")
        axes[0, 0].set_ylabel("activation")
        figure.suptitle(style.cell(rows.iloc[0]), fontsize=8)
        # Beyond this rank every method's activations are too small to see.
        visible = rows[rows["activation"] > 0.01 * rows["activation"].max()]["rank"].max()
        axes[0, 0].set_xlim(0.5, visible + 0.5)
        inset = axes[0, 0].inset_axes([0.66, 0.5, 0.32, 0.48])
        inset.imshow(Image.open(io.BytesIO(rows["png"].iloc[0])))
        inset.axis("off")
        style.save(figure, out, name)
