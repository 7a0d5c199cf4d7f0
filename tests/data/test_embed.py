"""Embedding: shards, kills and workers give one store; broken images are left out."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from safetensors.torch import save_file
from support.errors import refused_naming

from sae.core import files
from sae.core.errors import UserError
from sae.data import backbone_entries, embed, extraction, folding, sources, store
from sae.data import dataset as datasets
from sae.data.entries import parse
from sae.data.parts import PartialArray
from sae.data.splits import SPLITS

SPEC = {"type": "image_folder", "image_size": 32}
FILES = ("embeddings.npy", "index.parquet", "manifest.json")


class FinishedStore(NamedTuple):
    """A store that one undisturbed job made.

    Attributes:
        folder: `dataset/` has the index of the digits, `store/` their embeddings.
        backbone: the backbone's mapping.
    """

    folder: Path
    backbone: dict

    def job(self, store_folder, shards=1, workers=0, shared=(), **options):
        """Return a job of the same dataset and backbone, with other options of it."""
        backbone = {**self.backbone, **options}
        return new_job(
            self.folder,
            backbone,
            store_folder,
            shards=shards,
            workers=workers,
            shared=shared,
        )


def new_job(folder, backbone, store_folder, **options):
    return embed.Job(
        folder / "dataset", "tiny", backbone, None, store_folder, 50, "cpu", **options
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Results depend on the number of threads; the command line's default is one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """Embed the digits by one undisturbed job."""
    folder = tmp_path_factory.mktemp("finished")
    datasets.build("digits", SPEC | {"root": str(digits)}, None, folder / "dataset")
    backbone = {
        "loader": "timm",
        "model": "test_efficientnet",
        "checkpoint": str(digits / "backbone.safetensors"),
    }
    embed.embed(new_job(folder, backbone, folder / "store"))
    return FinishedStore(folder, backbone)


def contents(store_folder):
    """Return the bytes of every file of a store."""
    return {
        f"{split}/{file}": (store_folder / split / file).read_bytes()
        for split in SPLITS
        for file in FILES
    }


def embed_alone(loaded, image):
    """Embed one image as the library does; in a batch the order of sums may differ."""
    with torch.inference_mode():
        return loaded.model.eval()(loaded.transform(image)[None])[0].numpy()


def test_the_store_holds_what_the_model_says_image_by_image(finished, digits):
    loaded = backbone_entries.load(parse("backbone", finished.backbone), None, 32)
    open_image = datasets.reader(SPEC | {"root": str(digits)}, None)
    for split in SPLITS:
        activations = store.read(finished.folder / "store" / split)
        paths = activations.index["path"]
        assert paths.str.startswith(split).all()
        assert len(paths) == (300 if split == "train" else 100)
        for row in (0, 17, len(paths) - 1):
            np.testing.assert_allclose(
                activations.embeddings[row],
                embed_alone(loaded, open_image(paths[row])),
                rtol=1e-4,
                atol=1e-5,
            )


def test_a_backbones_own_size_wins_over_the_datasets(finished, digits, tmp_path):
    embed.embed(finished.job(tmp_path, image_size=48))
    activations = store.read(tmp_path / "val")
    assert activations.manifest["image_size"] == 48
    assert activations.manifest["dataset"]["name"] == "digits"

    loaded = backbone_entries.load(parse("backbone", finished.backbone), None, 48)
    open_image = datasets.reader(SPEC | {"root": str(digits)}, None)
    alone = embed_alone(loaded, open_image(activations.index["path"][0]))
    np.testing.assert_allclose(activations.embeddings[0], alone, rtol=1e-4, atol=1e-5)


# There are 10 batches: of 11 shards one is empty.
@pytest.mark.parametrize(("shards", "workers"), [(1, 2), (3, 0), (11, 0)])
def test_shards_and_workers_give_the_identical_store(
    finished, tmp_path, shards, workers
):
    job = finished.job(tmp_path, shards=shards, workers=workers)
    for shard in reversed(range(shards)):
        embed.embed(job, shard)
    embed.embed(job)
    assert contents(tmp_path) == contents(finished.folder / "store")
    assert not list(tmp_path.glob(".embedding-*/*-of-*"))


@pytest.mark.slow
def test_a_shard_killed_at_any_moment_loses_at_most_a_batch(finished, tmp_path):
    command = [sys.executable, "-m", "sae", "embed"]
    command += ["--dataset", str(finished.folder / "dataset"), "--artifacts", "nowhere"]
    command += ["--out", str(tmp_path), "--batch-size", "50"]
    command += ["--name", "tiny", "--spec", json.dumps(finished.backbone)]
    # A signal as soon as so many batches are in the journal.
    for batch_count in (1, 4):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while process.poll() is None and journalled_batches(tmp_path) < batch_count:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "test/manifest.json").exists(), (
            "finished before it could be killed"
        )

    batches_before = journalled_batches(tmp_path)
    (part,) = tmp_path.glob(".embedding-*/0-of-1/train.npy")
    with open(part, "ab") as file:
        file.write(b"half a batch")
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert f"500 images ({50 * batches_before} were there)" in process.stderr
    assert contents(tmp_path) == contents(finished.folder / "store")


def journalled_batches(store_folder):
    journals = store_folder.glob(".embedding-*/0-of-1/*.journal")
    return sum(journal.read_text().count("crc32") for journal in journals)


@pytest.mark.parametrize(
    ("damage", "rows_left"),
    [
        ("altered", 8),
        ("cut", 16),
        ("header", 0),
        ("journal cut", 16),
        ("journal gone", 0),
        ("journal's type", 0),
    ],
)
def test_a_part_keeps_only_what_its_journal_vouches_for(tmp_path, damage, rows_left):
    rows = np.arange(40, dtype=np.float16).reshape(20, 2)
    part = PartialArray(tmp_path / "p.npy", 20)
    for start in (0, 8, 16):
        part.append(rows[start : start + 8])
    assert part.complete
    np.testing.assert_array_equal(np.load(part.path), rows)

    damage_file(part.journal if "journal" in damage else part.path, damage)
    resumed = PartialArray(tmp_path / "p.npy", 20)
    assert resumed.rows_written == rows_left
    while not resumed.complete:
        start = resumed.rows_written
        resumed.append(rows[start : start + 8])
    np.testing.assert_array_equal(np.load(part.path), rows)
    assert PartialArray(tmp_path / "p.npy", 20).complete


def damage_file(file, damage):
    content = bytearray(file.read_bytes())
    if damage == "altered":
        content[-20] ^= 1  # In the second batch.
    elif damage in ("header", "journal's type"):
        content = content.replace(b"<f2", b"<i2")  # As many bytes, other numbers.
    elif damage != "journal gone":
        content = content[:-3]
    file.write_bytes(content)
    if damage == "journal gone":
        file.unlink()


def test_other_weights_or_settings_are_never_mixed(finished, tmp_path):
    weights = tmp_path / "weights.safetensors"
    shutil.copy(finished.backbone["checkpoint"], weights)
    job = finished.job(tmp_path / "out", shards=2, checkpoint=str(weights))
    embed.embed(job, 0)
    torch.manual_seed(1)
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    embed.embed(job, 1)
    with pytest.raises(UserError, match="have other weights; delete it and run again"):
        embed.embed(job)

    # Shard 0 is complete, but of the old weights: it is made again.
    embed.embed(job, 0)
    embed.embed(job)
    of_new_weights = store.read(tmp_path / "out/train")
    of_old_weights = store.read(finished.folder / "store/train")
    assert fingerprint(of_new_weights) != fingerprint(of_old_weights)
    assert not (of_new_weights.embeddings == of_old_weights.embeddings).all()

    # The same weights elsewhere are the same backbone.
    shutil.copy(finished.backbone["checkpoint"], weights)
    embed.embed(finished.job(tmp_path / "again", checkpoint=str(weights)))
    assert fingerprint(store.read(tmp_path / "again/train")) == fingerprint(
        of_old_weights
    )


def test_rows_without_a_record_of_their_weights_are_not_kept(finished, tmp_path):
    weights = tmp_path / "weights.safetensors"
    shutil.copy(finished.backbone["checkpoint"], weights)
    job = finished.job(tmp_path / "out", shards=2, checkpoint=str(weights))
    embed.embed(job, 0)
    # A kill while the shard is deleted may leave its rows alone.
    (record,) = tmp_path.glob("out/.embedding-*/0-of-2/provenance.json")
    record.unlink()
    torch.manual_seed(1)
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    embed.embed(job)
    embed.embed(finished.job(tmp_path / "alone", checkpoint=str(weights)))
    np.testing.assert_array_equal(
        store.read(tmp_path / "out/train").embeddings,
        store.read(tmp_path / "alone/train").embeddings,
    )


def fingerprint(activations):
    return activations.manifest["backbone"]["fingerprint"]


def test_float16_and_bfloat16_are_close(finished, tmp_path):
    embed.embed(finished.job(tmp_path / "float16", dtype="float16"))
    embed.embed(finished.job(tmp_path / "bfloat16", precision="bfloat16"))
    exact = store.read(finished.folder / "store/test").embeddings
    in_float16 = store.read(tmp_path / "float16/test").embeddings
    np.testing.assert_array_equal(in_float16, exact.astype(np.float16))

    in_bfloat16 = store.read(tmp_path / "bfloat16/test").embeddings
    assert in_bfloat16.dtype == np.float32
    assert not (in_bfloat16 == exact).all()
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(in_bfloat16, axis=1)
    cosine = (exact * in_bfloat16).sum(axis=1) / lengths
    assert cosine.min() > 0.999


def test_too_large_too_small_and_complex_values_are_refused(finished, tmp_path):
    job = finished.job(tmp_path, dtype="float16")
    source = sources.open_source(extraction.prepare(job))
    too_large = np.full((1, 2), 1e6, dtype=np.float32)
    with (
        pytest.raises(UserError, match="not finite as float16"),
        np.errstate(over="ignore"),
    ):
        source.check(too_large, "train", 0)
    too_small = np.array([[1, 1], [0, 0], [1e-5, -3e-5], [0, 1]], dtype=np.float32)
    with refused_naming("row 7 (from 0)", "too small for float16", "float32"):
        source.check(too_small, "train", 5)
    assert source.check(too_small[[0, 1, 3]], "train", 0).dtype == np.float16
    with pytest.raises(
        UserError, match=r"gave complex64 of shape \(1, 2\), not floats"
    ):
        source.check(np.ones((1, 2), dtype=np.complex64), "train", 0)


def test_auto_is_what_the_processor_has_and_the_two_are_never_mixed(
    finished, tmp_path, monkeypatch
):
    has_bfloat16_here = folding.has_bfloat16("cpu")
    exact = store.read(finished.folder / "store/test").embeddings

    def embed_where(has_bfloat16, name, **options):
        """Embed with `precision: auto` where a processor has bfloat16, or has not."""
        monkeypatch.setattr(folding, "has_bfloat16", lambda _device: has_bfloat16)
        embed.embed(finished.job(tmp_path / name, precision="auto", **options))
        activations = store.read(tmp_path / name / "test")
        precision = "bfloat16" if has_bfloat16 else "float32"
        assert activations.manifest["precision"] == precision
        assert activations.manifest["backbone"]["spec"]["precision"] == "auto"
        return activations.embeddings

    np.testing.assert_array_equal(embed_where(False, "plain"), exact)
    if not has_bfloat16_here:
        pytest.skip("this processor lacks bfloat16")
    in_bfloat16 = embed_where(True, "half", shared=(tmp_path / "plain",))
    distance = np.linalg.norm(in_bfloat16 - exact)
    assert 0 < distance < 0.05 * np.linalg.norm(in_bfloat16)

    # Of two shards one was made where there is none: its part is not taken.
    monkeypatch.setattr(folding, "has_bfloat16", lambda _device: False)
    embed.embed(finished.job(tmp_path / "both", shards=2, precision="auto"), 0)
    np.testing.assert_array_equal(
        embed_where(True, "both", shards=2, workers=2), in_bfloat16
    )

    # A shared store of the same precision must do.
    monkeypatch.setattr(sources, "embed_images", None)
    shared = (tmp_path / "plain", tmp_path / "half")
    np.testing.assert_array_equal(
        embed_where(True, "taken", shared=shared), in_bfloat16
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_left_out_for_every_backbone_and_named(
    digits, tmp_path, workers
):
    root = tmp_path / "images"
    shutil.copytree(digits, root)
    cut_off = root / "train/4/4.png"
    cut_off.write_bytes(cut_off.read_bytes()[:60])
    (root / "test/0/10.png").write_text("not found")
    spec = SPEC | {"root": str(root)}
    dataset_folder = tmp_path / "dataset"
    expected = (
        r"2 of 500 images cannot be read, `max_broken` .* allows 1: train/4/4\.png: "
    )
    with pytest.raises(UserError, match=expected):
        datasets.build(
            "digits", spec | {"max_broken": 1}, None, dataset_folder, workers=workers
        )
    assert not (dataset_folder / "manifest.json").exists()

    datasets.build(
        "digits", spec | {"max_broken": 2}, None, dataset_folder, workers=workers
    )
    manifest = files.read_json(dataset_folder / "manifest.json")
    assert set(manifest["broken"]) == {"train/4/4.png", "test/0/10.png"}
    assert manifest["images"] == {"train": 299, "val": 100, "test": 99}


def test_an_image_that_breaks_later_or_is_replaced_is_named(finished, digits, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(digits, root)
    datasets.build("digits", SPEC | {"root": str(root)}, None, tmp_path / "dataset")
    shutil.copy(next((root / "val/2").iterdir()), root / "val/1/1.png")
    expected = r"image val/1/1\.png is not what it was when the dataset was indexed"
    with pytest.raises(UserError, match=expected):
        embed.embed(new_job(tmp_path, finished.backbone, tmp_path / "out"))

    (root / "val/1/1.png").write_bytes(b"")
    for workers in (0, 1):
        job = new_job(tmp_path, finished.backbone, tmp_path / "out", workers=workers)
        with pytest.raises(UserError, match=r"image val/1/1\.png cannot be read: "):
            embed.embed(job)


class Given:
    """Random embeddings in files, and the table that says what they are of.

    Attributes:
        rows: {split: its embeddings (n, 5)}, as they were at first.
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / "root/ours").mkdir(parents=True)
        rng = np.random.default_rng(0)
        self.rows = {}
        for split, count in (("train", 40), ("val", 10), ("test", 10)):
            self.rows[split] = rng.normal(size=(count, 5)).astype(np.float32)
            self.save(split, self.rows[split])
            lines = [f"{split}{row},{row % 2}\n" for row in range(count)]
            table = folder / f"root/{split}.csv"
            table.write_text("image_id,label\n" + "".join(lines))
        spec = {"type": "table", "root": str(folder / "root")}
        datasets.build("given", spec, None, folder / "dataset")

    def save(self, split, rows):
        np.save(self.folder / f"root/ours/{split}.npy", rows)

    def embed(self, name, **options):
        backbone = {"loader": "precomputed", "model": "ours"}
        embed.embed(new_job(self.folder, backbone, self.folder / name, **options))


@pytest.fixture
def given_embeddings(tmp_path):
    return Given(tmp_path)


def test_given_embeddings_become_a_store(given_embeddings, tmp_path):
    given_embeddings.embed("out", shards=2)
    for split, rows in given_embeddings.rows.items():
        activations = store.read(tmp_path / "out" / split)
        np.testing.assert_array_equal(activations.embeddings, rows)
        labels = activations.index["label"].tolist()
        assert labels == [row % 2 for row in range(len(rows))]


def test_given_embeddings_that_are_mended_leave_nothing_of_the_first_ones(
    given_embeddings, tmp_path
):
    with_nan = given_embeddings.rows["test"].copy()
    with_nan[3, 2] = np.nan
    given_embeddings.save("test", with_nan)
    expected = r"row 3 \(from 0\) of .*ours/test\.npy, 'test3', holds NaN"
    with pytest.raises(UserError, match=expected):
        given_embeddings.embed("out")
    given_embeddings.save("test", given_embeddings.rows["train"][5:15])
    expected = (
        "embeddings that lie in more than one split: 10, such as "
        r"train5 \(train\) = test0 "
    )
    with pytest.raises(UserError, match=expected):
        given_embeddings.embed("out")

    mended = {
        split: rows.astype(np.float16) + np.float16(1)
        for split, rows in given_embeddings.rows.items()
    }
    for split, rows in mended.items():
        given_embeddings.save(split, rows)
    given_embeddings.embed("out")
    for split, rows in mended.items():
        embeddings = store.read(tmp_path / "out" / split).embeddings
        assert embeddings.dtype == np.float16
        np.testing.assert_array_equal(embeddings, rows)


def test_embeddings_that_are_all_zero_are_said(given_embeddings, caplog):
    rows = given_embeddings.rows["test"].copy()
    rows[[3, 7]] = 0
    given_embeddings.save("test", rows)
    given_embeddings.embed("out")
    said = f"2 of {len(rows)} test embeddings are all zero, such as row 3 (from 0)"
    assert said in caplog.text and "train embeddings" not in caplog.text


def test_given_embeddings_of_other_shapes_are_refused(given_embeddings):
    given_embeddings.save("val", given_embeddings.rows["val"][:, :4])
    expected = (
        r"different d or dtype: test \(d = 5, float32\) in .*test\.npy; train .*; "
        r"val \(d = 4, float32\) in .*val\.npy"
    )
    with pytest.raises(UserError, match=expected):
        given_embeddings.embed("out")
    given_embeddings.save("val", given_embeddings.rows["val"][:9])
    with pytest.raises(UserError, match="9 embeddings of val for 10 rows"):
        given_embeddings.embed("out")


def test_a_finished_store_is_brought_back_and_no_kill_while_joining_loses_a_split(
    finished, tmp_path, monkeypatch
):
    adopt = store.adopt
    adopted_splits = []

    def adopt_one_split(folder, *arguments):
        if adopted_splits:
            raise KeyboardInterrupt
        adopt(folder, *arguments)
        adopted_splits.append(folder)

    monkeypatch.setattr(store, "adopt", adopt_one_split)
    with pytest.raises(KeyboardInterrupt):
        embed.embed(finished.job(tmp_path))
    monkeypatch.setattr(store, "adopt", adopt)
    # The embeddings that are there must do.
    monkeypatch.setattr(sources, "embed_images", None)
    embed.embed(finished.job(tmp_path))
    assert contents(tmp_path) == contents(finished.folder / "store")

    for split in SPLITS:
        shutil.rmtree(tmp_path / split)
    # The same weights in another place.
    moved = tmp_path / "moved.safetensors"
    shutil.copy(finished.backbone["checkpoint"], moved)
    embed.embed(finished.job(tmp_path, shards=5, checkpoint=str(moved)))
    assert contents(tmp_path) == contents(finished.folder / "store")


@pytest.mark.parametrize(("shard", "shards"), [(4, 4), (-1, 4), (None, 0)])
def test_there_is_no_shard_beyond_the_last(finished, tmp_path, shard, shards):
    with pytest.raises(UserError, match="shards are numbered from 0"):
        embed.embed(finished.job(tmp_path, shards=shards), shard)
