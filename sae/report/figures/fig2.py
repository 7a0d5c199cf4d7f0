"""Fig. 2: latents at the same rank of MS, without and with a regularizer."""

from pathlib import Path

from matplotlib.figure import Figure

from sae.report.figures import _images
from sae.report.names import Names

READS = ["gallery/images.parquet"]
CAPTION = (
    "Latents at the same rank of MS, without and with a regularizer: the test "
    "images that activate each most, middling and least. Ranks are fixed "
    "beforehand, over latents that fire on 30 test images or more (where fewer "
    "than ten do: as often as the tenth)."
)


def draw(results: Path, names: Names) -> Figure:
    """Draw a block per rank, a column per method."""
    return _images.draw(results / READS[0], names, "fig2")
