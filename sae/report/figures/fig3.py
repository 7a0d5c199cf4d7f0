"""Fig. 3: the same latent without and with a regularizer."""

from pathlib import Path

from matplotlib.figure import Figure

from sae.report.figures import _images
from sae.report.names import Names

READS = ["gallery/images.parquet"]
CAPTION = (
    "The same latent (index, initialisation) without and with a regularizer, ranked "
    "by the baseline's MS."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a block per rank, a column per method."""
    return _images.draw(results / READS[0], names, "fig3")
