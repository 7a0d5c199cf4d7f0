"""A trained SAE on new data: the same codes as when it was scored."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from bank.common import method, plan
from conftest import ROOT

import sae
from sae.bank import train as bank
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.data import embed, store
from sae.models import apply


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """An SAE on the digits' embeddings: its file, and their folder."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    datasets.build("digits", {"type": "image_folder", "root": str(digits), "image_size": 32}, None, folder / "dataset")
    backbone = {"loader": "timm", "model": "test_efficientnet", "checkpoint": str(digits / "backbone.safetensors")}
    embed.embed(embed.Job(folder / "dataset", "tiny", backbone, None, folder / "store", 16, "cpu"))
    methods = {"topk": method(), "batch_topk": method("batch_topk", options={"momentum": 0.99})}
    place = bank.Place(folder / "saes", folder / "bank.json")
    bank.train_bank(plan(methods), folder / "store", place, device="cpu")
    return {name: folder / f"{name}/default/seed0/sae.safetensors" for name in methods}, folder / "store"


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_codes_are_the_formula_on_embeddings_as_they_come(trained, name):
    paths, folder = trained
    model, x = sae.load(paths[name]), store.read(folder / "test").embeddings
    codes = model.encode(x)
    assert len(codes) == 100 and codes.m == 32
    w = {name: value.numpy().astype(np.float64) for name, value in model.coder.state_dict().items()}
    inputs = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) * model.metadata["input_scale"]
    a = np.maximum((inputs - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    largest = np.where(a >= -np.sort(-a, axis=1)[:, 3:4], a, 0)
    z = largest if name == "topk" else np.where(a > w["select.theta"], a, 0)
    np.testing.assert_allclose(codes.matrix().toarray(), z, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.decode(codes), z @ w["W_dec"] + w["b_dec"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.encode(x, k=4).matrix().toarray(), largest, rtol=1e-3, atol=1e-5)
    for wrong, said in ((x[:, :-1], r"this SAE takes \(N, "), (x[:0], "have shape"), (x * np.nan, "NaN")):
        with pytest.raises(UserError, match=said):
            model.encode(wrong)
    with pytest.raises(UserError, match="this SAE has 32 latents"):
        model.encode(x, k=33)


def test_the_command_encodes_a_folder_of_images_as_the_store_was(trained, digits, tmp_path):
    paths, folder = trained
    path = paths["batch_topk"]
    command = [sys.executable, "-m", "sae", "encode", "--sae", path, "--out", tmp_path / "codes.parquet"]
    images = ["--source", digits / "test", "--activations", folder]
    subprocess.run([*command, *images], check=True, cwd=ROOT)
    got = pd.read_parquet(tmp_path / "codes.parquet")
    test = store.read(folder / "test")
    expected = sae.load(path).encode(test.embeddings)
    rows = {name.removeprefix("test/"): row for row, name in enumerate(test.index["path"])}
    assert got["path"].nunique() == (expected.lengths() > 0).sum() > 90
    for name, codes in got.groupby("path"):
        # Another order of images, so other batches: equal but for rounding.
        np.testing.assert_allclose(
            codes["activation"], expected.rows(rows[name], rows[name] + 1).values, rtol=2e-3, atol=1e-4
        )
    np.save(tmp_path / "x.npy", test.embeddings)
    subprocess.run([*command, "--source", tmp_path / "x.npy"], check=True, cwd=ROOT)
    given = pd.read_parquet(tmp_path / "codes.parquet")
    np.testing.assert_array_equal(given["activation"], expected.values)
    np.testing.assert_array_equal(given["row"], expected.row_numbers())


def test_what_cannot_be_encoded_is_said(trained, digits, tmp_path):
    paths, folder = trained
    path = paths["batch_topk"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npy").write_text("no array")
    for source, activations, said in (
        (digits / "test", None, "name the SAE's own embeddings with --activations"),
        (tmp_path / "empty", folder, "no image in .*empty"),
        (tmp_path / "text.npy", None, "neither a folder of images nor a .npy file"),
        (tmp_path / "nothing", None, "neither a folder of images nor a .npy file"),
    ):
        with pytest.raises(UserError, match=said):
            apply.encode(path, source, tmp_path / "out", device="cpu", activations=activations)
