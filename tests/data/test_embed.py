"""Extraction: any number of shards, kills and workers give the same store; what is broken is left out and named."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT

from sae.core import files
from sae.core.errors import UserError
from sae.data import backbone_entries, embed, extraction, folding, sources, store
from sae.data import dataset as datasets
from sae.data.entries import parse
from sae.data.parts import Part
from sae.data.splits import SPLITS

SPEC = {"type": "image_folder", "image_size": 32}
FILES = ("embeddings.npy", "index.parquet", "manifest.json")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Results depend on the number of threads; the command line's default is one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """The dataset's index, the backbone's entry, and the store that one undisturbed job writes."""
    folder = tmp_path_factory.mktemp("made")
    datasets.build("digits", SPEC | {"root": str(digits)}, None, folder / "dataset")
    backbone = {
        "loader": "timm",
        "model": "test_efficientnet",
        "checkpoint": str(digits / "backbone.safetensors"),
    }
    embed.embed(job(folder, backbone, folder / "store"))
    return folder, backbone


def job(folder, backbone, out, **options):
    return embed.Job(
        folder / "dataset", "tiny", backbone, None, out, 16, "cpu", **options
    )


def test_weights_of_another_model_name_the_config_key(made, tmp_path):
    folder, backbone = made
    with pytest.raises(
        UserError,
        match=r"config key backbones\.tiny: checkpoint .*backbone\..* lacks .*test_vit",
    ):
        embed.embed(job(folder, backbone | {"model": "test_vit"}, tmp_path / "store"))


def content(out):
    return {
        f"{split}/{file}": (out / split / file).read_bytes()
        for split in SPLITS
        for file in FILES
    }


def test_the_store_holds_what_the_model_says_image_by_image(made, digits):
    folder, backbone = made
    loaded = backbone_entries.load(parse("backbone", backbone), None, 32)
    for split in SPLITS:
        got = store.read(folder / "store" / split)
        assert got.index["path"].str.startswith(split).all() and len(got.index) == {
            "train": 300
        }.get(split, 100)
        for row in (0, 17, len(got.index) - 1):
            image = datasets.reader(SPEC | {"root": str(digits)}, None)(
                got.index["path"][row]
            )
            with torch.inference_mode():
                alone = loaded.model.eval()(loaded.transform(image)[None])[0].numpy()
            # Alone, not in its batch: the order of summation may differ.
            np.testing.assert_allclose(got.embeddings[row], alone, rtol=1e-4, atol=1e-5)


def test_a_backbones_own_size_wins_over_the_datasets(made, digits, tmp_path):
    folder, backbone = made
    embed.embed(job(folder, backbone | {"image_size": 48}, tmp_path))
    got, loaded = (
        store.read(tmp_path / "val"),
        backbone_entries.load(parse("backbone", backbone), None, 48),
    )
    image = datasets.reader(SPEC | {"root": str(digits)}, None)(got.index["path"][0])
    with torch.inference_mode():
        alone = loaded.model.eval()(loaded.transform(image)[None])[0].numpy()
    np.testing.assert_allclose(got.embeddings[0], alone, rtol=1e-4, atol=1e-5)
    assert (
        got.manifest["image_size"] == 48 and got.manifest["dataset"]["name"] == "digits"
    )


@pytest.mark.parametrize(
    ("shards", "workers"), [(1, 2), (3, 0), (40, 0)]
)  # 33 batches: some shards are empty
def test_shards_and_workers_give_the_identical_store(made, tmp_path, shards, workers):
    folder, backbone = made
    some = job(folder, backbone, tmp_path, shards=shards, workers=workers)
    for shard in reversed(range(shards)):
        embed.embed(some, shard)
    embed.embed(some)
    assert content(tmp_path) == content(folder / "store")
    assert not list(tmp_path.glob(".embedding-*/*-of-*"))


@pytest.mark.slow
def test_a_shard_killed_at_any_moment_loses_at_most_a_batch(made, tmp_path):
    folder, backbone = made
    told = ["--name", "tiny", "--spec", json.dumps(backbone), "--batch-size", "16"]
    places = [
        "--dataset",
        str(folder / "dataset"),
        "--artifacts",
        "nowhere",
        "--out",
        str(tmp_path),
    ]
    command = [sys.executable, "-m", "sae", "embed", *places, *told]
    for wanted in (1, 6):  # A signal as soon as so many batches are in the journal.
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while process.poll() is None and batches(tmp_path) < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "test/manifest.json").exists(), (
            "finished before it could be killed"
        )
    before = batches(tmp_path)
    (part,) = tmp_path.glob(".embedding-*/0-of-1/train.npy")
    with open(part, "ab") as file:
        file.write(b"half a batch")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"500 images ({16 * before} were there)" in done.stderr
    assert content(tmp_path) == content(folder / "store")


def batches(out):
    return sum(
        file.read_text().count("crc32")
        for file in out.glob(".embedding-*/0-of-1/*.journal")
    )


@pytest.mark.parametrize(
    "damage",
    ["altered", "cut", "header", "journal cut", "journal gone", "journal's type"],
)
def test_a_part_keeps_only_what_its_journal_vouches_for(tmp_path, damage):
    rows = np.arange(40, dtype=np.float16).reshape(20, 2)
    part = Part(tmp_path / "p.npy", 20)
    for start in (0, 8, 16):
        part.append(rows[start : start + 8])
    assert part.complete and (np.load(part.path) == rows).all()
    file = part.journal if "journal" in damage else part.path
    raw = bytearray(file.read_bytes())
    if damage == "altered":
        raw[-20] ^= 1  # In the second batch.
        file.write_bytes(raw)
    elif damage in ("header", "journal's type"):
        file.write_bytes(raw.replace(b"<f2", b"<i2"))  # As many bytes, other numbers.
    elif damage == "journal gone":
        file.unlink()
    else:
        file.write_bytes(raw[:-3])
    again = Part(tmp_path / "p.npy", 20)
    assert again.rows_written == {"altered": 8, "cut": 16, "journal cut": 16}.get(
        damage, 0
    )
    again.append(rows[again.rows_written : again.rows_written + 8])
    while not again.complete:
        again.append(rows[again.rows_written : again.rows_written + 8])
    assert (np.load(part.path) == rows).all() and Part(tmp_path / "p.npy", 20).complete


def test_other_weights_or_settings_are_never_mixed(made, tmp_path):
    folder, backbone = made
    weights = tmp_path / "weights.safetensors"
    shutil.copy(backbone["checkpoint"], weights)
    moved = backbone | {"checkpoint": str(weights)}
    embed.embed(job(folder, moved, tmp_path / "out", shards=2), 0)
    torch.manual_seed(1)
    from safetensors.torch import save_file

    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    embed.embed(job(folder, moved, tmp_path / "out", shards=2), 1)
    with pytest.raises(UserError, match="have other weights; delete it and run again"):
        embed.embed(job(folder, moved, tmp_path / "out", shards=2))
    embed.embed(
        job(folder, moved, tmp_path / "out", shards=2), 0
    )  # Complete, of the old weights: made again.
    embed.embed(job(folder, moved, tmp_path / "out", shards=2))
    new = store.read(tmp_path / "out/train")
    assert (
        new.manifest["backbone"]["fingerprint"]
        != store.read(folder / "store/train").manifest["backbone"]["fingerprint"]
    )
    assert not (new.embeddings == store.read(folder / "store/train").embeddings).all()
    # The same weights elsewhere are the same backbone.
    shutil.copy(backbone["checkpoint"], weights)
    embed.embed(job(folder, moved, tmp_path / "again"))
    one, two = (
        store.read(path / "val").manifest["backbone"]
        for path in (folder / "store", tmp_path / "again")
    )
    assert one["fingerprint"] == two["fingerprint"]


def test_float16_and_bfloat16_are_close_and_too_large_a_value_is_refused(
    made, tmp_path
):
    folder, backbone = made
    whole = store.read(folder / "store/test").embeddings
    for name, options in (
        ("half", {"dtype": "float16"}),
        ("brain", {"precision": "bfloat16"}),
    ):
        embed.embed(job(folder, backbone | options, tmp_path / name))
    half, brain = (
        store.read(tmp_path / name / "test").embeddings for name in ("half", "brain")
    )
    np.testing.assert_array_equal(half, whole.astype(np.float16))
    assert brain.dtype == np.float32 and not (brain == whole).all()
    cosine = (
        (whole * brain).sum(axis=1)
        / np.linalg.norm(whole, axis=1)
        / np.linalg.norm(brain, axis=1)
    )
    assert cosine.min() > 0.999
    half = job(folder, backbone | {"dtype": "float16"}, tmp_path)
    source = sources.open_source(extraction.prepare(half))
    with (
        pytest.raises(UserError, match="not finite as float16"),
        np.errstate(over="ignore"),
    ):
        source.check(np.full((1, 2), 1e6, dtype=np.float32), "train", 0)
    with pytest.raises(
        UserError, match=r"gave complex64 of shape \(1, 2\), not floats"
    ):
        source.check(np.ones((1, 2), dtype=np.complex64), "train", 0)


def test_auto_is_what_the_processor_has_and_the_two_are_never_mixed(
    made, tmp_path, monkeypatch
):
    folder, backbone = made
    here, auto, exact = (
        folding.has_bfloat16("cpu"),
        backbone | {"precision": "auto"},
        folder / "store/test",
    )

    def embedded(native, name, **options):
        monkeypatch.setattr(folding, "has_bfloat16", lambda _device: native)
        embed.embed(job(folder, auto, tmp_path / name, **options))
        found = store.read(tmp_path / name / "test")
        assert found.manifest["precision"] == ("bfloat16" if native else "float32")
        assert found.manifest["backbone"]["spec"]["precision"] == "auto"
        return found.embeddings

    np.testing.assert_array_equal(
        embedded(False, "plain"), store.read(exact).embeddings
    )
    if not here:
        pytest.skip("this processor lacks bfloat16")
    half = embedded(True, "half", shared=(tmp_path / "plain",))
    assert (
        0
        < np.linalg.norm(half - store.read(exact).embeddings)
        < 0.05 * np.linalg.norm(half)
    )
    # Of two shards one was made where there is none: its part is not taken.
    monkeypatch.setattr(folding, "has_bfloat16", lambda _device: False)
    embed.embed(job(folder, auto, tmp_path / "both", shards=2), 0)
    np.testing.assert_array_equal(embedded(True, "both", shards=2, workers=2), half)
    monkeypatch.setattr(
        sources, "embed_images", None
    )  # A shared store of the same precision must do.
    np.testing.assert_array_equal(
        embedded(True, "taken", shared=(tmp_path / "plain", tmp_path / "half")), half
    )


def _manifest(folder):
    return files.read_json(folder / "dataset/manifest.json")


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_left_out_for_every_backbone_and_named(
    digits, tmp_path, workers
):
    root = tmp_path / "images"
    shutil.copytree(digits, root)
    cut, text = root / "train/4/4.png", root / "test/0/10.png"
    cut.write_bytes(cut.read_bytes()[:60])
    text.write_text("not found")
    spec = SPEC | {"root": str(root)}
    with pytest.raises(
        UserError,
        match=r"2 of 500 images cannot be read, `max_broken` .* allows 1: train/4/4\.png: ",
    ):
        datasets.build(
            "digits",
            spec | {"max_broken": 1},
            None,
            tmp_path / "dataset",
            workers=workers,
        )
    assert not (tmp_path / "dataset/manifest.json").exists()
    datasets.build(
        "digits", spec | {"max_broken": 2}, None, tmp_path / "dataset", workers=workers
    )
    manifest = _manifest(tmp_path)
    assert set(manifest["broken"]) == {"train/4/4.png", "test/0/10.png"}
    assert manifest["images"] == {"train": 299, "val": 100, "test": 99}


def test_an_image_that_breaks_later_or_is_replaced_is_named(made, digits, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(digits, root)
    datasets.build("digits", SPEC | {"root": str(root)}, None, tmp_path / "dataset")
    shutil.copy(next((root / "val/2").iterdir()), root / "val/1/1.png")
    with pytest.raises(
        UserError,
        match=r"image val/1/1\.png is not what it was when the dataset was indexed",
    ):
        embed.embed(job(tmp_path, made[1], tmp_path / "out"))
    (root / "val/1/1.png").write_bytes(b"")
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"image val/1/1\.png cannot be read: "):
            embed.embed(job(tmp_path, made[1], tmp_path / "out", workers=workers))


def test_given_embeddings_become_a_store(tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        split: rng.normal(size=(n, 5)).astype(np.float32)
        for split, n in zip(SPLITS, (40, 10, 10), strict=True)
    }
    (tmp_path / "root/ours").mkdir(parents=True)
    for split, values in rows.items():
        np.save(tmp_path / f"root/ours/{split}.npy", values)
        names = [f"{split}{i},{i % 2}" for i in range(len(values))]
        (tmp_path / f"root/{split}.csv").write_text(
            "\n".join(["image_id,label", *names]) + "\n"
        )
    datasets.build(
        "given",
        {"type": "table", "root": str(tmp_path / "root")},
        None,
        tmp_path / "dataset",
    )
    embed.embed(
        job(
            tmp_path,
            {"loader": "precomputed", "model": "ours"},
            tmp_path / "out",
            shards=2,
        )
    )
    for split, values in rows.items():
        got = store.read(tmp_path / "out" / split)
        np.testing.assert_array_equal(got.embeddings, values)
        assert got.index["label"].tolist() == [i % 2 for i in range(len(values))]
    ours, again = {"loader": "precomputed", "model": "ours"}, tmp_path / "again"
    rows["test"][3, 2] = np.nan
    np.save(tmp_path / "root/ours/test.npy", rows["test"])
    with pytest.raises(
        UserError, match=r"row 3 \(from 0\) of .*ours/test\.npy, 'test3', holds NaN"
    ):
        embed.embed(job(tmp_path, ours, again))
    np.save(tmp_path / "root/ours/test.npy", rows["train"][5:15])
    with pytest.raises(
        UserError,
        match=r"embeddings that lie in more than one split: 10, such as train5 \(train\) = test0 ",
    ):
        embed.embed(job(tmp_path, ours, again))
    for (
        split,
        values,
    ) in (
        rows.items()
    ):  # Mended, and other numbers: nothing of the first attempt may stay.
        rows[split] = np.nan_to_num(values).astype(np.float16) + np.float16(1)
        np.save(tmp_path / f"root/ours/{split}.npy", rows[split])
    embed.embed(job(tmp_path, ours, again))
    for split, values in rows.items():
        got = store.read(again / split).embeddings
        assert got.dtype == np.float16 and (got == values).all()
    np.save(tmp_path / "root/ours/val.npy", rows["val"][:, :4])
    said = (
        r"different d or dtype: test \(d = 5, float16\) in .*test\.npy; train .*; "
        r"val \(d = 4, float16\) in .*val\.npy"
    )
    with pytest.raises(UserError, match=said):
        embed.embed(job(tmp_path, ours, again))
    np.save(tmp_path / "root/ours/val.npy", rows["val"][:9])
    with pytest.raises(UserError, match="9 embeddings of val for 10 rows"):
        embed.embed(job(tmp_path, ours, again))


def test_a_finished_store_is_brought_back_and_no_kill_while_joining_loses_a_split(
    made, tmp_path, monkeypatch
):
    folder, backbone = made
    adopt, calls = store.adopt, []

    def killed(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(adopt(*arguments))

    monkeypatch.setattr(store, "adopt", killed)
    with pytest.raises(KeyboardInterrupt):
        embed.embed(job(folder, backbone, tmp_path))
    monkeypatch.setattr(store, "adopt", adopt)
    monkeypatch.setattr(sources, "embed_images", None)  # What is there must do.
    embed.embed(job(folder, backbone, tmp_path))
    assert content(tmp_path) == content(folder / "store")
    for split in SPLITS:
        shutil.rmtree(tmp_path / split)
    moved = shutil.copy(
        backbone["checkpoint"], tmp_path / "moved.safetensors"
    )  # The same weights in another place.
    embed.embed(job(folder, backbone | {"checkpoint": str(moved)}, tmp_path, shards=5))
    assert content(tmp_path) == content(folder / "store")


def test_there_is_no_shard_beyond_the_last(made, tmp_path):
    for shard, shards in ((4, 4), (-1, 4), (None, 0)):
        with pytest.raises(UserError, match="shards are numbered from 0"):
            embed.embed(job(made[0], made[1], tmp_path, shards=shards), shard)
