"""A trained SAE gives new data the codes that it was scored by."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bank.common import method, plan
from support.errors import refused_naming

import sae
from sae.bank.train import Place
from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.data import embed, folding, store
from sae.models import apply
from sae.protocols import _cell


@dataclass(frozen=True)
class TrainedSaes:
    """SAEs that were trained on the digits' embeddings.

    Attributes:
        files: {method: the file of its SAE}.
        activations: the folder of the embeddings.
        dataset: the folder of the dataset.
    """

    files: dict[str, Path]
    activations: Path
    dataset: Path


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    dataset = folder / "dataset"
    images = {"type": "image_folder", "root": str(digits), "image_size": 32}
    datasets.build("digits", images, None, dataset)
    backbone = {
        "loader": "timm",
        "model": "test_efficientnet",
        "checkpoint": str(digits / "backbone.safetensors"),
    }
    activations = folder / "store"
    embed.embed(embed.Job(dataset, "tiny", backbone, None, activations, 16, "cpu"))
    methods = {
        "topk": method(),
        "batch_topk": method("batch_topk", options={"momentum": 0.99}),
    }
    place = Place(folder / "saes", folder / "bank.json")
    _cell.train(plan(methods), activations, place, folder / "scores", device="cpu")
    sae_files = {
        name: folder / f"{name}/default/seed0/sae.safetensors" for name in methods
    }
    return TrainedSaes(sae_files, activations, dataset)


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_codes_are_the_formula_on_embeddings_as_they_come(trained, name):
    encoder = sae.load(trained.files[name])
    x = store.read(trained.activations / "test").embeddings
    weights = {
        key: tensor.numpy().astype(np.float64)
        for key, tensor in encoder.coder.state_dict().items()
    }
    length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    inputs = x / length * encoder.metadata["input_scale"]
    pre_activations = (inputs - weights["b_dec"]) @ weights["encoder"].T
    activations = np.maximum(pre_activations + weights["b_enc"], 0)
    fourth_largest = -np.sort(-activations, axis=1)[:, 3:4]
    top_4 = np.where(activations >= fourth_largest, activations, 0)
    expected = top_4
    if name == "batch_topk":
        expected = np.where(activations > weights["select.theta"], activations, 0)

    codes = encoder.encode(x)
    assert len(codes) == 100
    assert codes.m == 32
    np.testing.assert_allclose(codes.matrix().toarray(), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        encoder.decode(codes),
        expected @ weights["W_dec"] + weights["b_dec"],
        rtol=1e-3,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        encoder.encode(x, k=4).matrix().toarray(), top_4, rtol=1e-3, atol=1e-5
    )
    with refused_naming("float32", "(100, 255)", "(N, 256)"):
        encoder.encode(x[:, :-1])
    with pytest.raises(UserError, match="this SAE has 32 latents"):
        encoder.encode(x, k=33)


@pytest.fixture
def run_encode(monkeypatch, run_step):
    """Return a function that runs the step `encode` in this process.

    It returns the exit code, and what was written to the console.
    """
    # It would outlive the test.
    monkeypatch.setattr(torch, "set_deterministic_debug_mode", lambda mode: None)

    def run(sae_file, source, out, *options):
        words = ["encode", "--sae", sae_file, "--source", source, "--out", out]
        return run_step(*words, *options)

    return run


def test_the_command_encodes_a_folder_of_images_as_the_store_was(
    trained, digits, run_encode, tmp_path
):
    sae_file = trained.files["batch_topk"]
    out = tmp_path / "codes.parquet"
    # The backbone may have another name here; what it gave is the same.
    manifest = files.read_json(trained.activations / "train/manifest.json")
    renamed = manifest | {"backbone": manifest["backbone"] | {"name": "renamed"}}
    files.write_json(tmp_path / "renamed/train/manifest.json", renamed)
    exit_code, console = run_encode(
        sae_file, digits / "test", out, "--activations", tmp_path / "renamed"
    )
    assert exit_code == 0
    assert re.fullmatch(
        r".*codes.parquet: [\d,]+ activations on 100 images of .*test\n", console
    )

    test = store.read(trained.activations / "test")
    expected = sae.load(sae_file).encode(test.embeddings)
    row_of_image = {
        path.removeprefix("test/"): row for row, path in enumerate(test.index["path"])
    }
    codes_of_images = pd.read_parquet(out)
    active_images = (expected.lengths() > 0).sum()
    assert codes_of_images["path"].nunique() == active_images > 90
    for path, codes in codes_of_images.groupby("path"):
        row = row_of_image[path]
        # Another order of images, so other batches: equal but for rounding.
        np.testing.assert_allclose(
            codes["activation"],
            expected.rows(row, row + 1).values,
            rtol=2e-3,
            atol=1e-4,
        )

    np.save(tmp_path / "x.npy", test.embeddings)
    assert run_encode(sae_file, tmp_path / "x.npy", out)[0] == 0
    codes_of_embeddings = pd.read_parquet(out)
    np.testing.assert_array_equal(codes_of_embeddings["activation"], expected.values)
    np.testing.assert_array_equal(codes_of_embeddings["row"], expected.row_numbers())


def test_images_are_embedded_in_the_precision_of_the_saes_own(
    trained, digits, tmp_path, monkeypatch
):
    manifest = files.read_json(trained.activations / "train/manifest.json")
    backbone = manifest["backbone"]["spec"] | {"precision": "auto"}
    job = embed.Job(trained.dataset, "t", backbone, None, tmp_path, 16, "cpu")
    monkeypatch.setattr(folding, "has_bfloat16", lambda _device: False)
    embed.embed(job)
    # Another processor, on which automatic precision is another one.
    monkeypatch.setattr(folding, "has_bfloat16", lambda _device: True)
    stored = store.read(tmp_path / "test")
    paths = [path.removeprefix("test/") for path in stored.index["path"]]
    embeddings = apply.embed_like(
        stored.manifest, digits / "test", paths, None, "cpu", 0
    )
    np.testing.assert_allclose(embeddings, stored.embeddings, rtol=1e-5, atol=1e-6)


FLOATS = np.ones((5, 256))
NAN = FLOATS.copy()
NAN[3, 7] = np.nan
HUGE = FLOATS.copy()
HUGE[4, 0] = 1e39
SHAPE = r"floats of shape \(N, 256\)"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (FLOATS[:, 1:], f"of shape .5, 255.; .* {SHAPE}"),
        (NAN, r"row 3 \(from 0\) of .*source.npy holds NaN"),
        (HUGE, r"row 4 .* not finite in float32"),
        ((3e-5 * FLOATS).astype("f2"), r"row 0 .* too small for float16, .*multiply"),
        (1e-39 * FLOATS, r"row 0 .* too small for float32"),
    ],
)
def test_an_array_that_is_no_embeddings_is_named(
    trained, run_encode, tmp_path, array, message
):
    source = tmp_path / "source.npy"
    np.save(source, array)
    outcome = run_encode(trained.files["topk"], source, tmp_path / "out")
    check_refusal(outcome, message)
    assert not (tmp_path / "out").exists()


def check_refusal(outcome, message):
    """Check that a command failed with one line of error, which fits a pattern."""
    exit_code, console = outcome
    assert exit_code == 1
    assert console.startswith("error: ")
    assert console.count("\n") == 1
    assert re.search(message, console), console
    assert "delete" not in console  # What was given is the user's.


def test_a_source_that_cannot_be_encoded_is_named(
    trained, digits, run_encode, tmp_path
):
    np.savez(tmp_path / "x.npz", FLOATS)
    (tmp_path / "empty/folder.png").mkdir(parents=True)
    sae_file = trained.files["topk"]
    out = tmp_path / "out.parquet"
    for source, message in (
        (tmp_path / "x.npz", "x.npz holds several arrays; write one alone"),
        (tmp_path / "nothing", "does not exist; name a folder of images"),
        (digits / "test", "name the SAE's own embeddings with --activations"),
    ):
        check_refusal(run_encode(sae_file, source, out), message)
    check_refusal(
        run_encode(
            sae_file, tmp_path / "empty", out, "--activations", trained.activations
        ),
        "no image in .*empty; endings looked for",
    )
    assert not out.exists()


def test_what_was_given_is_not_replaced(trained, run_encode, tmp_path):
    sae_file = trained.files["topk"]
    x = tmp_path / "x.npy"
    np.save(x, FLOATS)
    for out, message in (
        (x, "x.npy is what was given to read, and would be replaced"),
        (sae_file, "is what was given to read"),
        (tmp_path / "codes.csv", "ends in .csv, and .parquet .*codes.parquet"),
    ):
        check_refusal(run_encode(sae_file, x, out), message)


def test_only_what_encode_wrote_is_replaced(trained, run_encode, tmp_path):
    x = tmp_path / "x.npy"
    np.save(x, FLOATS)
    out = tmp_path / "codes.parquet"
    for _ in range(2):
        assert run_encode(trained.files["topk"], x, out)[0] == 0
    files.check_sums(tmp_path / "codes.parquet.sums.json")
    for file in (out, tmp_path / "mine.parquet"):
        file.write_text("mine")
        check_refusal(run_encode(trained.files["topk"], x, file), str(file))
        assert file.read_text() == "mine"


def test_embeddings_that_the_sae_was_not_trained_on_are_refused(
    trained, digits, run_encode, tmp_path
):
    sae_file = trained.files["topk"]
    out = tmp_path / "out.parquet"
    other = tmp_path / "other"
    images = digits / "test"
    manifest = files.read_json(trained.activations / "train/manifest.json")
    manifest |= {"sha256": {"embeddings.npy": "0" * 64}}
    files.write_json(other / "train/manifest.json", manifest)
    # The same backbone, on another processor.
    assert run_encode(sae_file, images, out, "--activations", other)[0] == 0
    out.unlink()

    # Another backbone, whatever it is called.
    manifest["backbone"] = manifest["backbone"] | {"fingerprint": "0"}
    files.write_json(other / "train/manifest.json", manifest)
    check_refusal(
        run_encode(sae_file, images, out, "--activations", other),
        "other are not the embeddings that .*sae.safetens",
    )
    check_refusal(
        run_encode(sae_file, images, out, "--activations", digits),
        "manifest of activations .* does not exist",
    )
    (tmp_path / "e.csv").write_text("1,2")
    check_refusal(
        run_encode(sae_file, images, out, "--activations", tmp_path / "e.csv"),
        "e.csv is no folder of embeddings",
    )
    assert not out.exists()


def test_a_name_in_a_file_is_no_markup(trained):
    encoder = sae.load(trained.files["topk"])
    encoder.metadata["method"] = "<b>"
    assert "<td>&lt;b&gt;</td>" in encoder._repr_html_()


def test_a_broken_picture_is_named_and_what_to_do(
    trained, digits, run_encode, tmp_path
):
    photos = tmp_path / "photos"
    photos.mkdir()
    whole_image = next((digits / "test").rglob("*.png"))
    (photos / "a.jpg").write_bytes(whole_image.read_bytes()[:80])
    outcome = run_encode(
        trained.files["topk"],
        photos,
        tmp_path / "out",
        "--activations",
        trained.activations,
    )
    check_refusal(
        outcome,
        r"image a.jpg cannot be read: .*: mend it, or move it out of .*photos, and "
        "encode again",
    )
