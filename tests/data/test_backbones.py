"""Loaders give the embedding of the library's own pipeline.

Checkpoints are saved as users have them.
"""

import hashlib
import json
import struct

import numpy as np
import open_clip
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from support.errors import refused_naming
from timm.data import ImageNetInfo, create_transform, resolve_data_config

from sae.core.errors import UserError
from sae.core.files import read_json
from sae.data import backbone_entries, download, pictures
from sae.data.backbones import efficientnet_lite, precomputed
from sae.data.backbones import timm as timm_loader
from sae.data.datasets import table
from sae.data.entries import parse


@pytest.fixture(scope="module")
def flower():
    return Image.fromarray(load_sample_image("flower.jpg"))


def load(loader, spec, *arguments):
    entry = parse("backbone", {"loader": loader, **spec})
    return backbone_entries.load(entry, *arguments)


def options_of_given(root, model):
    return table.Options(root=str(root)), precomputed.Options(model=model)


def embedding(backbone, image):
    with torch.no_grad():
        return backbone.model.eval()(backbone.transform(image)[None])


def test_a_thumbnail_is_the_mean_colour_of_each_place_over_the_whole_picture(tmp_path):
    spec = {"family": "f", "model": "rgb"}
    # No square, and a third of it transparent.
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 4), dtype=np.uint8)
    pixels[..., 3] = 255 * (np.arange(64) % 3 > 0)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    on_white = np.where(pixels[..., 3:] > 0, pixels[..., :3], 255) / 255
    means = on_white.reshape(8, 5, 8, 8, 3).mean(axis=(1, 3))

    picture = pictures.Guard(Image.open)(str(tmp_path / "picture.png"))
    thumbnail = embedding(load("thumbnail", spec, None, 8), picture)
    assert thumbnail.shape == (1, 192)
    # Of 8 bits, rounded twice.
    by_channel = torch.tensor(means).permute(2, 0, 1).reshape(1, 192).float()
    torch.testing.assert_close(thumbnail, by_channel, rtol=0, atol=1.01 / 255)
    with pytest.raises(UserError, match="needs its side in pixels: `image_size: 8`"):
        load("thumbnail", spec, None, None)


@pytest.mark.slow
def test_every_weight_is_mapped_and_the_prediction_is_sane(fetched, flower):
    weights = fetched("efficientnet_lite0")
    spec = efficientnet_lite.Options(
        model="tf_efficientnet_lite0", artifacts=["efficientnet_lite0"]
    )
    model = efficientnet_lite.full_model(spec, weights)
    with torch.no_grad():
        image = timm_loader.preprocessing(model, None)(flower)[None]
        top = model(image).softmax(dim=1)[0].topk(1)
        names = ImageNetInfo()
        # The picture shows a dahlia, which ImageNet lacks; the daisy is its nearest
        # class. Chance is 0.001.
        assert names.index_to_description(top.indices.item()).startswith("daisy")
        assert top.values.item() > 0.2
        backbone = efficientnet_lite.load(spec, weights, None)
        got = backbone.model(image)
        features = model.blocks(model.bn1(model.conv_stem(image))).mean(dim=(2, 3))
        folded = backbone.folded(image)
    torch.testing.assert_close(got, features)
    assert 0 < (folded - features).norm() < 1e-5 * features.norm()
    assert got.shape == (1, 320) and (got < 0).any()


def test_an_unknown_weight_is_named():
    model = timm.create_model("tf_efficientnet_lite0")
    with pytest.raises(UserError, match=r"_nowhere\.weight has no place"):
        efficientnet_lite.rename({"_nowhere.weight": torch.zeros(1)}, model)


@pytest.mark.parametrize(
    ("name", "size", "suffix"),
    [
        ("test_vit", None, "safetensors"),
        ("test_efficientnet", 96, "safetensors"),
    ],
)
def test_timm_equals_its_own_pipeline(name, size, suffix, tmp_path, flower):
    torch.manual_seed(0)
    kwargs = {"img_size": size} if size and "vit" in name else {}
    reference = timm.create_model(name, **kwargs).eval()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(reference.state_dict(), path)
    got = embedding(
        load("timm", {"model": name, "checkpoint": str(path)}, None, size), flower
    )
    config = resolve_data_config({}, model=reference)
    if size:
        config |= {"input_size": (3, size, size), "crop_pct": 1.0}
    image = create_transform(**config)(flower)[None]
    with torch.no_grad():
        expected = reference.forward_head(
            reference.forward_features(image), pre_logits=True
        )
    torch.testing.assert_close(got, expected)


def test_timm_refuses_a_checkpoint_that_lacks_tensors(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    del state["blocks.0.attn.qkv.weight"]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match=r"cut\.safetensors lacks 1 tensors.*qkv"):
        load(
            "timm",
            {"model": "test_vit", "checkpoint": str(tmp_path / "cut.safetensors")},
            None,
            None,
        )
    deeper = timm.create_model("test_vit", depth=7).state_dict() | {
        "mask_token": torch.zeros(1)
    }
    save_file(deeper, tmp_path / "deeper.safetensors")
    with refused_naming("deeper.safetensors", "more layers", "test_vit", "blocks.6."):
        load(
            "timm",
            {"model": "test_vit", "checkpoint": str(tmp_path / "deeper.safetensors")},
            None,
            None,
        )
    last = {
        name: value
        for name, value in deeper.items()
        if not name.startswith("blocks.6.")
    }
    save_file(last, tmp_path / "extra.safetensors")
    load(
        "timm",
        {"model": "test_vit", "checkpoint": str(tmp_path / "extra.safetensors")},
        None,
        None,
    )
    with pytest.raises(UserError, match="does not exist"):
        load("timm", {"model": "test_vit", "checkpoint": "nowhere.pth"}, None, None)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Make an offline hub cache.

    Returns a function that gives the folder in it for the files of a repo.
    """
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def repo(name):
        folder = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs/main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        return folder / "snapshots" / ("0" * 40)

    return repo


def test_timm_weights_from_the_hub_equal_its_own_pipeline(hub, flower):
    name = "test_vit.r160_in1k"
    torch.manual_seed(0)
    snapshot = hub(f"timm/{name}")
    save_file(
        timm.create_model("test_vit").state_dict(), snapshot / "model.safetensors"
    )
    options = {"pretrained": True, "num_classes": 0, "img_size": 96}
    reference = timm.create_model(name, **options).eval()
    config = resolve_data_config({}, model=reference)
    config |= {"input_size": (3, 96, 96), "crop_pct": 1.0}
    with torch.no_grad():
        expected = reference(create_transform(**config)(flower)[None])
    for spec in ({"model": name}, {"model": name, "checkpoint": str(snapshot)}):
        backbone = load("timm", spec, None, 96)
        torch.testing.assert_close(embedding(backbone, flower), expected)
        assert backbone.checkpoint == str(snapshot / "model.safetensors")


def test_timm_takes_a_repo_or_folder_in_its_format(hub, flower):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", global_pool="avg").eval()
    model.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "crop_pct": 0.8}
    snapshot = hub("someone/vit")
    timm.models.save_for_hf(model, snapshot, model_args={"global_pool": "avg"})
    with torch.no_grad():
        image = create_transform(**resolve_data_config({}, model=model))(flower)[None]
        expected = model.forward_head(model.forward_features(image), pre_logits=True)
    for spec in (
        {"model": "hf-hub:someone/vit"},
        {"model": "test_vit", "checkpoint": str(snapshot)},
    ):
        torch.testing.assert_close(
            embedding(load("timm", spec, None, None), flower), expected
        )
    with pytest.raises(
        UserError, match=r"holds a test_vit by its config\.json; expected test_vit2"
    ):
        load("timm", {"model": "test_vit2", "checkpoint": str(snapshot)}, None, None)


TEXT = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
# A CLIP transformer, and the layout of ViT-SO400M-14-SigLIP2: a transformer of timm
# with attention pooling.
CLIP = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
SIGLIP = {
    "image_size": 160,
    "timm_model_name": "test_vit3",
    "timm_pool": "map",
    "timm_proj": "none",
}
OPEN_CLIP = {
    "tiny-clip": {"embed_dim": 24, "vision_cfg": CLIP, "text_cfg": TEXT},
    "tiny-siglip": {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": SIGLIP,
        "text_cfg": TEXT
        | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
}


@pytest.fixture
def tiny(hub, tmp_path, monkeypatch):
    """Register a tiny model of open_clip with the tag of a real one.

    Returns its name and the folder of the hub's repo.
    """

    def make(name):
        tag, real = {
            "tiny-clip": ("openai", "ViT-L-14"),
            "tiny-siglip": ("webli", "ViT-SO400M-14-SigLIP2"),
        }[name]
        (tmp_path / f"{name}.json").write_text(json.dumps(OPEN_CLIP[name]))
        open_clip.add_model_config(tmp_path / f"{name}.json")
        settings = open_clip.get_pretrained_cfg(real, tag) | {
            "hf_hub": f"someone/{name}/"
        }
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {tag: settings})
        torch.manual_seed(0)
        state = open_clip.create_model(name).state_dict()
        snapshot = hub(f"someone/{name}")
        save_file(state, snapshot / "open_clip_model.safetensors")
        for file in ("weights.pt", "folder/open_clip_pytorch_model.bin"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            torch.save(state, tmp_path / file)
        # open_clip only warns that the openai weights need QuickGELU.
        quick = {"force_quick_gelu": True} if tag == "openai" else {}
        reference, _, transform = open_clip.create_model_and_transforms(
            name, pretrained=tag, **quick
        )
        return tag, snapshot, reference.eval(), transform

    return make


@pytest.mark.parametrize("name", list(OPEN_CLIP))
def test_open_clip_equals_its_own_pipeline(name, tiny, tmp_path, flower):
    tag, snapshot, reference, transform = tiny(name)
    with torch.no_grad():
        expected = reference.encode_image(transform(flower)[None])
    hub_file = str(snapshot / "open_clip_model.safetensors")
    preprocessing = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    if name == "tiny-clip":
        preprocessing = {}
    config = {
        "model_cfg": OPEN_CLIP[name] | {"quick_gelu": name == "tiny-clip"},
        "preprocess_cfg": preprocessing,
    }
    (snapshot / "open_clip_config.json").write_text(json.dumps(config))
    specs = [
        ({"model": name, "pretrained": tag}, hub_file),
        ({"model": f"hf-hub:someone/{name}"}, hub_file),
        ({"model": name, "pretrained": str(snapshot)}, hub_file),
        ({"model": name, "pretrained": hub_file}, hub_file),
        (
            {
                "model": name,
                "pretrained": tag,
                "checkpoint": str(tmp_path / "weights.pt"),
            },
            str(tmp_path / "weights.pt"),
        ),
        (
            {"model": name, "pretrained": f"{tmp_path}/folder"},
            f"{tmp_path}/folder/open_clip_pytorch_model.bin",
        ),
    ]
    for spec, file in specs:
        backbone = load("open_clip", spec, None, None)
        torch.testing.assert_close(embedding(backbone, flower), expected)
        assert backbone.checkpoint == file
        assert (
            backbone.model.state_dict().keys() == reference.visual.state_dict().keys()
        )
    smaller = load("open_clip", {"model": name, "pretrained": tag}, None, 96)
    assert smaller.transform(flower).shape == (3, 96, 96)
    assert embedding(smaller, flower).shape == expected.shape


def test_open_clip_refuses_what_it_cannot_load(tiny, tmp_path):
    tag, *_ = tiny("tiny-clip")
    with pytest.raises(UserError, match="no model 'nothing'"):
        load("open_clip", {"model": "nothing", "pretrained": tag}, None, None)
    with refused_naming("nowhere", "tiny-clip", "openai"):
        load("open_clip", {"model": "tiny-clip", "pretrained": "nowhere"}, None, None)
    path = str(tmp_path / "weights.pt")
    # One tag of ViT-L-14 has another mean, others another activation: a bare file could
    # be of any of them.
    with pytest.raises(
        UserError, match=r"the tags of ViT-L-14 differ; set `pretrained` to the tag"
    ):
        load("open_clip", {"model": "ViT-L-14", "pretrained": path}, None, None)
    (tmp_path / "weights.pt").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="fetch them anew if the file is broken"):
        load("open_clip", {"model": "tiny-clip", "pretrained": path}, None, None)


LARGE = "vit_large_patch16_224.augreg_in21k_ft_in1k"


@pytest.mark.parametrize(
    ("loader", "spec", "repo", "file"),
    [
        (
            "open_clip",
            {"model": "ViT-L-14", "pretrained": "laion2b_s32b_b82k"},
            "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
            "open_clip_model.safetensors",
        ),
        ("timm", {"model": f"hf-hub:timm/{LARGE}"}, f"timm/{LARGE}", "config.json"),
    ],
)
def test_without_network_the_error_tells_what_to_fetch(
    loader, spec, repo, file, hub, tmp_path
):
    with pytest.raises(UserError) as error:
        load(loader, spec, None, None)
    for part in (
        f"run `hf download {repo} {file}`",
        f"models--{repo.replace('/', '--')}",
        f"{tmp_path}/hub",
        "HF_HOME must be a folder that both see",
        "`checkpoint",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("loader", "model", "names"),
    [
        ("timm", "test_vit.r160_in1k", ["model.safetensors"]),
        ("timm", "hf-hub:someone/vit", ["config.json", "model.safetensors"]),
        (
            "open_clip",
            "hf-hub:someone/tiny-clip",
            ["open_clip_config.json", "open_clip_model.safetensors"],
        ),
    ],
)
def test_fetched_weights_are_listed_and_load_without_asking_anybody(
    loader, model, names, hub, tiny, tmp_path, monkeypatch, network
):
    spec = {"loader": loader, "model": model}
    if loader == "timm":
        repo = model.removeprefix("hf-hub:") if ":" in model else f"timm/{model}"
        snapshot = hub(repo)
        timm.models.save_for_hf(
            timm.create_model("test_vit"), snapshot, safe_serialization=True
        )
    else:
        tag, snapshot, *_ = tiny("tiny-clip")
        (snapshot / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": OPEN_CLIP["tiny-clip"]})
        )
        repo = "someone/tiny-clip"
        if ":" not in model:
            spec = {**spec, "pretrained": tag}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    download.weights("ours", spec, tmp_path / "ours.json")
    listed = read_json(tmp_path / "ours.json")
    digests = [
        hashlib.sha256((snapshot / name).read_bytes()).hexdigest() for name in names
    ]
    files = [
        {"repo": repo, "file": n, "sha256": digest}
        for n, digest in zip(names, digests, strict=True)
    ]
    assert listed == {"backbone": "ours", "files": files}
    load(loader, spec, None, None)
    assert network == []


def test_local_weights_are_not_fetched(tmp_path):
    for spec in (
        {"loader": "timm", "model": "test_vit", "checkpoint": "vit.pt"},
        {
            "loader": "open_clip",
            "model": "ViT-B-32",
            "pretrained": "openai",
            "checkpoint": "vit.pt",
        },
        {"loader": "precomputed", "model": "dino"},
    ):
        with pytest.raises(UserError, match="there is nothing to fetch"):
            download.weights("ours", spec, tmp_path / "ours.json")
    assert not (tmp_path / "ours.json").exists()


def test_precomputed_embeddings_are_mapped_and_checked(tmp_path):
    (tmp_path / "dino").mkdir()
    array = np.arange(12, dtype=np.float16).reshape(4, 3)
    np.save(tmp_path / "dino/train.npy", array)
    np.save(tmp_path / "dino/val.npy", np.zeros((4, 3, 2), dtype=np.float32))
    (tmp_path / "dino/test.npy").write_text("1,2,3")
    specs = options_of_given(tmp_path, "dino")
    got = precomputed.embeddings(*specs, "train")
    assert isinstance(got, np.memmap) and np.array_equal(got, array)
    with pytest.raises(
        UserError, match=r"val\.npy are float32 of shape \(4, 3, 2\); expected"
    ):
        precomputed.embeddings(*specs, "val")
    with pytest.raises(UserError, match=r"test\.npy cannot be read"):
        precomputed.embeddings(*specs, "test")
    with pytest.raises(UserError, match=r"none/train\.npy do not exist"):
        precomputed.embeddings(*options_of_given(tmp_path, "none"), "train")
    (tmp_path / "dino/val.npy").unlink()
    np.savez(tmp_path / "dino/val.npz", array)
    with pytest.raises(
        UserError, match=r"val\.npy do not exist; .* \(a val\.npz may hold several\)"
    ):
        precomputed.embeddings(*specs, "val")


def npy(header):
    """A file of NumPy's with a header of one's own, and 24 numbers."""
    return (
        b"\x93NUMPY\x01\0"
        + struct.pack("<H", len(header))
        + header.encode()
        + np.arange(24.0).tobytes()
    )


HEADER = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}}}"
CUT = npy(HEADER.format("(6, 4)"))[:-8]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (np.ones((6, 4)) + 0j, "holds an array of complex128, expected numbers"),
        (
            np.ones((6, 4), int),
            r"are int64 of shape \(6, 4\); expected \(N, d\) of float16, float32, "
            "float64",
        ),
        (CUT, "cannot be read as an array"),
        (npy("(" * 9000), "cannot be read as an array"),
        (npy("{'a': 1}\n   3\n 2"), "cannot be read as an array"),
    ],
)
def test_files_that_are_no_embeddings_are_named(tmp_path, content, problem):
    (tmp_path / "m").mkdir()
    for split in ("train", "val", "test"):
        file = tmp_path / f"m/{split}.npy"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content)
    with pytest.raises(UserError, match=rf"/train\.npy {problem}") as error:
        precomputed.embeddings(*options_of_given(tmp_path, "m"), "train")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_embeddings_of_any_order_of_axes_and_bytes_are_read(tmp_path):
    (tmp_path / "m").mkdir()
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    for split, kind in (
        ("train", np.asfortranarray(array)),
        ("val", array.astype(">f4")),
        ("test", array),
    ):
        np.save(tmp_path / f"m/{split}.npy", kind)
    for split in ("train", "val"):
        np.testing.assert_array_equal(
            precomputed.embeddings(*options_of_given(tmp_path, "m"), split), array
        )
