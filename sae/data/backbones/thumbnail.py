"""A few pixels in place of a network: what an image looks like from afar.

The embedding of a thumbnail of 8 x 8 pixels is 192 numbers between 0 and 1: the red of
all places, row by row, then the green, then the blue. Each is a mean over the pixels
there. The whole picture is in it, whatever its shape. The metric `pixels` says with it
how well the images of a latent are found without a network.
"""

from pathlib import Path
from typing import Literal

from torch import nn
from torchvision.transforms import Compose, InterpolationMode, Resize, ToTensor

from sae.core import options
from sae.core.errors import UserError
from sae.data.backbone import Backbone

VERSION = 1


class Options(options.Options):
    """The options of such a backbone."""

    model: Literal["rgb"]
    """What it keeps of an image: the mean colours of places."""


def load(
    _spec: Options, _artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """Return what shrinks images to a square; see `sae.data.backbones`.

    Raises:
        UserError: its side is not given.
    """
    if image_size is None:
        raise UserError("a thumbnail needs its side in pixels: `image_size: 8`")
    shrink = Resize((image_size, image_size), InterpolationMode.BOX)
    return Backbone(nn.Flatten(), Compose([shrink, ToTensor()]))
