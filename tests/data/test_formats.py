"""Datasets as people have them.

The same real photographs in every layout are read back to the pixel.
"""

import gzip
import hashlib
import io
import json
import multiprocessing
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_sample_image
from support.archives import tar
from support.errors import refused_naming

from sae.core import files
from sae.core.errors import UserError
from sae.data import download
from sae.data.dataset import load
from sae.data.datasets import shards
from sae.data.tars import tar_members

CLASSES = {
    "n01440764": 0,
    "n02123045": 281,
    "n15075141": 999,
}  # WordNet IDs and their class numbers
NAMES = [
    "tench, Tinca tinca",
    "tabby, tabby cat",
    "toilet tissue, toilet paper, bathroom tissue",
]
SPEC = {
    "type": "imagenet",
    "val_per_class": 4,
    "split_seed": 0,
    "images": {"train": 36, "val": 12, "test": 12},
}


def jpeg(row):
    picture = Image.fromarray(load_sample_image("china.jpg")[row * 6 :][:24, :32])
    stream = io.BytesIO()
    picture.convert({0: "L", 1: "CMYK"}.get(row, "RGB")).save(
        stream, "jpeg"
    )  # ImageNet has some of both.
    return stream.getvalue()


@pytest.fixture(scope="module")
def photos():
    """Make 48 training and 12 validation images of 3 classes.

    Returns {part: [(WordNet ID, file stem, JPEG bytes)]}.
    """
    wnids = list(CLASSES)
    train = [(wnids[i // 16], f"{wnids[i // 16]}_{i * 7}", jpeg(i)) for i in range(48)]
    return {
        "train": train,
        "val": [
            (wnids[i % 3], f"ILSVRC2012_val_{i + 1:08d}", jpeg(48 + i))
            for i in range(12)
        ],
    }


def parquet(path, rows, label=True):
    """Write parquet as the hub does.

    Row groups are small, an image is {bytes, path}, and the class names are in the
    schema's metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": [{"bytes": content, "path": name} for name, content, _ in rows]}
    if label:
        columns["label"] = [number for *_, number in rows]
    features = {
        "label": {"names": [f"class {i}" for i in range(1000)], "_type": "ClassLabel"}
    }
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, path, row_group_size=5)


def write_folders(root, photos):
    for part, images in photos.items():
        for wnid, stem, content in images:
            (root / part / wnid).mkdir(parents=True, exist_ok=True)
            (root / part / wnid / f"{stem}.JPEG").write_bytes(content)


def write_tars(root, photos):
    inner = {
        w: tar(*[(f"{s}.JPEG", c) for wnid, s, c in photos["train"] if wnid == w])
        for w in reversed(CLASSES)
    }
    (root / "ILSVRC2012_img_train.tar").write_bytes(
        tar(*[(f"{wnid}.tar", content) for wnid, content in inner.items()])
    )
    val = [(f"{stem}.JPEG", content) for _, stem, content in photos["val"]]
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar(*val[::-1]))
    # The development kit numbers classes in an order of its own, inner nodes of WordNet
    # last.
    fields = [
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
    ]
    synsets = np.empty((4, 1), dtype=[(field, object) for field in fields])
    for i, wnid in enumerate([*reversed(CLASSES), "n00001740"]):
        synsets[i, 0] = (
            float(i + 1),
            wnid,
            "words",
            "gloss",
            3.0 * (i == 3),
            np.arange(3.0 * (i == 3)),
            float(i == 3),
        )
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"synsets": synsets})
    number = {wnid: i + 1 for i, wnid in enumerate(reversed(CLASSES))}
    truth = "".join(f"{number[wnid]}\n" for wnid, *_ in photos["val"]).encode()
    kit = "ILSVRC2012_devkit_t12/data"
    content = tar(
        (f"{kit}/meta.mat", mat.getvalue()),
        (f"{kit}/ILSVRC2012_validation_ground_truth.txt", truth),
    )
    (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzip.compress(content))


def write_parquet(root, photos):
    rows = {
        part: [(f"{s}_{w}.JPEG", c, CLASSES[w]) for w, s, c in images[::-1]]
        for part, images in photos.items()
    }
    parquet(root / "data/train-00000-of-00002.parquet", rows["train"][:23])
    parquet(root / "data/train-00001-of-00002.parquet", rows["train"][23:])
    parquet(root / "data/validation-00000-of-00001.parquet", rows["val"])


def webdataset(images):
    members = [
        ((f"{s}.cls", str(CLASSES[w]).encode()), (f"{s}.jpg", c), (f"{s}.json", b"{}"))
        for w, s, c in images
    ]
    return tar(*[member for sample in members for member in sample])


def write_webdataset(root, photos):
    (root / "imagenet1k-train-0000.tar").write_bytes(webdataset(photos["train"][::2]))
    (root / "imagenet1k-train-0001.tar").write_bytes(webdataset(photos["train"][1::2]))
    (root / "imagenet1k-validation-00.tar").write_bytes(webdataset(photos["val"]))


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize(
    "write", [write_folders, write_tars, write_parquet, write_webdataset]
)
def test_every_layout_of_imagenet_gives_the_same_dataset(tmp_path, photos, write):
    write(tmp_path, photos)
    dataset = load(SPEC | {"root": str(tmp_path)}, None)
    index = dataset.index.set_index("image_id")
    for part, images in photos.items():
        for wnid, stem, content in images:
            row = index.loc[stem]
            assert (row["label"], row["label_name"]) == (
                list(CLASSES).index(wnid),
                NAMES[list(CLASSES).index(wnid)],
            )
            assert (
                row["split"] == "test"
                if part == "val"
                else row["split"] in ("train", "val")
            )
            np.testing.assert_array_equal(
                np.asarray(dataset.open(row["path"])), pixels(content)
            )
    assert len(index) == 60
    assert index[index["split"] == "val"]["label"].value_counts().tolist() == [4, 4, 4]
    # The same images are drawn for val whatever the layout and its order.
    val = sorted(index.index[index["split"] == "val"])
    assert val[:4] == ["n01440764_14", "n01440764_21", "n01440764_70", "n01440764_84"]
    if write is write_folders:
        from torchvision.datasets import ImageFolder

        oracle = ImageFolder(tmp_path / "val")
        assert index[index["split"] == "test"]["label"].tolist() == oracle.targets


def test_forked_readers_share_an_archive(tmp_path, photos):
    write_parquet(tmp_path, photos)
    dataset = load(SPEC | {"root": str(tmp_path)}, None)
    paths = dataset.index["path"].tolist()
    expected = [dataset.open(path).tobytes() for path in paths]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert [image.tobytes() for image in pool.map(dataset.open, paths)] == expected


@pytest.mark.parametrize(
    "cut", ["in an image", "in a header", "before a header", "before the end mark"]
)
def test_a_cut_tar_is_refused(tmp_path, photos, cut):
    content = tar(*[(stem, image) for _, stem, image in photos["val"]])
    (tmp_path / "a.tar").write_bytes(content)
    members = list(tar_members(tmp_path / "a.tar"))
    assert [content[offset : offset + size] for _, offset, size in members] == [
        c for *_, c in photos["val"]
    ]
    header = members[5][1] - 512
    end = members[-1][1] + -(-members[-1][2] // 512) * 512
    size = {
        "in an image": header + 600,
        "in a header": header + 100,
        "before a header": header,
    }.get(cut, end)
    (tmp_path / "a.tar").write_bytes(content[:size])
    with pytest.raises(
        UserError, match=r"a\.tar is not a whole, uncompressed tar .* download it again"
    ):
        list(tar_members(tmp_path / "a.tar"))


@pytest.mark.parametrize("size", [-1536, -1, 2**60, 2**80])
def test_a_member_of_negative_or_absurd_size_is_refused(tmp_path, photos, size):
    member = tarfile.TarInfo("x.jpg")
    member.size = size
    header = member.tobuf(tarfile.GNU_FORMAT)
    before = tar(*[(name, photos["val"][0][2][:512]) for name in ("1.jpg", "2.jpg")])[
        :2048
    ]
    (tmp_path / "a.tar").write_bytes(before + header + bytes(1024))
    with pytest.raises(UserError, match=r"a\.tar is not a whole, uncompressed tar"):
        for number, _ in enumerate(tar_members(tmp_path / "a.tar")):
            assert number < 9, "goes round and round"


def test_imagenet_says_what_is_wrong(tmp_path, photos):
    def refused(message, **changes):
        with pytest.raises(UserError, match=message):
            load(SPEC | {"root": str(tmp_path)} | changes, None)

    refused("root /no/where is not a folder", root="/no/where")
    (tmp_path / "val").mkdir()
    refused(
        r"none of the layouts train/ \+ val/ \(no train/\); .*data/train-.*; "
        "found in it: val/"
    )
    write_folders(tmp_path, photos)
    refused(
        "train has 36 images, expected 1,231,167; test has 12 images, expected 50,000: "
        ".* set `images`",
        images={"train": 1231167, "val": 12, "test": 50000},
    )
    refused("class 0 has 16 training images, and 16 of them", val_per_class=16)


def test_a_development_kit_that_is_none_is_named(tmp_path, photos):
    write_tars(tmp_path, photos)
    kit = gzip.compress(tar(("data/meta.mat", b"no file of MATLAB's")))
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(kit)
    with refused_naming("devkit_t12.tar.gz", "data/meta.mat", "download it again"):
        load(SPEC | {"root": str(tmp_path)}, None)


def test_open_images(tmp_path, photos):
    ids = {"train": ["0b", "0a", "0c"], "validation": ["1a"], "test": ["2a"]}
    for folder, names in ids.items():
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            (tmp_path / folder / f"{name}.jpg").write_bytes(photos["train"][i][2])
    labels = tmp_path / "annotations"
    labels.mkdir()
    head = "ImageID,Source,LabelName,Confidence\n"
    rows = (
        "0a,verification,/m/cat,1\n0b,verification,/m/cat,0\n"
        "0a,crowdsource-verification,/m/cat,1\n"
    )
    (labels / "oidv7-train-annotations-human-imagelabels.csv").write_text(
        f"{head}{rows}0a,verification,/m/animal,1\n9z,verification,/m/cat,1\n"
        "0c,verification,/m/new,1\n"
    )
    (labels / "oidv7-val-annotations-human-imagelabels.csv").write_text(head)
    spec = {"type": "open_images", "root": str(tmp_path)}
    (labels / "oidv7-class-descriptions.csv").write_text(
        'LabelName,DisplayName\n/m/cat,Cat\n/m/animal,"Animal, wild"\n'
    )
    with pytest.raises(
        UserError, match=r"has none of oidv7-test-annotations-human-imagelabels\.csv"
    ):
        load(spec, None)
    (labels / "test-annotations-human-imagelabels.csv").write_text(
        f"{head}2a,verification,/m/cat,1.0\n"
    )
    dataset = load(spec, None)
    index = dataset.index.set_index("image_id")
    assert index["label_name"].to_dict() == {
        "0a": "Animal, wild; Cat",
        "0b": "",
        "0c": "/m/new",
        "1a": "",
        "2a": "Cat",
    }
    assert index["label"].isna().all() and index["label"].dtype == "Int64"
    assert index["split"].tolist() == ["train"] * 3 + ["val", "test"]
    np.testing.assert_array_equal(
        np.asarray(dataset.open("train/0b.jpg")), pixels(photos["train"][0][2])
    )
    for text in ("ImageID,Subset\n0c,train\n0a,train\n", "train/0a\n0c\n"):
        (tmp_path / "list.csv").write_text(text)
        subset = load(spec | {"subset": "list.csv", "images": {"train": 2}}, None).index
        assert subset["image_id"].tolist() == ["0a", "0c", "1a", "2a"]
    (tmp_path / "list.csv").write_text("0a\n0d\n")
    with refused_naming("1 of the 2 images", "list.csv", "train/", "0d"):
        load(spec | {"subset": "list.csv"}, None)


@pytest.mark.parametrize("labelled", [True, False])
def test_shards(tmp_path, photos, labelled):
    def members(images):
        # The keys start anew in every shard, as many writers do.
        for i, (wnid, _, content) in enumerate(images):
            yield (
                f"./{i:05d}.webp.jpg",
                content,
            )  # Not an image: the ending starts at the first dot.
            yield f"./{i:05d}.jpeg", content
            yield (
                f"./{i:05d}.json",
                json.dumps(
                    {"label": CLASSES[wnid]} if labelled else {"caption": "x"}
                ).encode(),
            )

    for i in range(2):
        (tmp_path / f"train-{i}.tar").write_bytes(
            tar(*members(photos["train"][i * 24 :][:24]))
        )
    parquet(
        tmp_path / "test.parquet",
        [(None, c, CLASSES[w]) for w, _, c in photos["val"]],
        labelled,
    )
    spec = {
        "type": "shards",
        "root": str(tmp_path),
        "splits": {"train": "train-*.tar", "test": "*.parquet"},
    }
    spec |= {"val_fraction": 0.25, "split_seed": 0}
    dataset = load(spec, None)
    index = dataset.index
    assert index["split"].value_counts().to_dict() == {
        "train": 36,
        "val": 12,
        "test": 12,
    }
    assert index["image_id"].iloc[[0, 24, 59]].tolist() == [
        "train-0/0",
        "train-1/0",
        "test/11",
    ]
    images = photos["train"] + photos["val"]
    for path, (_, _, content) in zip(index["path"], images, strict=True):
        np.testing.assert_array_equal(np.asarray(dataset.open(path)), pixels(content))
    if labelled:
        assert index["label"].tolist() == [CLASSES[wnid] for wnid, *_ in images]
        assert index["label"][index["split"] == "val"].value_counts().tolist() == [
            4,
            4,
            4,
        ]
    else:
        assert index["label"].isna().all() and index["label_name"].isna().all()


def test_shards_say_what_is_wrong(tmp_path, photos):
    for glob in ("../a.tar", "a/../../b/*.parquet"):
        with pytest.raises(ValueError, match="a glob below root, without"):
            shards.SplitsOptions(train="a.tar", test=glob)
    spec = {
        "type": "shards",
        "root": str(tmp_path),
        "splits": dict.fromkeys(("train", "val", "test"), "*.parquet"),
    }
    with pytest.raises(
        UserError, match=r"splits\.train: no file matches '\*\.parquet'"
    ):
        load(spec, None)
    parquet(tmp_path / "a.parquet", [(None, photos["val"][0][2], 0)])
    with pytest.raises(
        UserError, match=r"a\.parquet has no column 'img'; it has image, label"
    ):
        load(spec | {"image_column": "img"}, None)
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.parquet is not a whole parquet file"):
        load(spec, None)


CIFAR = {
    "type": "torchvision",
    "name": "CIFAR100",
    "download": False,
    "train": {"train": True},
    "test": {"train": False},
    "val_fraction": 0.25,
    "split_seed": 0,
}
CIFAR_LABELS = {"train": np.arange(40) % 4, "test": np.arange(8) % 4}


def cifar_pixels():
    flower = load_sample_image("flower.jpg")[:48, :32]
    return flower.reshape(-1)[: 3 * 1024].astype("uint8")


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Write CIFAR-100 in small, and return the mapping of the dataset."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for part, labels in CIFAR_LABELS.items():
        images = np.stack([np.roll(cifar_pixels(), i) for i in range(len(labels))])
        content = {"data": images, "fine_labels": labels.tolist()}
        (folder / part).write_bytes(pickle.dumps(content))
    names = {"fine_label_names": ["apple", "bear", "cup", "dolphin"]}
    (folder / "meta").write_bytes(pickle.dumps(names))
    monkeypatch.setattr(
        "torchvision.datasets.cifar.check_integrity",
        lambda path, md5: Path(path).exists(),
    )
    return CIFAR | {"root": str(tmp_path)}


def test_torchvision(cifar, tmp_path):
    dataset = load(cifar, None)
    index = dataset.index
    assert index["split"].value_counts().to_dict() == {"train": 32, "val": 8, "test": 8}
    assert index["label"].tolist() == [*CIFAR_LABELS["train"], *CIFAR_LABELS["test"]]
    assert index["label_name"].iloc[:4].tolist() == ["apple", "bear", "cup", "dolphin"]
    expected = np.roll(cifar_pixels(), 3).reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(dataset.open("test/3")), expected)
    with refused_naming("CIFAR100, train", "{'split': 'train'}"):
        load(cifar | {"train": {"split": "train"}}, None)
    shutil.rmtree(tmp_path / "cifar-100-python")
    with refused_naming("CIFAR100, train", "not found", "`download: true`"):
        load(cifar, None)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([-1, 0], "its labels go from -1 to 0, expected class numbers from 0"),
        ([[0], [0, 1]], "it gives no class numbers (ValueError: "),
        ([7, 7], "CIFAR100: label 7 is beyond its 4 class names"),
        (None, "CIFAR100, train: UnpicklingError: "),
    ],
)
def test_wrong_labels_of_torchvision_are_named(cifar, tmp_path, labels, expected):
    file = tmp_path / "cifar-100-python/train"
    content = pickle.loads(file.read_bytes())
    if labels is not None:
        file.write_bytes(pickle.dumps(content | {"fine_labels": labels * 20}))
    else:
        file.write_bytes(b"\x80\x04junk")
    with refused_naming(expected):
        load(cifar, None)


def test_torchvision_downloads_whole_or_not_at_all(tmp_path, monkeypatch, network):
    """Places365 asks only whether the folder of its images is there.

    Told not to download, it does not even ask that.
    """
    site = tmp_path / "site"
    root = tmp_path / "data"
    part = "data_256_standard"
    site.mkdir()
    lists = {
        "categories_places365.txt": "/a/abbey 0\n/b/bakery 1\n",
        "places365_train_standard.txt": "".join(
            f"/a/{i}.jpg {i % 2}\n" for i in range(20)
        ),
        "places365_val.txt": "v0.jpg 1\nv1.jpg 0\n",
    }
    archives = {
        "devkit.tar": [(name, text.encode()) for name, text in lists.items()],
        "train.tar": [(f"data_256/a/{i}.jpg", jpeg(i)) for i in range(20)],
        "val.tar": [(f"val_256/v{i}.jpg", jpeg(20 + i)) for i in range(2)],
    }
    for name, members in archives.items():
        (site / name).write_bytes(tar(*members))
    digest = {
        name: hashlib.md5((site / name).read_bytes()).hexdigest() for name in archives
    }
    of_list = {
        name: (name, hashlib.md5(text.encode()).hexdigest())
        for name, text in lists.items()
    }
    categories, train, val = of_list.values()
    for attribute, value in {
        "_BASE_URL": f"{site.as_uri()}/",
        "_CATEGORIES_META": categories,
        "_FILE_LIST_META": {"train-standard": train, "val": val},
        "_DEVKIT_META": {"standard": ("devkit.tar", digest["devkit.tar"])},
        "_IMAGES_META": {
            ("train-standard", True): ("train.tar", digest["train.tar"]),
            ("val", True): ("val.tar", digest["val.tar"]),
        },
    }.items():
        monkeypatch.setattr(f"torchvision.datasets.Places365.{attribute}", value)
    monkeypatch.setattr(
        "torchvision.datasets.utils._urlretrieve",
        lambda url, file: shutil.copyfile(site / Path(url).name, file),
    )
    spec = {
        "type": "torchvision",
        "name": "Places365",
        "root": str(root),
        "download": True,
    }
    spec |= {
        "train": {"split": "train-standard", "small": True},
        "test": {"split": "val", "small": True},
    }
    spec |= {"val_fraction": 0.2, "split_seed": 0}
    with monkeypatch.context() as m:

        def killed(_url, folder, **_):
            (Path(folder) / part).mkdir()
            raise OSError("disk full")

        m.setattr("torchvision.datasets.places365.download_and_extract_archive", killed)
        with pytest.raises(
            UserError,
            match="Places365, train: disk full: the download needs the internet",
        ):
            download.images("places", spec, tmp_path / "download.json")
    assert list(root.iterdir()) == [] and not (tmp_path / "download.json").exists()
    download.images("places", spec, tmp_path / "download.json")
    assert files.read_json(tmp_path / "download.json") == {
        "dataset": "places",
        "images": {"train": 20, "test": 2},
    }
    for name in archives:
        (site / name).unlink()
    dataset = load(spec, None)
    assert dataset.index["split"].value_counts().to_dict() == {
        "train": 16,
        "val": 4,
        "test": 2,
    }
    assert np.array_equal(np.asarray(dataset.open("test/1")), pixels(jpeg(21)))
    download.images("places", spec, tmp_path / "again.json")
    assert files.read_json(tmp_path / "again.json") == files.read_json(
        tmp_path / "download.json"
    )
    with pytest.raises(
        UserError, match="dataset ours: type image_folder cannot download"
    ):
        download.images(
            "ours",
            {"type": "image_folder", "root": "x"},
            tmp_path / "ours.json",
        )
    assert network == []


def test_table(tmp_path):
    spec = {"type": "table", "root": str(tmp_path)}
    with pytest.raises(UserError, match=r"no train\.csv"):
        load(spec, None)
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text(
            "image_id,label,label_name,group\n"
            f"01{split},3,NA,{split}\n2{split},0,b,{split}\n"
        )
    dataset = load(spec, None)
    assert dataset.grouped
    assert (
        dataset.index["image_id"].iloc[0] == "01train"
        and dataset.index["label_name"].iloc[0] == "NA"
    )
    assert dataset.index["label"].tolist() == [3, 0] * 3
    with pytest.raises(UserError, match="has no images"):
        dataset.open("01train")
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.csv").write_text(f"image_id\n1{split}\n")
    bare = load(spec, None)
    assert bare.index["label"].isna().all() and not bare.grouped
    (tmp_path / "val.csv").write_text("image_id,lable\nx,1\n")
    with refused_naming("val.csv", "'lable'"):
        load(spec, None)
    (tmp_path / "val.csv").write_text("image_id,label\nx,1\ny,\n")
    with refused_naming("val.csv", "label is empty in row 2"):
        load(spec, None)
