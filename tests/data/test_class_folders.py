"""Photographs of a tar: pooled, near-copies together, classes called by their words."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.archives import tar, write_artifact

from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset

SPEC = {
    "type": "class_folders",
    "artifacts": ["photos"],
    "folders": ["train", "val"],
    "without": ["clutter"],
    "fractions": {"train": 0.5, "val": 0.25, "test": 0.25},
    "split_seed": 1,
}
DOG = "n02084071"


def photograph(seed):
    """Return a picture that looks like no other: 4 x 4 fields of random colours."""
    fields = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(fields).resize((48, 48), Image.Resampling.BICUBIC)


def jpeg(image, quality=90):
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


@pytest.fixture
def artifacts(tmp_path):
    """An artifact of two official splits, with copies across them and other files."""
    members = {
        f"{folder}/{name}/images/{number}.JPEG": jpeg(photograph(seed + number))
        for folder, seed in (("train", 0), ("val", 100))
        for name, seed in ((DOG, seed), ("car_side", seed + 50))
        for number in range(8)
    }
    first = photograph(0)
    members[f"val/{DOG}/same.JPEG"] = members[f"train/{DOG}/images/0.JPEG"]
    members[f"val/{DOG}/other_quality.JPEG"] = jpeg(first, quality=30)
    members[f"train/{DOG}/mirrored.JPEG"] = jpeg(ImageOps.mirror(first))
    members["val/car_side/shifted.JPEG"] = jpeg(first.crop((1, 1, 48, 48)))
    members[f"train/{DOG}/boxes.txt"] = b"0 0 9 9"
    members["train/clutter/x.JPEG"] = jpeg(photograph(999))
    members["test/9.JPEG"] = jpeg(photograph(1000))
    content = {"photos.tar": tar(*members.items())}
    write_artifact(tmp_path / "artifacts/photos", content)
    return tmp_path / "artifacts"


def test_pooled_photographs_are_split_anew_with_their_copies(artifacts, tmp_path):
    dataset.build("photos", SPEC, artifacts, tmp_path / "index")
    index = files.read_parquet(tmp_path / "index/index.parquet")
    assert len(index) == 4 * 8 + 4
    assert set(index["label_name"]) == {"dog", "car side"}
    groups = index.groupby("group")["image_id"].agg(set)
    assert groups[groups.str.len() > 1].to_list() == [
        {
            f"train/{DOG}/images/0.JPEG",
            f"val/{DOG}/same.JPEG",
            f"val/{DOG}/other_quality.JPEG",
            f"train/{DOG}/mirrored.JPEG",
            "val/car_side/shifted.JPEG",
        }
    ]
    by_split = index["split"].value_counts().to_dict()
    assert sum(by_split.values()) == 36 and by_split["train"] in range(16, 21)
    official = index["image_id"].str.partition("/")[0]
    assert set(official[index["split"] == "test"]) == {"train", "val"}

    row = index.iloc[0]
    image = dataset.reader(SPEC, artifacts)(row["path"])
    assert image.size == (48, 48)


def test_what_the_tar_lacks_is_named(artifacts):
    with pytest.raises(UserError, match=r"key without: .* has no class 'noise'"):
        dataset.load(SPEC | {"without": ["noise"]}, artifacts)
    with pytest.raises(UserError, match="no picture in extra/CLASS/"):
        dataset.load(SPEC | {"folders": ["train", "extra"]}, artifacts)


def test_a_csv_of_the_tar_may_say_the_classes_of_pictures_in_one_folder(tmp_path):
    rows = ["image,sender,label"]
    rows += [f"{number},7,{'Hat' if number % 2 else 'Shoes'}" for number in range(12)]
    members = {f"images/{number}.jpg": jpeg(photograph(number)) for number in range(14)}
    members["images.csv"] = "\n".join([*rows, "12,7,Not sure"]).encode()
    write_artifact(tmp_path / "photos", {"photos.tar": tar(*members.items())})
    flat = SPEC | {"folders": ["images"], "labels": "images.csv"}

    index = dataset.load(flat | {"without": ["Not sure"]}, tmp_path).index
    label_names = dict(zip(index["image_id"], index["label_name"], strict=True))
    assert label_names == {
        f"images/{number}.jpg": "Hat" if number % 2 else "Shoes" for number in range(12)
    }
    with pytest.raises(UserError, match=r"no file names\.csv; or write folders"):
        dataset.load(flat | {"labels": "names.csv"}, tmp_path)
    members["images.csv"] = b"name,label\n1,Hat"
    write_artifact(tmp_path / "photos", {"photos.tar": tar(*members.items())})
    with pytest.raises(UserError, match="expected the columns image and label"):
        dataset.load(flat, tmp_path)
