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
    if not timm.is_model(spec["model"]):
        raise UserError(f"timm has no model {spec['model']!r}; `timm.list_models()` lists those there are")
    model = _create(spec["model"], image_size, pretrained=checkpoint is None)
    if checkpoint is not None:
        timm.models.load_checkpoint(model, checkpoint, strict=False, weights_only=True)
        _all_loaded(model, checkpoint)
    return Backbone(model, preprocessing(model, image_size), checkpoint)


def preprocessing(model, image_size):
    """timm's evaluation transform; at `image_size` pixels the whole image is kept (no centre crop of a larger one)."""
    config = resolve_data_config({}, model=model)
    if image_size:
        config |= {"input_size": (3, image_size, image_size), "crop_pct": 1.0}
    return create_transform(**config, is_training=False)


def _create(name, image_size, **options):
    # Transformers fix their position embedding at creation; convolutional models take any size, but not the argument.
    if image_size is not None:
        try:
            return timm.create_model(name, num_classes=0, img_size=image_size, **options)
        except TypeError:
            pass
    return timm.create_model(name, num_classes=0, **options)


def _all_loaded(model, checkpoint):
    # `strict` would refuse a checkpoint for its classifier, which is left out here; everything else must be there.
    saved = set(timm.models.load_state_dict(checkpoint, weights_only=True))
    missing = sorted(set(model.state_dict()) - saved)
    if missing:
        raise UserError(f"checkpoint {checkpoint} lacks {len(missing)} tensors of the model, such as {missing[0]}")
