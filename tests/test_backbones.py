"""Loaders: the same embedding as the library's own pipeline, from checkpoints saved as users have them."""

import json
import subprocess
import sys

import open_clip
import pytest
import timm
import torch
import yaml
from conftest import ROOT
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo, create_transform, resolve_data_config

from sae.data.backbones import efficientnet_lite
from sae.data.backbones import open_clip as open_clip_loader
from sae.data.backbones import timm as timm_loader
from sae.errors import UserError


@pytest.fixture(scope="module")
def flower():
    return Image.fromarray(load_sample_image("flower.jpg"))


def embedding(backbone, image):
    with torch.no_grad():
        return backbone.model.eval()(backbone.transform(image)[None])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The real EfficientNet-Lite0 weights, through the project's own command."""
    root = ROOT / "results/artifacts"
    if not (root / "efficientnet_lite0/artifact.json").exists():
        root = tmp_path_factory.mktemp("artifacts")
    spec = yaml.safe_load((ROOT / "workflow/resources/artifacts.yaml").read_text())["efficientnet_lite0"]
    command = [sys.executable, "-m", "sae", "fetch", "--name", "efficientnet_lite0", "--root", str(root)]
    subprocess.run([*command, "--settings", json.dumps(spec)], check=True, cwd=ROOT)
    return root


def test_every_weight_is_mapped_and_the_prediction_is_sane(weights, flower):
    spec = {"model": "tf_efficientnet_lite0", "artifacts": ["efficientnet_lite0"]}
    model = efficientnet_lite.full_model(spec, weights)
    with torch.no_grad():
        image = timm_loader.preprocessing(model, None)(flower)[None]
        top = model(image).softmax(dim=1)[0].topk(1)
        names = ImageNetInfo()
        # The picture shows a dahlia, which ImageNet lacks; the daisy is its nearest class. Chance is 0.001.
        assert names.index_to_description(top.indices.item()).startswith("daisy")
        assert top.values.item() > 0.2
        backbone = efficientnet_lite.load(spec, weights, None)
        got = backbone.model(image)
        features = model.blocks(model.bn1(model.conv_stem(image))).mean(dim=(2, 3))
    torch.testing.assert_close(got, features)
    assert got.shape == (1, 320) and (got < 0).any()


def test_a_missing_or_unknown_weight_is_named():
    model = timm.create_model("tf_efficientnet_lite0")
    with pytest.raises(UserError, match=r"_nowhere\.weight has no place"):
        efficientnet_lite.rename({"_nowhere.weight": torch.zeros(1)}, model)
    with pytest.raises(UserError, match="lack"):
        efficientnet_lite.rename({"_conv_stem.weight": model.conv_stem.weight}, model)


@pytest.mark.parametrize(("name", "size"), [("test_vit", None), ("test_vit", 96), ("test_efficientnet", 96)])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timm_equals_its_own_pipeline(name, size, suffix, tmp_path, flower):
    torch.manual_seed(0)
    kwargs = {"img_size": size} if size and "vit" in name else {}
    reference = timm.create_model(name, **kwargs).eval()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(reference.state_dict(), path)
    got = embedding(timm_loader.load({"model": name, "checkpoint": str(path)}, None, size), flower)
    config = resolve_data_config({}, model=reference)
    if size:
        config |= {"input_size": (3, size, size), "crop_pct": 1.0}
    image = create_transform(**config)(flower)[None]
    with torch.no_grad():
        expected = reference.forward_head(reference.forward_features(image), pre_logits=True)
    torch.testing.assert_close(got, expected)


def test_timm_refuses_a_checkpoint_that_lacks_tensors(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    del state["blocks.0.attn.qkv.weight"]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match=r"cut\.safetensors lacks 1 tensors.*qkv"):
        timm_loader.load({"model": "test_vit", "checkpoint": str(tmp_path / "cut.safetensors")}, None, None)
    with pytest.raises(UserError, match="does not exist"):
        timm_loader.load({"model": "test_vit", "checkpoint": "nowhere.pth"}, None, None)


def test_open_clip_equals_its_own_pipeline(tmp_path, flower):
    tiny = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-vit.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / "tiny-vit.json")
    torch.manual_seed(0)
    reference, _, transform = open_clip.create_model_and_transforms("tiny-vit")
    path = tmp_path / "tiny.pt"
    torch.save(reference.state_dict(), path)
    got = embedding(open_clip_loader.load({"model": "tiny-vit", "pretrained": str(path)}, None, None), flower)
    with torch.no_grad():
        expected = reference.eval().encode_image(transform(flower)[None])
    torch.testing.assert_close(got, expected)
    with pytest.raises(UserError, match="no model 'nothing'"):
        open_clip_loader.load({"model": "nothing", "pretrained": str(path)}, None, None)
