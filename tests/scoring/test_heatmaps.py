"""A map's mean is the latent's pre-activation; coarse grids are looked at larger."""

import json
import shutil

import numpy as np
import open_clip
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from report.site.reading import payload, unpacked
from safetensors.torch import save_file
from scoring.examples import TinyBank
from sklearn.datasets import load_sample_images
from support.embeddings import write_split
from support.errors import refused_naming
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
from torch import nn
from torchvision import transforms
from torchvision.transforms import functional

from sae.core import files
from sae.core.errors import UserError
from sae.data import archives, backbone_entries
from sae.data.backbone import Backbone
from sae.data.backbones import efficientnet_lite
from sae.data.backbones import open_clip as open_clip_loader
from sae.data.entries import parse
from sae.data.store import Activations
from sae.models import convert, saefile
from sae.models.coder import Coder
from sae.report import where as report_where
from sae.report.site.explore import explore
from sae.scoring import alone, heatmaps, rows
from sae.scoring.collect import _join_latents

PICTURES = [Image.fromarray(image) for image in load_sample_images().images]


def lite(tmp_path, monkeypatch):
    """Load EfficientNet-Lite0 with weights drawn by lot."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
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
    check_mean(backbone, input_norm)
    if load is lite:  # Folded.
        parts = backbone.folded_positions.modules()
        assert not any(isinstance(part, nn.BatchNorm2d) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("input_norm", ["none", "unit_l2"])
def test_the_mean_is_so_with_trained_weights(input_norm, fetched):
    options = efficientnet_lite.Options(
        model="tf_efficientnet_lite0", artifacts=["efficientnet_lite0"]
    )
    backbone = efficientnet_lite.load(options, fetched("efficientnet_lite0"), 160)
    check_mean(backbone, input_norm)


def check_mean(backbone, input_norm):
    backbone.model.eval()
    images = torch.stack([backbone.transform(picture) for picture in PICTURES])
    with torch.no_grad():
        embeddings = backbone.model(images)
        vectors = backbone.folded_positions(images)
    differences = (vectors.mean(dim=(1, 2)) - embeddings).norm(dim=1)
    assert (differences < 1e-5 * embeddings.norm(dim=1)).all()
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
        tolerance = 1e-5 * max(1, float(expected[picture].detach().abs().max()))
        torch.testing.assert_close(
            at_positions.mean(dim=0), expected[picture], rtol=1e-5, atol=tolerance
        )


@pytest.mark.parametrize("load", OTHERS.values(), ids=OTHERS)
def test_other_networks_are_told_to_be_approximations(load, tmp_path, monkeypatch):
    backbone = load(tmp_path, monkeypatch)
    viewer = heatmaps.Viewer(lambda _: backbone, None)
    assert not viewer.is_exact
    exact = MEAN_POOLED["timm"](tmp_path, monkeypatch)
    assert heatmaps.Viewer(lambda _: exact, 160).is_exact


def test_what_attention_pools_has_no_positions(tmp_path, monkeypatch):
    assert of_timm("test_vit3")(tmp_path, monkeypatch).positions is None
    backbone = Backbone(nn.Flatten(), functional.to_tensor)
    with pytest.raises(heatmaps.NoPositions, match="by attention, or its loader"):
        heatmaps.Viewer(lambda _: backbone, None)


def test_a_grid_that_does_not_grow_is_taken_as_it_is():
    positions = nn.AdaptiveAvgPool2d(2)
    backbone = Backbone(
        nn.Sequential(positions, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        functional.to_tensor,
        positions=lambda images: positions(images).permute(0, 2, 3, 1),
    )
    facts = heatmaps.Viewer(lambda _: backbone, None).facts()
    assert (facts["height"], facts["enlarged"], facts["exact"]) == (2, None, True)


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

    viewer = heatmaps.Viewer(load_cells, 16)
    # 2 x 2 at 16 pixels, 4 x 4 at 32.
    assert viewer.facts() == {
        "height": 8, "width": 8, "square": None, "enlarged": 64, "exact": True,
    }  # fmt: skip
    images = Activations(embeddings, index, {})
    vectors_of = viewer.reader([0, 1], pictures.__getitem__)
    (maps,) = heatmaps.draw([coder], images, viewer, vectors_of, 10)
    by_pair = {(row.latent, row.image): row.map for row in maps.table.itertuples()}
    assert set(by_pair) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    top_left = np.zeros((8, 8), int)
    top_left[:4, :4] = 255
    drawn = {pair: np.frombuffer(map_, np.uint8) for pair, map_ in by_pair.items()}
    # Each picture has a scale of its own.
    assert drawn[0, 0].reshape(8, 8).tolist() == top_left.tolist()
    assert drawn[0, 1].reshape(8, 8).tolist() == top_left.tolist()
    assert drawn[1, 1].reshape(8, 8).tolist() == top_left[::-1, ::-1].tolist()
    # Half of what a quarter of the positions has evenly is in an eighth of them.
    np.testing.assert_allclose(maps.spread, [1 / 8, 1 / 8, np.nan])

    # The highest picture of each latent comes first.
    (fewer,) = heatmaps.draw([coder], images, viewer, vectors_of, 1)
    assert fewer.table["image"].tolist() == [0, 0]


def test_every_latent_gets_maps_before_one_gets_many():
    # Pictures 0 and 1 are of three latents each, the same; picture 9 of another one.
    highest = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4], [9, -1, -1]])

    def looked_at(most):
        return heatmaps._pictures_to_look_at(highest, 12, most).tolist()

    assert looked_at(1) == [0]
    assert looked_at(2) == [0, 1]  # 3 halves are more than 1.
    assert looked_at(3) == [0, 1, 9]
    assert looked_at(99) == [0, 1, 2, 3, 4, 9]
    # Against a sum over all latents, anew for each picture.
    rng = np.random.default_rng(0)
    highest = rng.permuted(np.tile(np.arange(30), (40, 1)), axis=1)[:, :10]
    counts, chosen = np.zeros(40), []
    for _ in range(12):
        gains = [
            sum(1 / (1 + counts[np.any(highest == picture, axis=1)]))
            if picture not in chosen
            else -1
            for picture in range(30)
        ]
        chosen.append(int(np.argmax(np.round(gains, 9))))
        counts += np.any(highest == chosen[-1], axis=1)
    assert heatmaps._pictures_to_look_at(highest, 30, 12).tolist() == sorted(chosen)


def test_the_picture_that_is_highest_of_most_latents_is_looked_at_first():
    embeddings = np.array([[3, 0, 0], [2, 5, 4]], np.float32)
    coder = Coder(3, 3, 3)
    coder.fill({"W_enc": torch.eye(3)})
    images = Activations(embeddings, pd.DataFrame({"path": ["", ""]}), {})

    def vectors_of(rows):
        return {row: torch.from_numpy(embeddings[[row]]) for row in rows}

    grid = heatmaps.Grid(1, 1, is_exact=True)
    (maps,) = heatmaps.draw([coder], images, grid, vectors_of, 1)
    assert maps.table["latent"].tolist() == [0, 1, 2]
    assert set(maps.table["image"]) == {1}
    # One that cannot be read has no map.
    (maps,) = heatmaps.draw([coder], images, grid, lambda _: {}, 2)
    assert maps.table.empty and np.isnan(maps.spread).all()


@pytest.mark.parametrize(
    ("steps", "square"),
    [
        ([transforms.Resize(100), transforms.CenterCrop(80)], 0.8),
        ([transforms.Resize([100]), transforms.CenterCrop(100)], 1),
        ([transforms.Resize((90, 90)), transforms.CenterCrop(90)], None),
        ([transforms.Resize((90, 90))], None),
        ([transforms.Resize((90, 90)), transforms.CenterCrop(80)], "squashes"),
        ([transforms.Resize(90), transforms.CenterCrop(100)], "pads"),
        ([transforms.CenterCrop(90)], "no square"),
        ([transforms.Resize(100), transforms.CenterCrop((60, 90))], "no square"),
        ([ResizeKeepRatio(90), CenterCropOrPad(90)], "pads"),
    ],
)
def test_what_a_transform_shows_of_a_picture(steps, square):
    cells = load_cells(None)
    transform = transforms.Compose([*steps, transforms.ToTensor()])
    backbone = Backbone(cells.model, transform, positions=cells.positions)
    if isinstance(square, str):
        with pytest.raises(heatmaps.NoPositions, match=square):
            heatmaps.Viewer(lambda _: backbone, None)
    else:
        assert heatmaps.Viewer(lambda _: backbone, None).square == square


def test_an_sae_that_standardises_inputs_has_approximate_maps_beside_exact_ones():
    kinds = [
        heatmaps.kind_of(coder_of(8, input_norm), True)
        for input_norm in ("unit_l2", "unit_l2_layernorm", "none")
    ]
    assert kinds == ["exact", "approximate", "exact"]
    assert heatmaps.kind_of(coder_of(8, "none"), False) == "approximate"


GIVEN = {"loader": "precomputed", "family": "f", "model": "m"}
# It stands for `load_cells`, which the fixture puts in its place.
MADE = {"loader": "thumbnail", "family": "f", "model": "rgb"}


@pytest.fixture
def pictures_of(tmp_path, monkeypatch):
    """Return a function that writes a dataset of two pictures and its embeddings."""

    def load_like(manifest, artifacts, image_size):
        return "float32", load_cells(image_size)

    def make(spec):
        pixels = np.full((2, 64, 64, 3), 9, np.uint8)
        pixels[:, :32, :32, 0] = [[[255]], [[99]]]
        for number, picture in enumerate(pixels):
            (tmp_path / "photos").mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / f"photos/{number}.png")
        names = [f"{number}.png" for number in range(2)]
        index = pd.DataFrame(
            {"image_id": names, "path": names, "label": None, "label_name": None}
        )
        provenance = {
            "dataset": {"name": "d", "fingerprint": "f", "grouped": False},
            "backbone": {"name": "b", "spec": spec, "fingerprint": "f"},
            "image_size": 16,
        }
        embeddings = pixels.mean(axis=(1, 2)).astype(np.float32) / 255
        write_split(tmp_path / "b/test", [embeddings], index, provenance)
        spec_of_dataset = {"type": "image_folder", "root": str(tmp_path / "photos")}
        files.write_json(tmp_path / "d/manifest.json", {"spec": spec_of_dataset})
        return tmp_path

    monkeypatch.setattr(heatmaps, "load_like", load_like)
    opener = archives.opener(tmp_path / "photos")
    monkeypatch.setattr(heatmaps.datasets, "reader", lambda *_: opener)
    return make


def red_coder():
    coder = Coder(3, 16, 4)
    coder.fill({"W_enc": torch.eye(3, 16)})
    return coder


def test_the_step_draws_what_was_chosen_and_joins_its_spread(pictures_of):
    folder = pictures_of(MADE)
    bank = TinyBank(folder / "bank.json")
    # Of a method the page shows the SAE of protocol `tuned` with the first seed.
    bank.add("topk", seed=9, coder=red_coder(), chosen=True)
    bank.add("topk", seed=2, coder=red_coder(), chosen=True, protocol="tuned")
    bank.add("topk", seed=1, coder=red_coder(), chosen=True, protocol="tuned")
    bank.add("reg1", coder=red_coder())
    bank.add("reg2", chosen=True, status="diverged")
    bank.add("untrained", coder=red_coder(), chosen=True)
    stage = folder / "scores/heatmaps"
    arguments = {"most_images": 1, "controls": ["untrained"], "artifacts": folder}
    heatmaps.run(bank.file, folder / "b", folder / "d", stage, **arguments)

    table = files.read_table(stage / "maps.parquet")
    assert json.loads(table.schema.metadata[b"facts"])["enlarged"] == 64
    maps = table.to_pandas()
    # Of the three live latents; the second picture is not looked at.
    assert set(maps["method"]) == {"topk"} and set(maps["image"]) == {0}
    assert set(maps["seed"]) == {1}
    assert [len(row) for row in maps["map"]] == [64] * 3

    key = ["dataset", "backbone", "k", "method", "trial", "seed", "split", "latent"]
    score = rows.table(
        [
            dict(
                zip(
                    key,
                    ("d", "b", 4, method, "default", 1, "test", latent),
                    strict=True,
                )
            )
            for method in ("topk", "reg1")
            for latent in range(16)
        ]
    )
    joined = _join_latents(
        rows.joined([score, files.read_table(stage / "latents.parquet")])
    ).to_pandas()
    assert len(joined) == 32
    spread = joined.set_index(["method", "latent"])["spread"]
    assert spread["topk", 0] == 9 / 64 and spread["reg1"].isna().all()


def test_given_embeddings_have_no_maps_and_the_table_says_why(pictures_of):
    folder = pictures_of(GIVEN)
    bank = TinyBank(folder / "bank.json")
    bank.add("topk", coder=red_coder(), chosen=True)
    heatmaps.run(bank.file, folder / "b", folder / "d", folder / "out", most_images=9)
    table = files.read_table(folder / "out/maps.parquet")
    assert len(table) == 0
    facts = json.loads(table.schema.metadata[b"facts"])
    assert facts == {"missing": "the embeddings were given, not made of pictures here"}
    assert len(files.read_table(folder / "out/latents.parquet")) == 0


def test_a_site_of_any_sae_has_them_too(pictures_of):
    folder = pictures_of(MADE)
    saefile.save(red_coder(), folder / "sae.safetensors")
    arguments = {
        "sae": [str(folder / "sae.safetensors")],
        "activations": folder / "b/test",
        "images": folder / "photos",
    }
    explore(**arguments, out=folder / "with", backbone="b")
    about = payload(folder / "with", "overview")
    assert about["cells"][0]["where"]["height"] == 8
    assert about["saes"][0]["where"] == "exact"
    maps = payload(folder / "with", "where/0")
    assert unpacked(maps["image"]).reshape(16, 15)[0].tolist()[:3] == [0, 1, 65535]
    lit = unpacked(maps["maps"]).reshape(16, 15, 8, 8)
    assert lit[0, 0, 0, 0] == 255 and lit[0, 1, 0, 0] == 255
    columns = payload(folder / "with", "saes/0")["latents"]
    assert np.isfinite(unpacked(columns["spread"])).sum() == 3

    explore(**arguments, out=folder / "without")
    assert payload(folder / "without", "overview")["cells"][0]["where"] is None
    assert not (folder / "without/data/where").exists()
    with pytest.raises(UserError, match="these embeddings are of b; name the folder"):
        explore(**arguments, out=folder / "other", backbone="c")


def test_a_site_takes_positions_that_were_made_elsewhere(pictures_of):
    folder = pictures_of(GIVEN)
    saefile.save(red_coder(), folder / "sae.safetensors")
    embeddings = np.load(folder / "b/test/embeddings.npy")
    positions = np.zeros((2, 2, 3, 3), np.float32)
    # All of what is red is in the upper right position.
    positions[..., 1:] = embeddings[:, None, None, 1:]
    positions[:, 0, 2, 0] = 6 * embeddings[:, 0]
    file = folder / "positions.npy"
    arguments = {
        "sae": [str(folder / "sae.safetensors")],
        "activations": folder / "b/test",
        "images": folder / "photos",
        "positions": file,
        "out": folder / "site",
    }

    def about(positions):
        np.save(file, positions)
        explore(**arguments)
        overview = payload(folder / "site", "overview")
        return overview["cells"][0]["where"], overview["saes"][0]["where"]

    grid, kind = about(positions)
    assert (grid["height"], grid["width"], grid["square"]) == (2, 3, None)
    assert kind == "exact"
    lit = unpacked(payload(folder / "site", "where/0")["maps"]).reshape(16, 15, 6)
    assert lit[0, :2].tolist() == [[0, 0, 255, 0, 0, 0]] * 2
    # What float16 rounds is not held against them.
    assert about(positions.astype(np.float16))[1] == "exact"
    assert about(positions * 1.01)[1] == "approximate"

    for wrong, says in [
        (positions[:1], r"needed: floats of shape \(2, h, w, 3\)"),
        (positions[..., :2], r"float32 of shape \(2, 2, 3, 2\)"),
        (positions.astype(int), "holds int64"),
        (positions * np.nan, "row 0 .* holds NaN"),
    ]:
        with pytest.raises(UserError, match=says):
            about(wrong)
    with pytest.raises(UserError, match="give one of them"):
        explore(**arguments, backbone="b")
    with pytest.raises(UserError, match="there are none: name"):
        explore(**{**arguments, "images": None})


def test_vectors_of_another_shape_are_named():
    with refused_naming("(5, 4)", "(P, 3)"):
        heatmaps.at_positions(red_coder(), torch.ones(5, 4), 1.0, np.array([0]))


def read_given(tmp_path, embeddings, vectors):
    """Read vectors at positions of images that are their rows."""
    np.save(tmp_path / "positions.npy", vectors.astype(np.float32))
    images = alone.data("x", embeddings, None, embeddings.shape[1])
    return heatmaps.read_positions(tmp_path / "positions.npy", images, images)[0]


def test_positions_of_other_pictures_are_refused(tmp_path):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(400, 8)).astype(np.float32) + 2
    spread = generator.normal(size=(400, 2, 3, 8))
    spread -= spread.mean(axis=(1, 2), keepdims=True)
    exact = embeddings[:, None, None] + spread
    assert read_given(tmp_path, embeddings, exact).is_exact
    for order in (np.arange(400)[::-1], np.roll(np.arange(400), 1)):
        with pytest.raises(
            UserError, match=f"has for 0 is the embedding of {order[0]}:"
        ):
            read_given(tmp_path, embeddings, exact[order])

    # Something follows the mean, or the class token is the embedding.
    bent = np.tanh(exact)
    assert not read_given(tmp_path, embeddings, bent).is_exact
    noise = generator.normal(size=exact.shape)
    for vectors in (bent[::-1], bent[generator.permutation(400)], noise):
        with pytest.raises(
            UserError, match=r"in \d\d% of pairs, where chance gives 50%"
        ):
            read_given(tmp_path, embeddings, vectors)


def test_where_prints_the_highest_latents_and_draws_them(
    pictures_of, monkeypatch, capsys
):
    folder = pictures_of(MADE)
    for split in ("test", "train"):
        shutil.copytree(folder / "b/test", folder / f"all/d/b/{split}")
    embedded = np.load(folder / "b/test/embeddings.npy")[:1]
    monkeypatch.setattr(report_where, "embed_like", lambda *_, **__: embedded)
    coder = red_coder()
    manifest = json.loads((folder / "all/d/b/train/manifest.json").read_text())
    its_embeddings = manifest["sha256"]["embeddings.npy"]
    coder.metadata = {"dataset": "d", "embeddings": its_embeddings}
    saefile.save(coder, folder / "sae.safetensors")
    arguments = {
        "sae": folder / "sae.safetensors",
        "backbone": "b",
        "image": folder / "photos/0.png",
        "activations": folder / "all",
        "out": folder / "where.png",
    }
    report_where.where(**arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(" ")[:3] == ["latent", "0:", f"{embedded[0, 0]:.3g}"]
    assert "8 x 8 positions, of pictures at 64 pixels; their mean is" in lines[-1]
    # The picture, then latents 0, 1 and 2; of the first the red quarter is lit.
    sheet = np.asarray(Image.open(folder / "where.png")).astype(int)
    assert sheet.shape == (224 + 24, 4 * 232, 3)
    red = sheet[16:240, 232:456, 0]
    assert red[:90, :90].min() > 250 and red[130:, 130:].max() < 3

    convert.export(coder, "saelens", folder / "theirs")
    of_another_library = {**arguments, "sae": folder / "theirs", "backbone": ""}
    with refused_naming("theirs", "--activations"):
        report_where.where(**of_another_library)
    report_where.where(**{**of_another_library, "activations": folder / "all/d/b"})
    assert capsys.readouterr().out.splitlines()[:3] == lines[:3]

    with pytest.raises(UserError, match="this SAE has latents 0 to 15"):
        report_where.where(**arguments, latent=16)
    report_where.where(**arguments, latent=9)
    assert "latent 9: 0 " in capsys.readouterr().out
    for name in ("mine.png", "mine.jpg"):
        (folder / name).write_text("mine")
        with refused_naming(name, "name"):
            report_where.where(**{**arguments, "out": folder / name})
        assert (folder / name).read_text() == "mine"
