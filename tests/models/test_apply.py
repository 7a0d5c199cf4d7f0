"""A trained SAE on new data: the same codes as when it was scored."""

import logging
import re

import numpy as np
import pandas as pd
import pytest
import torch
from bank.common import method, plan

import sae
from sae.__main__ import main
from sae.bank.train import Place
from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.data import embed, store
from sae.models import apply
from sae.protocols import _cell


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """An SAE on the digits' embeddings: its file, and their folder."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    datasets.build(
        "digits",
        {"type": "image_folder", "root": str(digits), "image_size": 32},
        None,
        folder / "dataset",
    )
    backbone = {
        "loader": "timm",
        "model": "test_efficientnet",
        "checkpoint": str(digits / "backbone.safetensors"),
    }
    embed.embed(
        embed.Job(
            folder / "dataset", "tiny", backbone, None, folder / "store", 16, "cpu"
        )
    )
    methods = {
        "topk": method(),
        "batch_topk": method("batch_topk", options={"momentum": 0.99}),
    }
    place = Place(folder / "saes", folder / "bank.json")
    _cell.train(plan(methods), folder / "store", place, folder / "scores", device="cpu")
    return {
        name: folder / f"{name}/default/seed0/sae.safetensors" for name in methods
    }, folder / "store"


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_codes_are_the_formula_on_embeddings_as_they_come(trained, name):
    paths, folder = trained
    model, x = sae.load(paths[name]), store.read(folder / "test").embeddings
    codes = model.encode(x)
    assert len(codes) == 100 and codes.m == 32
    w = {
        name: value.numpy().astype(np.float64)
        for name, value in model.coder.state_dict().items()
    }
    inputs = (
        x
        / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        * model.metadata["input_scale"]
    )
    a = np.maximum((inputs - w["b_dec"]) @ w["encoder"].T + w["b_enc"], 0)
    largest = np.where(a >= -np.sort(-a, axis=1)[:, 3:4], a, 0)
    z = largest if name == "topk" else np.where(a > w["select.theta"], a, 0)
    np.testing.assert_allclose(codes.matrix().toarray(), z, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        model.decode(codes), z @ w["W_dec"] + w["b_dec"], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        model.encode(x, k=4).matrix().toarray(), largest, rtol=1e-3, atol=1e-5
    )
    with pytest.raises(
        UserError,
        match=r"the array holds float32 of shape \(100, 255\); .* shape \(N, 256\)",
    ):
        model.encode(x[:, :-1])
    with pytest.raises(UserError, match="this SAE has 32 latents"):
        model.encode(x, k=33)


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs the step `encode` in this process: its exit code, and what it said."""
    monkeypatch.setattr(
        torch, "set_deterministic_debug_mode", lambda mode: None
    )  # It would outlive the test.

    def run(path, source, out, *options):
        monkeypatch.setattr(logging.getLogger("sae"), "handlers", [])
        code = main(
            [
                *map(
                    str,
                    (
                        "encode",
                        "--sae",
                        path,
                        "--source",
                        source,
                        "--out",
                        out,
                        *options,
                    ),
                )
            ]
        )
        return code, capsys.readouterr().err

    return run


def test_the_command_encodes_a_folder_of_images_as_the_store_was(
    trained, digits, run, tmp_path
):
    paths, folder = trained
    path, out = paths["batch_topk"], tmp_path / "codes.parquet"
    # The backbone may have another name here; what it gave is the same.
    manifest = files.read_json(folder / "train/manifest.json")
    renamed = manifest | {"backbone": manifest["backbone"] | {"name": "renamed"}}
    files.write_json(tmp_path / "renamed/train/manifest.json", renamed)
    code, said = run(path, digits / "test", out, "--activations", tmp_path / "renamed")
    assert code == 0 and re.fullmatch(
        r".*codes.parquet: [\d,]+ activations on 100 images of .*test\n", said
    )
    got = pd.read_parquet(out)
    test = store.read(folder / "test")
    expected = sae.load(path).encode(test.embeddings)
    rows = {
        name.removeprefix("test/"): row for row, name in enumerate(test.index["path"])
    }
    assert got["path"].nunique() == (expected.lengths() > 0).sum() > 90
    for name, codes in got.groupby("path"):
        # Another order of images, so other batches: equal but for rounding.
        np.testing.assert_allclose(
            codes["activation"],
            expected.rows(rows[name], rows[name] + 1).values,
            rtol=2e-3,
            atol=1e-4,
        )
    np.save(tmp_path / "x.npy", test.embeddings)
    assert run(path, tmp_path / "x.npy", out)[0] == 0
    given = pd.read_parquet(out)
    np.testing.assert_array_equal(given["activation"], expected.values)
    np.testing.assert_array_equal(given["row"], expected.row_numbers())


def test_images_are_embedded_in_the_precision_of_the_saes_own(
    trained, digits, tmp_path, monkeypatch
):
    made_by = files.read_json(trained[1] / "train/manifest.json")["backbone"]["spec"]
    job = embed.Job(
        trained[1].parent / "dataset",
        "t",
        made_by | {"precision": "auto"},
        None,
        tmp_path,
        16,
        "cpu",
    )
    monkeypatch.setattr(embed.folding, "has_bfloat16", lambda _device: False)
    embed.embed(job)
    monkeypatch.setattr(
        embed.folding, "has_bfloat16", lambda _device: True
    )  # Another processor.
    own = store.read(tmp_path / "test")
    paths = [path.removeprefix("test/") for path in own.index["path"]]
    again = apply.embed_like(own.manifest, digits / "test", paths, None, "cpu", 0)
    np.testing.assert_allclose(again, own.embeddings, rtol=1e-5, atol=1e-6)


FLOATS = np.ones((5, 256))
NAN, HUGE = FLOATS.copy(), FLOATS.copy()
NAN[3, 7], HUGE[4, 0] = np.nan, 1e39
SHAPE = r"floats of shape \(N, 256\)"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (
            np.full((5, 256), "text"),
            "source.npy holds an array of <U4, expected numbers",
        ),
        (FLOATS + 0j, "holds an array of complex128, expected numbers"),
        (FLOATS.astype(int), f"holds int64 .* {SHAPE}"),
        (FLOATS[:, 1:], f"of shape .5, 255.; .* {SHAPE}"),
        (FLOATS[0], f"of shape .256,.; .* {SHAPE}"),
        (FLOATS[:0], f"of shape .0, 256.; .* {SHAPE}"),
        (NAN, r"row 3 \(from 0\) of .*source.npy holds NaN"),
        (HUGE, r"row 4 .* not finite in float32"),
        (np.array([None, "a"]), "source.npy holds Python objects, expected numbers"),
    ],
)
def test_an_array_that_is_no_embeddings_is_named(trained, run, tmp_path, array, said):
    np.save(tmp_path / "source.npy", array)
    refused(run(trained[0]["topk"], tmp_path / "source.npy", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def refused(result, said):
    code, line = result
    assert (
        code == 1
        and line.startswith("error: ")
        and line.count("\n") == 1
        and re.search(said, line)
    ), line
    assert "delete" not in line  # What was given is the user's.


def test_what_cannot_be_encoded_is_said(trained, digits, run, tmp_path):
    (path, _), folder = trained[0].values(), trained[1]
    x, out, other, images = (
        tmp_path / "x.npy",
        tmp_path / "out.parquet",
        tmp_path / "other",
        digits / "test",
    )
    np.save(x, FLOATS)
    np.savez(tmp_path / "x.npz", FLOATS)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty/folder.png").mkdir(parents=True)
    for source, said in (
        (tmp_path / "x.npz", "x.npz holds several arrays; write one alone"),
        (
            tmp_path / "text.npy",
            "text.npy cannot be read as an array: cut short, or not written by numpy.save",
        ),
        (tmp_path / "nothing", "does not exist; name a folder of images"),
        (images, "name the SAE's own embeddings with --activations"),
    ):
        refused(run(path, source, out), said)
    refused(
        run(path, tmp_path / "empty", out, "--activations", folder),
        "no image in .*empty; endings looked for",
    )
    # An SAE of other embeddings, whatever their backbone is called; and no embeddings.
    manifest = files.read_json(folder / "train/manifest.json")
    manifest |= {"sha256": {"embeddings.npy": "0" * 64}}
    files.write_json(other / "train/manifest.json", manifest)
    assert (
        run(path, images, out, "--activations", other)[0] == 0
    )  # The same backbone, on another processor.
    out.unlink()
    files.write_json(
        other / "train/manifest.json",
        manifest | {"backbone": manifest["backbone"] | {"fingerprint": "0"}},
    )
    refused(
        run(path, images, out, "--activations", other),
        "other are not the embeddings that .*sae.safetens",
    )
    refused(
        run(path, images, out, "--activations", digits),
        "manifest of activations .* does not exist",
    )
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    for wrong, said in (
        (
            folder,
            "is a folder, not an SAE file: name the file in it; or if another library made it, `python -m sae imp",
        ),
        (tmp_path / "nothing", "SAE file .*nothing does not exist"),
        (
            x,
            "x.npy is not a whole SAE file of this project .* `python -m sae import .*x.npy --out sae.safetensors`",
        ),
        (
            tmp_path / "damaged",
            "SAE file .*damaged was altered: .* name a whole SAE file",
        ),
    ):
        refused(run(wrong, x, out), said)
    for wrong, said in (
        (other, "other is a folder: name the file to write"),
        (x / "out", "x.npy/out cannot be written .*File exists: .*x.npy"),
        (tmp_path / ("n" * 300), "cannot be written .*File name too long"),
        (x, "x.npy is what was given to read, and would be replaced"),
        (path, "is what was given to read"),
    ):
        refused(run(path, x, wrong), said)
    refused(
        run(path, x, out, "--device", "gpu"),
        "device 'gpu' is not known; allowed: auto, cuda, mps, cpu, cuda:1",
    )
    refused(run(path, x, out, "--device", "cuda:99"), "finds no cuda:99 on .* take cpu")
    refused(
        run(path, x, out, "--k", 33), "k = 33; this SAE has 32 latents: give 1 to 32"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    "option", ["--threads=0", "--threads=two", "--threads=1.5", "--k=0", "--workers=-1"]
)
def test_a_number_that_is_none_is_named(run, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        run("sae", "source", "out", option)
    name, value = option.split("=")
    assert re.search(
        f"error: argument {name}: '{value}' should be", capsys.readouterr().err
    )


@pytest.mark.parametrize("given", [None, 3, b"sae.safetensors", FLOATS])
def test_an_sae_is_opened_by_a_path(given):
    with pytest.raises(
        UserError,
        match=f"by the path of its file, not by {type(given).__name__}: give a path",
    ):
        sae.load(given)


def test_what_is_loaded_and_encoded_says_what_it_is(trained):
    loaded = sae.load(trained[0]["topk"])
    facts = {
        "d": loaded.coder.d,
        "m": loaded.coder.m,
        "k": loaded.coder.k,
        "method": "topk",
    }
    assert repr(loaded).startswith(
        f"Encoder({', '.join(f'{name}={value}' for name, value in facts.items())}"
    )
    assert f"input={loaded.coder.input_norm}" in repr(loaded)
    codes = loaded.encode(np.random.default_rng(0).normal(size=(5, loaded.coder.d)))
    assert (
        repr(codes)
        == f"Codes(samples=5, latents={loaded.coder.m}, active={len(codes.values) / 5:g})"
    )
    loaded.metadata["method"] = "<b>"
    assert (
        "<td>&lt;b&gt;</td>" in loaded._repr_html_()
        and "<table>" in codes._repr_html_()
    )


def test_a_broken_picture_is_named_and_what_to_do(trained, digits, run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(
        next((digits / "test").rglob("*.png")).read_bytes()[:80]
    )
    result = run(
        trained[0]["topk"],
        tmp_path / "photos",
        tmp_path / "out",
        "--activations",
        trained[1],
    )
    refused(
        result,
        r"image a.jpg cannot be read: .*: mend it, or move it out of .*photos, and encode again",
    )
