"""Any model of timm; the embedding is the pooled output before the classifier.

Spec: `model` (timm's name), and `checkpoint` (a local file, .safetensors or .pth); without it, timm's own weights.
"""

from pathlib import Path

import timm
from timm.data import create_transform, resolve_data_config

from sae.data.embed import Backbone
from sae.errors import UserError


def load(spec, _artifacts_root, image_size):
    checkpoint = spec.get("checkpoint")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UserError(f"backbone {spec['model']}: checkpoint {checkpoint} does not exist")
    size = {"img_size": image_size} if image_size and _takes_img_size(spec["model"]) else {}
    if checkpoint is None:
        model = timm.create_model(spec["model"], pretrained=True, num_classes=0, **size)
    else:
        model = timm.create_model(spec["model"], num_classes=0, **size)
        timm.models.load_checkpoint(model, checkpoint, strict=False, weights_only=True)
        _all_loaded(model, checkpoint)
    return Backbone(model, preprocessing(model, image_size), checkpoint)


def preprocessing(model, image_size):
    """timm's evaluation transform; at `image_size` pixels the whole image is kept (no centre crop of a larger one)."""
    config = resolve_data_config({}, model=model)
    if image_size:
        config |= {"input_size": (3, image_size, image_size), "crop_pct": 1.0}
    return create_transform(**config, is_training=False)


def _takes_img_size(name):
    # Transformers fix their position embedding at creation; convolutional models take any size.
    return "vit" in name or "eva" in name or "siglip" in name


def _all_loaded(model, checkpoint):
    # `strict` would refuse a checkpoint for its classifier, which is left out here; everything else must be there.
    saved = set(timm.models.load_state_dict(checkpoint, weights_only=True))
    missing = sorted(set(model.state_dict()) - saved)
    if missing:
        raise UserError(f"checkpoint {checkpoint} lacks {len(missing)} tensors of the model, such as {missing[0]}")
