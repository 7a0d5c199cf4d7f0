"""The image tower of any open_clip model; the embedding is `encode_image`, not normalised.

Spec: `model` (open_clip's name), and `pretrained`: a weights tag, or a local file.
"""

import open_clip
from torch import nn

from sae.data.embed import Backbone
from sae.errors import UserError


class ImageTower(nn.Module):
    """Images to `encode_image`, without the text tower's weights in the forward pass."""

    def __init__(self, model):
        super().__init__()
        self.visual = model.visual

    def forward(self, images):
        """(N, 3, H, W) to (N, d)."""
        return self.visual(images)


def load(spec, _artifacts_root, image_size):
    if spec["model"] not in open_clip.list_models():
        raise UserError(f"open_clip has no model {spec['model']!r}; `open_clip.list_models()` lists those there are")
    size = {"force_image_size": image_size} if image_size else {}
    model, _, transform = open_clip.create_model_and_transforms(spec["model"], pretrained=spec["pretrained"], **size)
    return Backbone(ImageTower(model), transform, spec["pretrained"])
