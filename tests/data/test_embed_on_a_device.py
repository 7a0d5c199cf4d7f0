"""Embedding elsewhere than on the CPU: on `support/pretend_device.py`.

Three things are done in another way on a CPU. A folded convolution is oneDNN's, which
adds the activation itself, and PyTorch computes attention by a kernel of its own: both
change last digits. In bfloat16 PyTorch chooses by the device what stays in float32. And
each of a CPU's threads embeds batches of its own, which changes no number.
"""

import copy
import json
from collections import Counter

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from support.pretend_device import (
    CUDA,
    DEVICE,
    MPS,
    TO_CPU,
    TO_DEVICE,
    pretend_device,
)
from timm.data import create_transform
from torch import nn

from sae.core import registry
from sae.data import backbone_entries, folding
from sae.data.backbone import Backbone
from sae.data.backbones import dinov2_onnx, efficientnet_lite
from sae.data.entries import parse
from sae.data.forward import embed_images

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16}
TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
CLIP = {"embed_dim": 8, "vision_cfg": VISION | {"patch_size": 16}, "text_cfg": TEXT}


def load_timm(folder, monkeypatch):
    file = folder / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), file)
    spec = {"loader": "timm", "model": "test_efficientnet", "checkpoint": str(file)}
    return backbone_entries.load(parse("backbone", spec), None, 32)


def load_efficientnet_lite(folder, monkeypatch):
    def make_model(spec, artifacts_root):
        return timm.create_model(spec.model).eval()

    monkeypatch.setattr(efficientnet_lite, "full_model", make_model)
    model = "tf_efficientnet_lite0"
    spec = {"loader": "efficientnet_lite", "model": model, "artifacts": ["none"]}
    return backbone_entries.load(parse("backbone", spec), None, 32)


def load_dinov2_onnx(folder, monkeypatch):
    def draw_weights(tensors, model):
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        return {name: 0.05 * torch.randn(shape) for name, shape in shapes.items()}

    monkeypatch.setattr(dinov2_onnx.artifacts, "only_file", lambda *_: "none")
    monkeypatch.setattr(dinov2_onnx, "tensors", lambda file: {})
    monkeypatch.setattr(dinov2_onnx, "rename", draw_weights)
    model = "vit_small_patch14_dinov2"
    spec = {"loader": "dinov2_onnx", "model": model, "artifacts": ["none"]}
    return backbone_entries.load(parse("backbone", spec), None, 28)


def load_open_clip(folder, monkeypatch):
    (folder / "pretend-clip.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder / "pretend-clip.json")
    file = folder / "open_clip_model.safetensors"
    save_file(open_clip.create_model("pretend-clip").state_dict(), file)
    spec = {"loader": "open_clip", "model": "pretend-clip", "pretrained": str(file)}
    return backbone_entries.load(parse("backbone", spec), None, None)


def load_thumbnail(folder, monkeypatch):
    spec = {"loader": "thumbnail", "model": "rgb"}
    return backbone_entries.load(parse("backbone", spec), None, 8)


# By name of the loader, what loads a small model with random weights through it.
LOADERS = {
    "dinov2_onnx": load_dinov2_onnx,
    "efficientnet_lite": load_efficientnet_lite,
    "open_clip": load_open_clip,
    "thumbnail": load_thumbnail,
    "timm": load_timm,
}
# The others are given embeddings, and compute nothing.
NAMES = [
    name
    for name in registry.names("backbone")
    if registry.head("backbone", name).constants.get("READS_IMAGES", True)
]


# Of the batches of six images.
SIZES = (2, 2, 2)
# Only their BatchNorm is folded.
FOLDED = {"efficientnet_lite", "timm"}


def embed_on(device, backbone, precision="float32", workers=0):
    """Yield the embeddings of six random images, batch by batch, made on a device."""
    images = {}
    for number in range(sum(SIZES)):
        pixels = np.random.default_rng(number).integers(256, size=(40, 36, 3))
        images[str(number)] = Image.fromarray(pixels.astype(np.uint8))
    return embed_images(
        # Embedding moves the model.
        copy.deepcopy(backbone),
        images.get,
        list(images),
        batch_size=SIZES[0],
        device=device,
        workers=workers,
        precision=precision,
    )


def embed_and_count(place, *arguments, **options):
    """Embed on a device.

    Returns:
        The embeddings (6, d), and for each batch what was waited for since the last.
    """
    batches = []
    waits = []
    with pretend_device(place) as device:
        for batch in embed_on(place.type, *arguments, **options):
            batches.append(batch)
            waits.append(Counter(device.waits))
            device.waits.clear()
    assert tuple(map(len, batches)) == SIZES
    return np.concatenate(batches), waits


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "folds"),
    [(name, True) for name in NAMES] + [(name, False) for name in sorted(FOLDED)],
)
def test_a_device_embeds_as_a_cpu(name, folds, precision, tmp_path, monkeypatch):
    torch.manual_seed(0)
    backbone = LOADERS[name](tmp_path, monkeypatch)
    assert has_batch_norm(backbone.model) is (name in FOLDED)
    if not folds:
        monkeypatch.setattr(folding, "fold", lambda model: model)
    on_cpu = np.concatenate([*embed_on("cpu", backbone, precision)])
    on_device, waits = embed_and_count(DEVICE, backbone, precision)
    # The model is moved before the first batch. A batch goes there as a whole and comes
    # back as a whole; nothing else makes the host look at a number.
    assert waits[0].keys() == {TO_CPU, TO_DEVICE}
    assert waits[0][TO_CPU] == 1
    for waits_of_batch in waits[1:]:
        assert waits_of_batch == Counter({TO_CPU: 1, TO_DEVICE: 1})

    if precision == "bfloat16":
        allowed = 0.05
    elif not folds:
        # A CPU goes the same way.
        allowed = 0
    else:
        allowed = 1e-5
    distance = np.linalg.norm(on_device - on_cpu, axis=1)
    assert (distance <= allowed * np.linalg.norm(on_cpu, axis=1)).all()


def has_batch_norm(model):
    return any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def tiny_backbone(transform):
    """Return a convolution behind a transform, and a list that grows by each batch."""
    batches = []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    # A copy of the model has this hook too.
    model.register_forward_hook(lambda *_: batches.append("computed"))
    return Backbone(model, transform), batches


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("place", [CUDA, MPS], ids=str)
def test_images_reach_a_device_as_bytes_or_as_floats(place, as_bytes, workers):
    """A transform that ends by normalising is finished on the device."""
    torch.manual_seed(0)
    whole_transform = create_transform((3, 16, 16))
    assert folding.pixel_transform(whole_transform) is not None
    transform = whole_transform if as_bytes else lambda image: whole_transform(image)
    backbone, _ = tiny_backbone(transform)
    on_cpu = np.concatenate([*embed_on("cpu", backbone)])
    on_device, waits = embed_and_count(place, backbone, workers=workers)
    np.testing.assert_array_equal(on_device, on_cpu)
    waits_of_batch = Counter({TO_CPU: 1})
    if place == MPS:
        # On CUDA nothing waits for a batch that goes there, from pinned memory.
        waits_of_batch[TO_DEVICE] = 1
    assert waits[1:] == [waits_of_batch] * (len(SIZES) - 1)


@pytest.mark.parametrize(("place", "computed"), [(CUDA, [2, 3, 3]), (MPS, [1, 2, 3])])
def test_cuda_computes_a_batch_while_the_one_before_is_copied_back(place, computed):
    backbone, batches = tiny_backbone(create_transform((3, 16, 16)))
    with pretend_device(place):
        embeddings = embed_on(place.type, backbone)
        assert [len(batches) for _ in embeddings] == computed
