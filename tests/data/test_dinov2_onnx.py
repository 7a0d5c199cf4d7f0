"""DINOv2 out of an ONNX file.

Every tensor is in its place, and class tokens are those that the file itself gives.
"""

import subprocess
import venv

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from support.errors import refused_naming
from torch.nn import functional as F

from sae.core import files
from sae.data import dataset as datasets
from sae.data.backbones import dinov2_onnx

D = 6
SPEC = dinov2_onnx.Options(
    model="vit_small_patch14_dinov2", artifacts=["dinov2_vit_s14"]
)
TIMM = timm.create_model
ORACLE = "onnxruntime==1.32.0"
CLASS_TOKEN = "/backbone/layernorm/Add_1_output_0"
RUN = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(
    "network.onnx", providers=["CPUExecutionProvider"]
)
(tokens,) = session.run([sys.argv[1]], {"input_image": numpy.load("images.npy")})
numpy.save("tokens.npy", tokens)
"""


def file_of(layers):
    """List the nodes of such a file, and a node of the network above.

    Each is (node, its operation, a tensor that it reads, shape).
    """
    nodes = [
        ("embeddings/Expand", "Expand", "backbone.embeddings.cls_token", (1, 1, D)),
        ("embeddings/Concat_6", "Concat", "onnx::Concat_1", (1, 1, D)),
        ("embeddings/Reshape_1", "Reshape", "onnx::Reshape_2", (1, 9, D)),
        ("layernorm/Mul", "Mul", "backbone.layernorm.weight", (D,)),
        ("layernorm/Add_1", "Add", "backbone.layernorm.bias", (D,)),
    ]
    projection = "embeddings/patch_embeddings/projection"
    for tensor, shape in (("weight", (D, 3, 14, 14)), ("bias", (D,))):
        nodes.append(
            (
                f"{projection}/Conv_{tensor}",
                "Conv",
                f"backbone.{projection.replace('/', '.')}.{tensor}",
                shape,
            )
        )
    linear = {
        **{f"attention/attention/{part}": (D, D) for part in ("key", "value", "query")},
        "attention/output/dense": (D, D),
        "mlp/fc1": (D, 4 * D),
        "mlp/fc2": (4 * D, D),
    }
    for layer in range(layers):
        place = f"encoder/layer.{layer}"
        for module in ("norm1", "norm2"):
            for tensor, operation in (("weight", "Mul"), ("bias", "Add_1")):
                name = f"backbone.encoder.layer.{layer}.{module}.{tensor}"
                nodes.append(
                    (f"{place}/{module}/{operation}", operation[:3], name, (D,))
                )
        for module in ("layer_scale1", "layer_scale2"):
            name = f"backbone.encoder.layer.{layer}.{module}.lambda1"
            nodes.append((f"{place}/{module}/Mul", "Mul", name, (D,)))
        for module, shape in linear.items():
            dotted = f"backbone.encoder.layer.{layer}.{module.replace('/', '.')}.bias"
            nodes.append((f"{place}/{module}/Add", "Add", dotted, shape[1:]))
            nodes.append(
                (
                    f"{place}/{module}/MatMul",
                    "MatMul",
                    f"onnx::MatMul_{10 + len(nodes)}",
                    shape,
                )
            )
    return [(f"/backbone/{node}", *rest) for node, *rest in nodes] + [
        ("/decoder/Conv", "Conv", "decoder.weight", (1,))
    ]


def write(path, nodes):
    """Write such a file with random values; returns {node: value}."""
    rng = np.random.default_rng(0)
    values = {
        node: rng.normal(size=shape).astype(np.float32) for node, _, _, shape in nodes
    }
    graph = helper.make_graph(
        [
            helper.make_node(operation, ["x", tensor], [node], name=node)
            for node, operation, tensor, _ in nodes
        ],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
        [],
        [numpy_helper.from_array(values[node], tensor) for node, _, tensor, _ in nodes],
    )
    onnx.save(helper.make_model(graph), path)
    return {node: torch.tensor(value) for node, value in values.items()}


def tiny(layers=2):
    return timm.create_model(
        SPEC.model, depth=layers, embed_dim=D, num_heads=2, img_size=28
    )


def test_every_tensor_gets_its_place(tmp_path):
    value = write(tmp_path / "tiny.onnx", file_of(2))
    model = tiny()
    state = dinov2_onnx.rename(dinov2_onnx.tensors(tmp_path / "tiny.onnx"), model)
    model.load_state_dict(state)
    attention = "/backbone/encoder/layer.1/attention/attention"
    for part, rows in (
        ("query", slice(0, D)),
        ("key", slice(D, 2 * D)),
        ("value", slice(2 * D, 3 * D)),
    ):
        assert torch.equal(
            state["blocks.1.attn.qkv.weight"][rows],
            value[f"{attention}/{part}/MatMul"].T,
        )
        assert torch.equal(
            state["blocks.1.attn.qkv.bias"][rows], value[f"{attention}/{part}/Add"]
        )
    for name, node in {
        "attn.proj.weight": "attention/output/dense/MatMul",
        "mlp.fc1.weight": "mlp/fc1/MatMul",
        "mlp.fc2.weight": "mlp/fc2/MatMul",
        "mlp.fc2.bias": "mlp/fc2/Add",
        "ls2.gamma": "layer_scale2/Mul",
        "norm2.bias": "norm2/Add_1",
    }.items():
        expected = value[f"/backbone/encoder/layer.0/{node}"]
        assert torch.equal(
            state[f"blocks.0.{name}"], expected.T if "MatMul" in node else expected
        )
    assert torch.equal(state["norm.weight"], value["/backbone/layernorm/Mul"])
    grid = (
        value["/backbone/embeddings/Reshape_1"].reshape(1, 3, 3, D).permute(0, 3, 1, 2)
    )
    grid = (
        F.interpolate(grid, (2, 2), mode="bicubic", align_corners=False)
        .permute(0, 2, 3, 1)
        .reshape(1, 4, D)
    )
    assert torch.equal(
        state["pos_embed"],
        torch.cat([value["/backbone/embeddings/Concat_6"], grid], dim=1),
    )


@pytest.mark.parametrize(
    "asked, at_most, seen",
    [(64, None, 70), (96, 98, 98), (64, 60, 56), (None, 98, 98)],
)
def test_pictures_are_scaled_to_whole_patches(
    tmp_path, monkeypatch, asked, at_most, seen
):
    file = tmp_path / "dinov2_vit_s14/tiny.onnx"
    file.parent.mkdir()
    write(file, file_of(2))
    files.write_json(
        file.parent / "artifact.json", {"files": {file.name: files.sha256(file)}}
    )

    def create_model(name, img_size, **_options):
        return TIMM(name, depth=2, embed_dim=D, num_heads=2, img_size=img_size)

    monkeypatch.setattr(dinov2_onnx.timm, "create_model", create_model)
    spec = SPEC.model_copy(update={"max_image_size": at_most})
    backbone = dinov2_onnx.load(spec, tmp_path, asked)
    pixels = backbone.transform(Image.new("RGB", (200, 100)))
    assert pixels.shape == (3, seen, seen)
    assert backbone.model.patch_embed.grid_size == (seen // 14, seen // 14)


def test_a_file_of_another_width_is_refused(tmp_path):
    file = tmp_path / "dinov2_vit_s14/tiny.onnx"
    file.parent.mkdir()
    write(file, file_of(12))
    files.write_json(
        file.parent / "artifact.json", {"files": {file.name: files.sha256(file)}}
    )
    with refused_naming("tiny.onnx", "vit_small_patch14_dinov2", "size mismatch"):
        dinov2_onnx.load(SPEC, tmp_path, 98)


@pytest.mark.slow
def test_class_tokens_are_those_of_the_file_itself(fetched, tmp_path):
    """Run the file by ONNX Runtime on real pictures at the file's own 224 pixels.

    It has an environment of its own.
    """
    root = fetched("dinov2_vit_s14", "emoji_google", "emoji_twitter")
    spec = {
        "type": "emoji",
        "artifacts": {"google": "emoji_google", "twitter": "emoji_twitter"},
        "split_seed": 0,
    }
    dataset = datasets.load(
        spec | {"fractions": {"train": 0.7, "val": 0.1, "test": 0.2}}, root
    )
    backbone = dinov2_onnx.load(SPEC, root, 224)
    pictures = [
        dataset.open(path) for path in dataset.index["path"].sample(6, random_state=0)
    ]
    images = torch.stack([backbone.transform(picture) for picture in pictures])
    with torch.inference_mode():
        got = backbone.folded(images).numpy()

    network = onnx.load(root / "dinov2_vit_s14/vit_s_focus.onnx")
    network.graph.output.append(
        helper.make_tensor_value_info(CLASS_TOKEN, TensorProto.FLOAT, None)
    )
    onnx.save(network, tmp_path / "network.onnx")
    np.save(tmp_path / "images.npy", images.numpy())
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", ORACLE], check=True)
    subprocess.run([python, "-c", RUN, CLASS_TOKEN], check=True, cwd=tmp_path)
    expected = np.load(tmp_path / "tokens.npy")[:, 0]
    assert expected.std(axis=0).max() > 0.1  # Of different pictures.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
