"""Splits, the emoji groups, and the activation store."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.archives import tar, write_artifact
from support.embeddings import write_split

from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import store
from sae.data.dataset import build, load
from sae.data.datasets.emoji import neutral
from sae.data.entries import parse
from sae.data.splits import balanced_rows, choose_share, grouped_split


def test_no_group_crosses_splits_and_strata_keep_their_shares():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), rng.integers(1, 12, 400))
    strata = groups % 3
    splits = grouped_split(
        groups, strata, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=0
    )
    frame = pd.DataFrame({"group": groups, "stratum": strata, "split": splits})
    assert frame.groupby("group")["split"].nunique().max() == 1
    shares = frame.groupby("stratum")["split"].value_counts(normalize=True).unstack()
    assert (
        np.abs(shares[["train", "val", "test"]] - [0.7, 0.1, 0.2]).to_numpy().max()
        < 0.01
    )
    assert (
        splits
        == grouped_split(
            groups, strata, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=0
        )
    ).all()
    assert (
        splits
        != grouped_split(
            groups, strata, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1
        )
    ).any()


def test_a_share_of_groups_is_exact_of_every_stratum_alike_and_part_of_a_larger_one():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(400), rng.integers(1, 12, 400)))
    strata = groups % 150  # Of two or three groups each.
    chosen = {
        share: choose_share(groups, strata, share, seed=0) for share in (0.25, 0.5, 1.0)
    }
    for share, is_chosen in chosen.items():
        by_group = pd.Series(is_chosen).groupby(groups)
        assert (by_group.min() == by_group.max()).all()
        assert by_group.first().sum() == 400 * share
    assert (chosen[0.25] <= chosen[0.5]).all()
    assert (chosen[0.25] != choose_share(groups, strata, 0.25, seed=1)).any()

    # Large strata all give the same share, to a group.
    strata = groups % 10
    is_chosen = choose_share(groups, strata, 0.25, seed=0)
    table = pd.DataFrame({"group": groups, "stratum": strata, "chosen": is_chosen})
    by_stratum = table.drop_duplicates("group").groupby("stratum")["chosen"].sum()
    assert set(by_stratum) == {10}


def folder_of_images(root, splits):
    """Write images of one colour each, {split: {class: how many}}."""
    number = 0
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for image in range(count):
                number += 1
                Image.new("RGB", (8, 8), (number, 0, 0)).save(
                    root / split / name / f"{image:02}.png"
                )


def test_a_dataset_of_fewer_training_images_is_part_of_it(tmp_path):
    held_out = {"a": 2, "b": 1}
    train = {"a": 12, "b": 4}
    folder_of_images(
        tmp_path / "images", {"train": train, "val": held_out, "test": held_out}
    )
    spec = {"type": "image_folder", "root": str(tmp_path / "images")}
    manifests = {}
    indexes = {}
    for share in (None, 1, 0.5, 0.25):
        share_option = {} if share is None else {"train_share": share}
        build("mine", spec | share_option, None, tmp_path / f"{share}")
        manifests[share] = files.read_json(tmp_path / f"{share}" / "manifest.json")
        indexes[share] = files.read_parquet(tmp_path / f"{share}" / "index.parquet")

    all_rows = indexes[None]
    pd.testing.assert_frame_equal(indexes[1], all_rows)
    assert manifests[1]["fingerprint"] == manifests[None]["fingerprint"]
    fingerprints = {manifests[share]["fingerprint"] for share in (1, 0.5, 0.25)}
    assert len(fingerprints) == 3

    for share, counts in ((0.5, {"a": 6, "b": 2}), (0.25, {"a": 3, "b": 1})):
        part = indexes[share]
        # The rows that stay are in their order, all of val and test among them.
        rows_that_stay = all_rows[all_rows["image_id"].isin(part["image_id"])]
        pd.testing.assert_frame_equal(part, rows_that_stay.reset_index(drop=True))
        assert manifests[share]["images"] == {
            "train": 16 * share,
            "val": 3,
            "test": 3,
        }
        of_train = part[part["split"] == "train"]
        assert of_train["label_name"].value_counts().to_dict() == counts
    assert set(indexes[0.25]["image_id"]) < set(indexes[0.5]["image_id"])


def test_a_share_that_leaves_no_training_image_is_refused(tmp_path):
    counts = {"a": 5, "b": 5}
    folder_of_images(
        tmp_path / "images", {"train": counts, "val": counts, "test": counts}
    )
    spec = {"type": "image_folder", "root": str(tmp_path / "images")}
    with pytest.raises(
        UserError, match=r"key train_share: 0\.04 leaves none of 10 groups"
    ):
        load(spec | {"train_share": 0.04}, None)


def test_a_share_of_given_embeddings_is_refused(tmp_path):
    spec = {
        "type": "generated",
        "counts": {"train": 9, "val": 9, "test": 9},
        "classes": 2,
        "seed": 0,
        "train_share": 0.5,
    }
    with pytest.raises(UserError, match="train_share: there is no such key"):
        load(spec, None)


def test_a_file_that_takes_any_key_does_not_get_those_that_the_library_reads(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "backbones").mkdir()
    given = "VERSION = 1\nHAS_IMAGES = False\nREADS_IMAGES = False\n"
    (tmp_path / "datasets/rows.py").write_text(given)
    (tmp_path / "backbones/vectors.py").write_text(given)
    registry.extend(tmp_path)
    try:
        with pytest.raises(UserError, match="train_share is for datasets of images"):
            parse("dataset", {"type": "rows", "train_share": 0.5, "any": 1})
        with pytest.raises(UserError, match="dtype: 'int8'; write one of float32"):
            parse("backbone", {"loader": "vectors", "model": "m", "dtype": "int8"})
    finally:
        registry.extend(None)


def test_balanced_rows():
    labels = np.array([0] * 50 + [1] * 20 + [2] * 30)
    rows = balanced_rows(labels, 32, seed=0)
    assert len(set(rows)) == 32
    assert np.bincount(labels[rows]).tolist() == [11, 11, 10]
    with pytest.raises(UserError, match="class 1 has 20"):
        balanced_rows(labels, 90, seed=0)


@pytest.mark.parametrize(
    ("unified", "base"),
    [
        ("1F468-200D-1F692", "1F9D1-1F692"),  # man firefighter
        ("1F469-1F3FF-200D-1F692", "1F9D1-1F692"),  # woman firefighter, dark skin
        # firefighter
        ("1F64E-1F3FB-200D-2642-FE0F", "1F64E"),  # man pouting, light skin
        ("1F46B-1F3FB", "1F9D1-1F91D-1F9D1"),  # woman and man holding hands
        (
            "1F9D1-1F3FB-200D-1F91D-200D-1F9D1-1F3FF",
            "1F9D1-1F91D-1F9D1",
        ),  # people holding hands
        # girl: child
        ("2640-FE0F", "2640-FE0F"),  # the sign itself keeps its name
    ],
)
def test_person_neutral_base(unified, base):
    assert neutral(unified) == base


def entry(code, **more):
    return {"unified": code, "category": "C", "subcategory": "s"} | more


def picture(colour, side=(64, 64), kind="png"):
    stream = io.BytesIO()
    Image.new("RGBA", side, colour).save(stream, kind, lossless=True)
    return stream.getvalue()


def package(folder, pictures, emoji=None):
    """An artifact as the npm packages are: pictures {name: content}, and emoji.json."""
    labels = {"emoji.json": json.dumps(emoji).encode()} if emoji else {}
    contents = (labels | pictures).items()
    members = [(f"package/{name}", content) for name, content in contents]
    write_artifact(folder, {"package.tgz": tar(*members, mode="w:gz")})


# SHA-256 of the index below as CSV, as the code made it that knew packages of one form.
BEFORE = "196b7da874a7f6ad0cc950ad5dc0a069650365b5ca2564d9bcb3bfa56c7045c4"
TONES = "1F9D1-1F3FB-200D-1F91D-200D-1F9D1-1F3FC"


def test_emoji_index_groups_and_pictures(tmp_path):
    tones = {"1F3FB-1F3FC": {"unified": TONES}}
    singles = [entry(f"1F40{i}") for i in range(8)]
    emoji = [
        entry("1F46B", skin_variations=tones),
        entry("1F1F3-1F1F4"),
        entry("1F1E7-1F1FB"),
        *singles,
    ]
    colours = {e["unified"]: (i * 20, 0, 0, 255) for i, e in enumerate(emoji)} | {
        TONES: (0, 9, 0, 0)
    }
    colours["1F1E7-1F1FB"] = colours[
        "1F1F3-1F1F4"
    ]  # Bouvet Island flies Norway's flag.
    shown = {
        f"img/google/64/{code.lower()}.png": picture(colour)
        for code, colour in colours.items()
    }
    package(tmp_path / "pack", shown, emoji)
    spec = {"type": "emoji", "artifacts": {"google": "pack"}, "split_seed": 0}
    fractions = {"train": 0.6, "val": 0.2, "test": 0.2}
    dataset = load(spec | {"fractions": fractions}, tmp_path)
    in_another_order = load(
        spec | {"fractions": dict(reversed(fractions.items()))}, tmp_path
    )
    assert in_another_order.index.equals(dataset.index)
    assert (
        files.sha256_text(dataset.index.to_csv(index=False, lineterminator="\n"))
        == BEFORE
    )
    groups = dataset.index.set_index("path")["group"]
    assert groups[f"google/{TONES.lower()}.png"] == groups["google/1f46b.png"]
    assert groups["google/1f1e7-1f1fb.png"] == groups["google/1f1f3-1f1f4.png"]
    assert groups.nunique() == 10 and len(groups) == 12
    assert dataset.open(f"google/{TONES.lower()}.png").getpixel((0, 0)) == (
        255,
        255,
        255,
    )  # Transparent: on white.
    assert dataset.open("google/1f400.png").tobytes() == bytes([60, 0, 0]) * 64 * 64


def test_emoji_of_other_vendors_join_by_code_points_and_are_drawn_alike(tmp_path):
    tones = {"1F3FF": {"unified": "1F468-1F3FF-200D-2696-FE0F"}}
    emoji = [
        entry("1F468-200D-2696-FE0F", skin_variations=tones),
        entry("00A9-FE0F"),
        *map(entry, ("1F400", "1F401")),
    ]
    unified = [e["unified"] for e in (*emoji, *tones.values())]
    shown = {
        f"img/any/64/{code.lower()}.png": picture((i, 0, 0))
        for i, code in enumerate(unified)
    }
    package(tmp_path / "labelled", shown, emoji)
    # No zeros in front, a double by another name, one picture that is higher than wide,
    # a flag that nobody knows.
    names = ("1f468-1f3ff-200d-2696-fe0f", "a9-fe0f", "00a9-fe0f", "1f3f4-e0067_e0062")
    webp = {
        f"assets/{name}.webp": picture((0, 0, i), (256, 256), "webp")
        for i, name in enumerate(names)
    }
    package(
        tmp_path / "webp",
        webp | {"assets/1f400.webp": picture((0, 0, 5), (256, 320), "webp")},
    )
    circle = '<circle cx="36" cy="36" r="30" fill="{}"/>'
    circle = (
        f'<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">{circle}</svg>'
    )
    svg = {
        "00A9": "#00ff00",
        "1F468-1F3FF-200D-2696-FE0F": "#008000",
        "E001": "#00ffff",
    }
    package(
        tmp_path / "svg",
        {f"color/svg/{name}.svg": circle.format(c).encode() for name, c in svg.items()},
    )
    vendors = {"a": "labelled", "b": "webp", "c": "svg"}
    spec = {
        "type": "emoji",
        "fractions": {"train": 0.5, "val": 0.25, "test": 0.25},
        "split_seed": 0,
    }
    dataset = load(spec | {"artifacts": vendors}, tmp_path)
    rows = dataset.index.set_index("image_id")
    assert set(rows.index) == {f"a/{code}" for code in unified} | {
        f"{vendor}/{code}" for vendor in "bc" for code in (unified[-1], "00A9-FE0F")
    } | {"b/1F400"}
    assert (
        rows["group"].groupby(rows.index.str[2:]).nunique().max() == 1
        and rows["group"].nunique() == 4
    )
    assert rows["group"][f"c/{unified[-1]}"] == rows["group"][f"a/{unified[0]}"]
    pictures = {image_id: dataset.open(path) for image_id, path in rows["path"].items()}
    assert {(image.size, image.mode) for image in pictures.values()} == {
        ((64, 64), "RGB")
    }
    assert pictures["b/00A9-FE0F"].getpixel((0, 0)) == (
        0,
        0,
        2,
    )  # The name in full counts.
    tall = np.asarray(pictures["b/1F400"])[32]
    assert (
        (tall[:6] == 255).all()
        and (tall[-6:] == 255).all()
        and (tall[8:56] == (0, 0, 5)).all()
    )
    drawn = np.asarray(pictures["c/00A9-FE0F"]).astype(int)
    assert (drawn[:5] == 255).all() and drawn[32, 32].tolist() == [0, 255, 0]
    assert (255 - drawn[..., 0]).sum() / 255 == pytest.approx(
        np.pi * (30 * 64 / 72) ** 2, rel=0.01
    )
    with pytest.raises(UserError, match="emoji-datasource"):
        load(spec | {"artifacts": {"c": "svg"}}, tmp_path)


@pytest.fixture
def split(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    index = pd.DataFrame({"image_id": [f"i{n}" for n in range(20)], "group": "g"})
    dataset = {"name": "d", "fingerprint": "f", "grouped": False}
    write_split(tmp_path / "train", [rows[:13], rows[13:]], index, {"dataset": dataset})
    return tmp_path / "train", rows, index


def test_store_gives_back_what_was_written_and_the_same_bytes_twice(split, tmp_path):
    folder, rows, index = split
    activations = store.read(folder)
    np.testing.assert_array_equal(activations.embeddings, rows)
    pd.testing.assert_frame_equal(activations.index, index, check_dtype=False)
    assert isinstance(activations.embeddings, np.memmap)
    write_split(
        tmp_path / "again", [rows], index, {"dataset": activations.manifest["dataset"]}
    )
    for file in ("embeddings.npy", "index.parquet", "manifest.json"):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.parametrize("damage", ["altered", "missing"])
@pytest.mark.parametrize("name", ["embeddings.npy", "index.parquet"])
def test_damaged_files_are_refused_by_name(split, name, damage):
    file = split[0] / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[-5] ^= 1
        file.write_bytes(content)
    with pytest.raises(UserError, match=name):
        store.read(split[0])


def test_a_bad_backbone_is_refused(split, tmp_path):
    _, rows, index = split
    for second in (
        rows[13:, :1],
        rows[13:].astype(np.float16),
    ):  # The one would be repeated, the other cast.
        with pytest.raises(
            UserError, match=r"the backbone gave d and type .* after others"
        ):
            write_split(tmp_path / "mixed", [rows[:13], second], index, {})
    assert not list((tmp_path / "mixed").iterdir())  # Nothing half-written is left.


def test_rows_of_a_memory_map_and_of_a_part_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "AT_ONCE", 7)
    x = np.arange(120, dtype=np.float16).reshape(40, 3)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.array([0, 3, 4, 9, 11, 12, 13, 15, 17, 19])
    raw = np.memmap(tmp_path / "x.raw", np.float16, "w+", shape=(40, 3))
    raw[:] = x
    for embeddings in (
        x,
        mapped,
        x[20:],
        mapped[20:],
        mapped[::2],
        mapped[:, ::-1],
        raw,
        raw[20:],
    ):
        rows_read = store.rows_of(embeddings, rows)
        assert not isinstance(rows_read, np.memmap) and rows_read.dtype == np.float16
        np.testing.assert_array_equal(rows_read, np.asarray(embeddings)[rows])
