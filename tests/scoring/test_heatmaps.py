"""A map's mean is the latent's pre-activation; coarse grids are looked at larger."""

import json

import numpy as np
import open_clip
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import nn
from torchvision.transforms import functional

from sae.data import backbone_entries
from sae.data.backbone import Backbone
from sae.data.backbones import efficientnet_lite
from sae.data.backbones import open_clip as open_clip_loader
from sae.data.entries import parse
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.scoring import heatmaps

PICTURES = [Image.fromarray(image) for image in load_sample_images().images]


def lite(tmp_path, monkeypatch):
    """Load EfficientNet-Lite0 with weights drawn by lot."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    monkeypatch.setattr(efficientnet_lite, "full_model", lambda *_: model)
    options = efficientnet_lite.Options(
        model="tf_efficientnet_lite0", artifacts=["efficientnet_lite0"]
    )
    return efficientnet_lite.load(options, None, 160)


def of_timm(name):
    def load(tmp_path, monkeypatch):
        torch.manual_seed(0)
        state = timm.create_model(name).state_dict()
        save_file(state, tmp_path / "weights.safetensors")
        spec = {"model": name, "checkpoint": str(tmp_path / "weights.safetensors")}
        entry = parse("backbone", {"loader": "timm", "family": "f", **spec})
        return backbone_entries.load(entry, None, 160)

    return load


def tiny_clip(pool_type):
    """Load a transformer of CLIP's with a projection, which pools by this type."""

    def load(tmp_path, monkeypatch):
        vision = {"image_size": 80, "layers": 2, "width": 64, "head_width": 32}
        vision |= {"patch_size": 16, "pool_type": pool_type}
        text = {"context_length": 8, "vocab_size": 9, "width": 32, "heads": 2}
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
        (tmp_path / "tiny-where.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / "tiny-where.json")
        torch.manual_seed(0)
        tower = open_clip.create_model("tiny-where").visual.eval()
        return Backbone(
            tower,
            lambda image: functional.to_tensor(image.resize((80, 80))),
            positions=open_clip_loader._positions_of(tower),
        )

    return load


MEAN_POOLED = {
    "lite": lite,
    "timm": of_timm("test_efficientnet"),
    "timm, attention inside": of_timm("test_byobnet"),
    "open_clip": tiny_clip("avg"),
}
OTHERS = {
    "class token": of_timm("test_vit"),
    "class token, projected": tiny_clip("tok"),
    "norm after the mean": of_timm("test_convnext"),
}


def coder_of(d, input_norm):
    torch.manual_seed(1)
    coder = Coder(d, 16, 4, input_norm=input_norm, input_scale=3.7)
    for parameter in coder.parameters():
        nn.init.normal_(parameter.data)
    return coder


@pytest.mark.parametrize("input_norm", ["none", "unit_l2"])
@pytest.mark.parametrize("load", MEAN_POOLED.values(), ids=MEAN_POOLED)
def test_the_mean_over_positions_is_the_pre_activation(
    load, input_norm, tmp_path, monkeypatch
):
    backbone = load(tmp_path, monkeypatch)
    backbone.model.eval()
    images = torch.stack([backbone.transform(picture) for picture in PICTURES])
    with torch.no_grad():
        embeddings = backbone.model(images)
        vectors = backbone.positions(images)
    assert min(vectors.shape[1:3]) >= 5
    coder = coder_of(embeddings.shape[1], input_norm)
    # By the formula in the coder's docstring, without its own function.
    x = coder.prepare(embeddings.numpy())
    expected = (x - coder.b_dec) @ coder.W_enc + coder.b_enc
    for picture, embedding in enumerate(embeddings):
        at_positions = heatmaps.at_positions(
            coder,
            vectors[picture].flatten(0, 1),
            float(embedding.norm()),
            np.arange(coder.m),
        )
        torch.testing.assert_close(
            at_positions.mean(dim=0), expected[picture], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("load", OTHERS.values(), ids=OTHERS)
def test_other_networks_are_told_to_be_approximations(load, tmp_path, monkeypatch):
    backbone = load(tmp_path, monkeypatch)
    viewer = heatmaps.Viewer(lambda _: backbone, None, PICTURES.__getitem__, 0)
    assert not viewer.is_exact
    exact = MEAN_POOLED["timm"](tmp_path, monkeypatch)
    assert heatmaps.Viewer(lambda _: exact, 160, PICTURES.__getitem__, 0).is_exact


def test_what_attention_pools_has_no_positions(tmp_path, monkeypatch):
    assert of_timm("test_vit3")(tmp_path, monkeypatch).positions is None
    backbone = Backbone(nn.Flatten(), functional.to_tensor)
    with pytest.raises(heatmaps.NoPositions, match="by attention, or its loader"):
        heatmaps.Viewer(lambda _: backbone, None, PICTURES.__getitem__, 0)


class Cells(nn.Module):
    """The mean colours of cells of 8 x 8 pixels, which the embedding is the mean of."""

    def positions(self, images):
        return nn.functional.avg_pool2d(images, 8).permute(0, 2, 3, 1)

    def forward(self, images):
        return self.positions(images).mean(dim=(1, 2))


def load_cells(size):
    model = Cells()
    side = size or 16
    return Backbone(
        model,
        lambda image: functional.to_tensor(image.resize((side, side), Image.BOX)),
        positions=model.positions,
    )


def test_maps_show_where_the_colour_is(tmp_path):
    # Red in one quarter, blue in another; latent 0 is red, 1 blue, 2 green.
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    pixels[0, :32, :32, 0] = 255
    pixels[1, :32, :32, 0] = 51
    pixels[:, 32:, 32:, 2] = 255
    pictures = [Image.fromarray(picture) for picture in pixels]
    embeddings = pixels.mean(axis=(1, 2)).astype(np.float32) / 255
    index = pd.DataFrame({"path": [0, 1]})
    coder = Coder(3, 3, 3)
    coder.fill({"W_enc": torch.eye(3)[:, [0, 2, 1]], "b_enc": torch.zeros(3)})

    viewer = heatmaps.Viewer(load_cells, 16, pictures.__getitem__, 0)
    # 2 x 2 at 16 pixels, 4 x 4 at 32.
    assert viewer.facts() == {
        "height": 8, "width": 8, "square": None, "enlarged": 64, "exact": True,
    }  # fmt: skip
    images = Activations(embeddings, index, {})
    (maps,) = heatmaps.draw([coder], images, viewer, most_images=10)
    by_pair = {(row.latent, row.image): row.map for row in maps.table.itertuples()}
    assert set(by_pair) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    top_left = np.zeros((8, 8), int)
    top_left[:4, :4] = 255
    drawn = {pair: np.frombuffer(map_, np.uint8) for pair, map_ in by_pair.items()}
    # The scale is one for all pictures of a latent.
    assert drawn[0, 0].reshape(8, 8).tolist() == top_left.tolist()
    assert drawn[0, 1].reshape(8, 8).tolist() == (top_left // 5).tolist()
    assert drawn[1, 1].reshape(8, 8).tolist() == top_left[::-1, ::-1].tolist()
    # Half of what a quarter of the positions has evenly is in an eighth of them.
    np.testing.assert_allclose(maps.spread, [1 / 8, 1 / 8, np.nan])

    # The highest picture of each latent comes first.
    (fewer,) = heatmaps.draw([coder], images, viewer, most_images=1)
    assert fewer.table["image"].tolist() == [0, 0]
