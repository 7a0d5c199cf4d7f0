"""Datasets that are not as they should be.

The step `dataset` ends in one line that names the file, or leaves the file out.
"""

import io
import json
import os
import signal
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.archives import tar
from support.errors import assert_names, refused_naming

from sae.core import files, registry
from sae.core.errors import UserError
from sae.data import shard_images
from sae.data.splits import SPLITS
from sae.models.apply import image_paths


@pytest.fixture
def build_dataset(tmp_path, run_step):
    """Return a function that builds a dataset in this process, within seconds.

    It returns the exit code and what the step printed.
    """

    def build(spec):
        command = ["dataset", "--name", "d", "--artifacts", "/nowhere"]
        command += ["--out", tmp_path / "index", "--spec", json.dumps(spec)]
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for ever"))
        signal.alarm(20)
        try:
            return run_step(*command)
        finally:
            signal.alarm(0)

    return build


def assert_refused(build_dataset, spec, *parts):
    """Assert that the step fails with one line, which names all of some things.

    Args:
        build_dataset: of the fixture of that name.
        spec: the dataset's mapping.
        parts: the files, keys, values and advice that the line must name.
    """
    exit_code, text = build_dataset(spec)
    assert exit_code == 1, text
    assert text.startswith("error: ") and text.count("\n") == 1, text
    assert_names(text, *parts)


ENDINGS = "jpeg, jpg, png, webp"  # of the images that WebDataset's tars hold


def omissions_of(place, *lines):
    """Return what a step gives that leaves out some files, and nothing else.

    Args:
        place: the dataset, as messages call it.
        lines: how many of which files, with {} for "are left out".
    """
    texts = [f"{place}: {line.format('are left out')}\n" for line in lines]
    return 0, "".join(texts)


def png(number):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(stream, "png")
    return stream.getvalue()


def image_folder(root):
    for number, split in enumerate(SPLITS):
        (root / split / "a").mkdir(parents=True)
        (root / split / "a" / f"{number}.png").write_bytes(png(number))
    return {"type": "image_folder", "root": str(root)}


def shards(root, kind="tar", **content_of_split):
    """Write a shard for each split, with an image each where no content is given."""
    for number, split in enumerate(SPLITS):
        image = (f"{number}.png", png(number))
        one_image = tar(image, (f"{number}.cls", b"1"))
        content = content_of_split.get(split, one_image)
        (root / f"{split}.{kind}").write_bytes(content)
    return {
        "type": "shards",
        "root": str(root),
        "splits": {split: f"{split}.{kind}" for split in SPLITS},
    }


def parquet(columns, metadata=None):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), stream)
    return stream.getvalue()


def parquets(root, train):
    val = parquet({"image": [png(0)], "label": [0]})
    test = parquet({"image": [png(1)], "label": [0]})
    return shards(root, "parquet", train=train, val=val, test=test)


def table(root, train, pattern="image_id,label\n{},1\n"):
    """Write tables: that of train as it is given, the others after a pattern."""
    (root / "train.csv").write_bytes(train)
    for split in ("val", "test"):
        (root / f"{split}.csv").write_text(pattern.format(split))
    return {"type": "table", "root": str(root)}


def open_images(root, names=b"/m/cat,Cat\n"):
    """Write Open Images with one image a split; `names` are those of the classes."""
    (root / "annotations").mkdir()
    folder_of_split = {"train": "train", "val": "validation", "test": "test"}
    for number, (split, folder) in enumerate(folder_of_split.items()):
        (root / folder).mkdir()
        (root / folder / f"{split}.jpg").write_bytes(png(number))
        labels = root / f"annotations/oidv7-{split}-annotations-human-imagelabels.csv"
        labels.write_text(f"ImageID,LabelName,Confidence\n{split},/m/cat,1\n")
    (root / "annotations/oidv7-class-descriptions.csv").write_bytes(names)
    return {"type": "open_images", "root": str(root)}


ODD = {
    "a pipe": lambda path: os.mkfifo(path),
    "a device": lambda path: os.symlink("/dev/null", path),
    "a folder": lambda path: os.mkdir(path),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_broken_or_refused_and_not_waited_for(
    tmp_path, build_dataset, kind
):
    def put(folder, name):
        (folder / name).unlink(missing_ok=True)
        ODD[kind](folder / name)

    expected = "is a folder, pipe, socket or device, not a file"
    spec = open_images(tmp_path)
    put(tmp_path / "train", "odd.jpg")
    assert_refused(
        build_dataset, spec, f"train/odd.jpg {expected}; mend them, or allow more"
    )
    assert build_dataset(spec | {"max_broken": 1}) == (
        0,
        "dataset d: 1 of 4 images cannot be read and are left out, such as "
        "train/odd.jpg; its manifest lists them\n",
    )
    put(tmp_path, "list.csv")
    assert_refused(build_dataset, spec | {"subset": "list.csv"}, f"list.csv {expected}")
    for make, name in (
        (shards, "train.tar"),
        (lambda root: table(root, b""), "train.csv"),
    ):
        root = tmp_path / f"{name} of its own"
        root.mkdir()
        spec = make(root)
        put(root, name)
        assert_refused(build_dataset, spec, f"{name} {expected}")


def test_images_of_a_folder_that_cannot_be_read_are_named(tmp_path, build_dataset):
    spec = image_folder(tmp_path)
    assert build_dataset(spec) == (0, "")
    # Folders are looked into, whatever their names.
    (tmp_path / "train/a/folder.jpg").mkdir()
    os.mkfifo(tmp_path / "train/a/pipe.png")
    os.symlink("nowhere", tmp_path / "train/a/link.png")
    (tmp_path / "train/a/empty.png").touch()
    (tmp_path / "train/a/two\nlines.png").touch()
    assert_refused(build_dataset, spec, "4 of 7 images cannot be read")
    assert build_dataset(spec | {"max_broken": 4})[0] == 0
    broken = files.read_json(tmp_path / "index/manifest.json")["broken"]
    error_of_file = {
        path.removeprefix("train/a/"): reason.split(":")[0]
        for path, reason in broken.items()
    }
    assert error_of_file == {
        "pipe.png": "OSError",
        "link.png": "FileNotFoundError",
        "empty.png": "ValueError",
        "two\nlines.png": "ValueError",
    }


@pytest.fixture
def close_folder(monkeypatch):
    """Return a function that lets a folder refuse to be read, as to other users."""
    scandir = os.scandir

    def close(folder):
        def refuse(path="."):
            if str(path) == str(folder):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return close


@pytest.mark.parametrize("name", ["train/a", "train/a/below", "val"])
def test_a_folder_of_pictures_that_cannot_be_read_is_named(
    tmp_path, build_dataset, close_folder, name
):
    spec = image_folder(tmp_path)
    (tmp_path / "train/a/below").mkdir()
    (tmp_path / "train/a/below/8.png").write_bytes(png(8))
    close_folder(tmp_path / name)
    assert_refused(build_dataset, spec, f"{tmp_path}/{name} cannot be read")
    with refused_naming(f"{tmp_path}/{name} cannot be read"):
        image_paths(tmp_path)


def test_no_picture_of_a_folder_is_dropped_or_taken_twice_without_a_word(
    tmp_path, build_dataset
):
    spec = image_folder(tmp_path)
    folder = tmp_path / "train/a"
    index = tmp_path / "index/index.parquet"
    (folder / "below").mkdir()
    os.symlink(folder / "0.png", folder / "below/link.png")
    # What is no circle is followed, as by torchvision.
    os.symlink("below", folder / "again")
    for name in ("x.GIF", "x.pnm", "x.heic", "x.svg"):
        (folder / name).write_bytes(png(9))
    (tmp_path / "val/notes.txt").touch()
    assert build_dataset(spec) == omissions_of(
        f"image folder {tmp_path}",
        "3 files that are no picture by their ending {}, such as 'train/a/x.heic'",
    )
    names = ["0.png", "x.GIF", "x.pnm", "again/link.png", "below/link.png"]
    paths = list(files.read_parquet(index)["path"])
    assert paths[:-2] == [f"train/a/{name}" for name in names]
    (tmp_path / "val/x.gif").write_bytes(png(9))
    assert_refused(
        build_dataset,
        spec,
        f"{tmp_path}/val",
        "'x.gif'",
        "beside the class folders",
        "move each into",
    )
    (tmp_path / "val/x.gif").unlink()
    for link, target in (
        ("train/a/up", ".."),
        ("train/b", "."),
        ("train/a/far", tmp_path.parent),
    ):
        os.symlink(target, tmp_path / link)
        assert_refused(
            build_dataset,
            spec,
            f"'{tmp_path}/{link}'",
            "leads to a folder that it lies in",
            "remove it",
        )
        (tmp_path / link).unlink()
    for name in ("b", "c"):
        (tmp_path / "train" / name).mkdir()
        os.symlink(
            f"../{'c' if name == 'b' else 'b'}", tmp_path / "train" / name / "other"
        )
    assert_refused(
        build_dataset, spec, "other' leads to a folder that it lies in: remove it"
    )  # Through each other.


def test_a_folder_of_classes_is_split_class_by_class(tmp_path, build_dataset):
    for number in range(60):
        file = tmp_path / "images" / "ab"[number < 20] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number))
    spec = {"type": "image_folder", "root": str(tmp_path / "images")}
    assert_refused(
        build_dataset,
        spec,
        "missing: train, val, test",
        "`fractions: {train: 0.7, val: 0.1",
    )
    shares = {"fractions": {"train": 0.7, "val": 0.1, "test": 0.2}}

    def split(**options):
        """Return the split of each path."""
        assert build_dataset(spec | shares | options)[0] == 0
        index = files.read_parquet(tmp_path / "index/index.parquet")
        return index.set_index("path")["split"]

    split_of_path = split()
    class_of_path = split_of_path.index.str[0]
    counts = split_of_path.groupby([class_of_path, split_of_path]).size().to_dict()
    assert counts == {
        ("a", "train"): 28,
        ("a", "val"): 4,
        ("a", "test"): 8,
        ("b", "train"): 14,
        ("b", "val"): 2,
        ("b", "test"): 4,
    }
    assert split_of_path.equals(split(split_seed=0))
    assert not split_of_path.equals(split(split_seed=1))
    # A class may be called train.
    (tmp_path / "images/a").rename(tmp_path / "images/train")
    assert {path.partition("/")[0] for path in split().index} == {"train", "b"}
    for name in ("Test", "train/a"):
        folder = tmp_path / "images" / name
        folder.mkdir()
        assert_refused(
            build_dataset, spec | shares, f"{name.partition('/')[0]}/", "`fractions`"
        )
        folder.rmdir()


def test_what_programs_leave_behind_is_no_class(tmp_path, build_dataset):
    spec = image_folder(tmp_path)
    left_behind = [
        "train/.ipynb_checkpoints/x.png",
        "train/@eaDir/x.png",
        "train/__MACOSX/a/x.png",
        "test/a/._2.png",
        "val/a/@eaDir/x.png",
    ]
    for number, name in enumerate(left_behind):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(10 + number))
    assert build_dataset(spec) == omissions_of(
        f"image folder {tmp_path}",
        "5 hidden files and folders, and those of programs, {}, such as "
        "'train/.ipynb_checkpoints'",
    )
    index = files.read_parquet(tmp_path / "index/index.parquet")
    assert list(index["path"]) == ["train/a/0.png", "val/a/1.png", "test/a/2.png"]


def test_pictures_that_a_folder_loses_are_warned_of_and_hidden_files_are_not(
    tmp_path, monkeypatch, run_step
):
    spec = image_folder(tmp_path / "images")
    for name in ("x.heic", ".DS_Store"):
        (tmp_path / "images/train/a" / name).write_bytes(png(9))
    monkeypatch.chdir(tmp_path)
    command = ["dataset", "--name", "d", "--artifacts", "none", "--out", "index"]
    command += ["--spec", json.dumps(spec), "--log", "results/logs/dataset/d.log"]
    assert run_step(*command)[0] == 0
    (text,) = files.read_json("results/warnings/dataset/d.json")["warnings"]
    assert_names(text, "1 files that are no picture", "such as 'train/a/x.heic'")


def test_an_accent_written_in_two_ways_is_one_class(tmp_path, build_dataset):
    spec = image_folder(tmp_path)
    for number, name in enumerate(
        ["train/caf\u00e9", "train/cafe\u0301", "val/cafe\u0301", "test/caf\u00e9"]
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(20 + number))
    assert build_dataset(spec) == (0, "")
    index = files.read_parquet(tmp_path / "index/index.parquet")
    assert index["label_name"].value_counts().to_dict() == {"a": 3, "caf\u00e9": 4}
    assert index["label"].nunique() == 2


def test_a_picture_in_two_classes_is_counted_and_said(tmp_path, build_dataset):
    spec = image_folder(tmp_path)
    for number, split in enumerate(SPLITS):
        (tmp_path / split / "b").mkdir()
        (tmp_path / split / "b/x.png").write_bytes(png([0, 20, 21][number]))
    exit_code, text = build_dataset(spec)
    assert exit_code == 0
    assert_names(text, "1 pictures", "more than one class", "train/a/0.png = train/b/x")


def test_classes_that_look_like_one_or_cannot_be_learnt_are_said(
    tmp_path, build_dataset
):
    spec = image_folder(tmp_path)
    for number, name in enumerate(["Cat", "cat "]):
        for place, split in enumerate(SPLITS):
            (tmp_path / split / name).mkdir()
            (tmp_path / split / name / "x.png").write_bytes(
                png(30 + 3 * number + place)
            )
    exit_code, text = build_dataset(spec)
    assert exit_code == 0
    assert_names(text, "2 class names", "'Cat', 'cat '")
    train = b"image_id,label\na,0\n"
    for split in SPLITS:
        (tmp_path / f"{split}.csv").write_bytes(
            train.replace(b"a,", split.encode() + b",")
        )
    (tmp_path / "test.csv").write_bytes(b"image_id,label\nb,0\nc,7\n")
    exit_code, text = build_dataset({"type": "table", "root": str(tmp_path)})
    assert exit_code == 0
    assert_names(text, "1 classes have no image in train", "7 (image 'c')")


def test_labels_under_a_similar_name_are_pointed_out(tmp_path, build_dataset):
    tar_of_split = {
        split: tar((f"{number}.png", png(number)), (f"{number}.label", b"1"))
        for number, split in enumerate(SPLITS)
    }
    exit_code, text = build_dataset(shards(tmp_path, **tar_of_split))
    assert exit_code == 0
    assert_names(text, "1 labels", ".cls", "train.tar: 0.label")
    in_json = tar(("0.png", png(0)), ("0.json", b'{"Label": 3}'))
    more = {split: tar((f"{split}.png", png(len(split)))) for split in ("val", "test")}
    more["test"] = tar(("2.png", png(9)))
    exit_code, text = build_dataset(shards(tmp_path, train=in_json, **more))
    assert exit_code == 0
    assert_names(text, "under 'Label' instead of 'label'", "train.tar: 0.json")
    for name in ("Label", "labels"):
        spec = parquets(tmp_path, parquet({"image": [png(0)], name: [1]}))
        assert_refused(build_dataset, spec, "train.parquet", name, "label_column")


def test_val_is_drawn_from_the_train_of_a_folder_without_val(tmp_path, build_dataset):
    for number in range(40):
        file = tmp_path / ["train", "test"][number >= 30] / "ab"[number % 2]
        file.mkdir(parents=True, exist_ok=True)
        (file / f"{number}.png").write_bytes(png(number))
    spec = {"type": "image_folder", "root": str(tmp_path)}
    drawn = {"val_fraction": 0.2}
    assert_refused(build_dataset, spec, "missing: val.", "`val_fraction: 0.1`")
    fractions = {"fractions": {"train": 0.7, "val": 0.1, "test": 0.2}}
    assert_refused(build_dataset, spec | fractions, "test/, train/", "`val_fraction")
    assert build_dataset(spec | drawn)[0] == 0
    index = files.read_parquet(tmp_path / "index/index.parquet")
    counts = index.groupby(["label_name", "split"]).size().to_dict()
    assert counts == {
        (name, split): count
        for name in "ab"
        for split, count in (("train", 12), ("val", 3), ("test", 5))
    }
    is_test = index["path"].str.startswith("test/")
    assert is_test.equals(index["split"] == "test")
    (tmp_path / "val").mkdir()
    assert_refused(build_dataset, spec | drawn, "it has val/", "`val_fraction`")


def test_a_class_that_is_a_wordnet_id_is_shown_by_its_word(tmp_path, build_dataset):
    spec = image_folder(tmp_path)
    ids = {"a": "n03445777", "b": "n99999999", "c": "n02012849", "d": "n03126707"}
    for number, split in enumerate(SPLITS):
        os.rename(tmp_path / split / "a", tmp_path / split / ids["a"])
        for place, name in enumerate("bcd"):
            folder = tmp_path / split / ids[name]
            folder.mkdir()
            (folder / "x.png").write_bytes(png(100 + 10 * number + place))
    assert build_dataset(spec)[0] == 0
    index = files.read_parquet(tmp_path / "index/index.parquet")
    folders = index["image_id"].str.split("/").str[1]
    assert dict(zip(folders, index["label_name"], strict=True)) == {
        ids["a"]: "golf ball",
        ids["b"]: "n99999999",
        ids["c"]: "crane (n02012849)",
        ids["d"]: "crane (n03126707)",
    }


def test_classes_of_a_folder_are_those_of_all_splits(tmp_path, build_dataset):
    spec = image_folder(tmp_path)
    (tmp_path / "val/b").mkdir()
    assert_refused(
        build_dataset,
        spec,
        f"{tmp_path}/val",
        "no picture",
        "['b']",
        "put some there, or remove",
    )
    (tmp_path / "val/b/x.png").write_bytes(png(9))
    assert_refused(
        build_dataset,
        spec,
        "only one of train/ and val/ has the classes ['b']",
        "give all splits class folders",
    )
    os.rename(tmp_path / "val/b", tmp_path / "val" / os.fsdecode(b"caf\xe9"))
    assert_refused(build_dataset, spec, r"has the classes ['caf\udce9']")


def test_names_that_are_no_text_are_named(tmp_path, build_dataset):
    folder = tmp_path / "folder"
    tars = tmp_path / "tars"
    tars.mkdir()
    spec = image_folder(folder)
    (folder / os.fsdecode(b"train/a/caf\xe9.png")).write_bytes(png(9))
    assert_refused(
        build_dataset, spec, f"root {folder}", r"'train/a/caf\udce9.png'", "not UTF-8"
    )
    spec = shards(tars, train=tar((b"caf\xe9.png", png(9)), (b"caf\xe9.cls", b"1")))
    assert_refused(build_dataset, spec, r"the name 'caf\udce9' is not UTF-8")


NESTED = b"[" * 100_000
RANGE = "expected 0 to 2^63 - 1"


@pytest.mark.parametrize(
    ("ending", "text", "expected"),
    [
        (
            "cls",
            b"1" + b"0" * 30,
            f"image 0 (ROOT/train/0) has the label 1{'0' * 30}, {RANGE}",
        ),
        (
            "cls",
            b"-1",
            f"has the label -1, {RANGE}; -1 often means that a split has no labels",
        ),
        ("cls", b"1_0", "ROOT/train.tar: 0.cls holds b'1_0', expected a class number"),
        (
            "json",
            b'{"label": 1, "x": ' + NESTED + b"]" * 100_000 + b"}",
            '0.json holds b\'{"label": 1, "x": [[',
        ),
        (
            "json",
            b'{"label": true}',
            "0.json holds b'{\"label\": true}', expected a class number as `label`",
        ),
    ],
)
def test_labels_in_tars(tmp_path, build_dataset, ending, text, expected):
    spec = shards(tmp_path, train=tar(("0.png", png(9)), (f"0.{ending}", text)))
    assert_refused(build_dataset, spec, expected.replace("ROOT", str(tmp_path)))


def test_tars_that_look_strange_are_read(tmp_path, build_dataset):
    names = ("/etc/0", "../../1", "a", "b", "a")
    text = b'{"label": 1, "caption": "\\ud800", "x": NaN}'
    members = []
    for number, name in enumerate(names):
        members.append((f"{name}.png", png(7 + number)))
        members.append((f"{name}.json", text))
    spec = shards(tmp_path, train=tar(*members))
    assert build_dataset(spec) == (0, "")
    # Two samples have one key, so that all are named by place.
    index = files.read_parquet(tmp_path / "index/index.parquet")
    assert list(index["image_id"])[:2] == ["train/0", "train/1"]
    assert_refused(
        build_dataset,
        shards(tmp_path, test=tar(("0.txt", b"x"))),
        "there is no image in test.tar",
        "1 keys without an image",
        "'test.tar: 0.txt'",
    )
    assert_refused(
        build_dataset,
        shards(tmp_path, train=b""),
        "train.tar is not a whole, uncompressed tar (empty file; 0 bytes)",
    )


def link(name, target, kind):
    """Return a tar of one link, cut off before its end."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member.tobuf()


def test_every_image_that_a_tar_loses_is_counted_and_named(tmp_path, build_dataset):
    sample = ("0.png", png(9)), ("0.cls", b"1")
    links = link("1.png", "0.png", tarfile.LNKTYPE)
    links += link("2.png", "0.png", tarfile.SYMTYPE)
    for train, *lines in (
        (
            links + tar(*sample),
            "2 members that are links {}, such as '1.png'",
        ),
        (
            tar(*sample, ("0.jpg", png(8)), ("0.webp", png(8))),
            "2 images beside another one of their key {}, such as 'train.tar: 0.jpg'",
        ),
        (
            tar(("0.PNG", png(8)), *sample),
            "1 members whose key and ending come twice in a row {}, "
            "such as 'train.tar: 0.png'",
        ),
        # The cls counts, whatever a json beside it says.
        (tar(*sample, ("0.json", b'{"label": 2}')),),
        (tar(*sample, ("0.json", b"{")),),
    ):
        spec = shards(tmp_path, train=train)
        assert build_dataset(spec) == omissions_of(f"shards {tmp_path}", *lines)
        index = files.read_parquet(tmp_path / "index/index.parquet")
        assert list(index["image_id"]) == ["0", "1", "2"]
        assert list(index["label"]) == [1, 1, 1]


def test_files_that_other_readers_pass_over_are_counted_and_named(
    tmp_path, build_dataset
):
    unpacked = tmp_path / "unpacked"
    for number, name in enumerate(("train/n1/1.png", "train/n1/2.png", "val/n1/3.png")):
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_bytes(png(number))
    (unpacked / "train/n1/4.gif").write_bytes(png(4))
    spec = {"type": "imagenet", "val_per_class": 1, "split_seed": 0}
    assert build_dataset(spec | {"root": str(unpacked)}) == omissions_of(
        f"imagenet {unpacked}",
        "1 files that are no picture by their ending {}, such as 'train/n1/4.gif'",
    )

    photographs = tmp_path / "photographs"
    photographs.mkdir()
    spec = open_images(photographs)
    (photographs / "test/x.JPG").write_bytes(png(9))
    assert build_dataset(spec) == omissions_of(
        f"open_images {photographs}",
        "1 files and folders that do not end in .jpg {}, such as 'test/x.JPG'",
    )


def test_an_image_that_its_second_dot_would_hide_is_named(tmp_path, build_dataset):
    label = ("1.cls", b"1")
    hidden = ("._1.png", b"x")
    masks = (
        ("0.seg.png", b"x"),
        ("2.png", png(8)),
        ("2.cls", b"1"),
        ("0.png", png(9)),
        ("0.cls", b"1"),
    )
    spec = shards(
        tmp_path,
        train=tar(*masks, ("1.png", png(7)), hidden, label, ("3.seg.txt", b"x")),
    )
    assert build_dataset(spec) == omissions_of(
        f"shards {tmp_path}",
        "1 images of two endings, as masks have, {}, such as 'train.tar: 0.seg.png'",
        "1 hidden members {}, such as 'train.tar: ._1.png'",
        f"1 keys without an image ({ENDINGS}) {{}}, such as 'train.tar: 3.seg.txt'",
    )
    assert len(files.read_parquet(tmp_path / "index/index.parquet")) == 5
    spec = shards(tmp_path, train=tar(*masks, ("a/1.v2.PNG", png(7)), label))
    assert_refused(
        build_dataset,
        spec,
        f"{tmp_path}/train.tar",
        "a/1.v2.png",
        "'v2.png'",
    )


def test_class_names_are_one_list_in_all_files_and_splits(tmp_path, build_dataset):
    def one_image(number, *names):
        """Return parquet with an image; its schema has the class names, if any."""
        features = {"label": {"names": names}} if names else {}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        return parquet({"image": [png(number)], "label": [0]}, metadata)

    splits = {"val": one_image(1, "cat", "dog"), "test": one_image(2)}
    spec = shards(tmp_path, "parquet", train=one_image(0, "cat", "dog"), **splits)
    assert build_dataset(spec) == (0, "")
    spec = shards(tmp_path, "parquet", train=one_image(0, "dog", "cat"), **splits)
    assert_refused(
        build_dataset,
        spec,
        f"{tmp_path}",
        "class 0 is 'dog' in train and 'cat' in val",
        "one list",
    )
    folder = tmp_path / "data"
    folder.mkdir()
    for part, names in (("train", ("cat", "dog")), ("validation", ("dog", "cat"))):
        (folder / f"{part}-0.parquet").write_bytes(one_image(3, *names))
    spec = {
        "type": "imagenet",
        "root": str(tmp_path),
        "val_per_class": 1,
        "split_seed": 0,
    }
    assert_refused(
        build_dataset,
        spec,
        "class 0 is 'cat' in data/train-*.parquet",
        "'dog' in data/validation-*.parquet",
    )


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"image": ["a.png"], "label": [0]},
            "column 'image' is string, expected binary",
        ),
        (
            {"image": [b"x"], "label": pa.array([2**64 - 1], pa.uint64())},
            f"the label 18446744073709551615, {RANGE}",
        ),
        (
            {"image": [b"x", b"y"], "label": [0, None]},
            "image 1 (ROOT/train/1) has no label, and 1 others have one",
        ),
        (
            pa.Table.from_arrays(
                [pa.array([b"x"])] * 2 + [pa.array([0])],
                names=["image", "image", "label"],
            ),
            "train.parquet has several columns 'image'; it has image, image, label",
        ),
    ],
)
def test_columns_of_parquet(tmp_path, build_dataset, columns, expected):
    assert_refused(
        build_dataset,
        parquets(tmp_path, parquet(columns)),
        expected.replace("ROOT", str(tmp_path)),
    )


@pytest.mark.parametrize(
    "kind",
    [pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())],
)
def test_all_kinds_of_binary_are_read(tmp_path, build_dataset, kind):
    images = pa.array([png(8), png(9)]).cast(kind)
    paths = pa.StructArray.from_arrays([images, pa.array([1, 2])], ["bytes", "path"])
    for column in (images, paths):
        assert build_dataset(
            parquets(tmp_path, parquet({"image": column, "label": [0, 0]}))
        ) == (0, "")
    # Texts, whatever `path` is.
    images = shard_images.list_images(tmp_path, ["train.parquet"])
    assert images.keys == ["1", "2"]


HEAD = b"image_id,label\n"
INTEGERS = "labels are integers from 0 to 2^63 - 1"


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (
            HEAD + b"caf\xe9,1\n",
            "train.csv cannot be read as a table: 'utf-8' codec can't decode byte 0xe9 "
            "in position 18",
        ),
        (
            HEAD + b"a,-1\n",
            "image 'a' has the label -1, expected a class number from 0",
        ),
        (HEAD + b"a,1.5\n", "train.csv cannot be read as a table: cannot safely cast"),
        (HEAD + b"a,cat\n", INTEGERS),
        (HEAD + b"a ,1\n", "train.csv: image_id is 'a ' in row 1, with spaces"),
        (HEAD + b"a,1,2\n", "train.csv: its rows have more fields than its first line"),
        (HEAD + b"a,1\na,2\n", "image_id 'a' occurs twice"),
        (b"", "train.csv cannot be read as a table: No columns"),
    ],
)
def test_tables(tmp_path, build_dataset, train, expected):
    assert_refused(
        build_dataset,
        table(tmp_path, train, train.partition(b"\n")[0].decode("latin") + "\n{},1\n"),
        expected,
    )


@pytest.mark.parametrize(
    ("columns", "rows_of_split", "parts"),
    [
        # Each split was numbered by itself.
        (
            "label,label_name",
            {"train": ["0,cat", "1,dog"], "val": ["0,dog"], "test": ["0,cat"]},
            ["'dog'", "[1] in train.csv", "[0] in val.csv"],
        ),
        (
            "label,label_name",
            {"train": ["0,cat"], "val": ["0,cat"], "test": ["0,lynx"]},
            [
                "label 0",
                "'cat' (image 'train0', train)",
                "'lynx' (image 'test0', test)",
            ],
        ),
        (
            "label,label_coarse",
            {"train": ["0,3", "1,4"], "val": ["0,3"], "test": ["0,4"]},
            ["label 0", "label_coarse 3", "4", "image 'test0'"],
        ),
    ],
)
def test_labels_that_contradict_each_other_are_named(
    tmp_path, build_dataset, columns, rows_of_split, parts
):
    for split, rows in rows_of_split.items():
        lines = [f"{split}{number},{row}\n" for number, row in enumerate(rows)]
        (tmp_path / f"{split}.csv").write_text(f"image_id,{columns}\n{''.join(lines)}")
    assert_refused(build_dataset, {"type": "table", "root": str(tmp_path)}, *parts)


MARK = b"\xef\xbb\xbf"  # a byte order mark, as spreadsheets write it


def test_a_byte_order_mark_is_no_part_of_the_first_field(tmp_path, build_dataset):
    index = tmp_path / "index/index.parquet"
    root = tmp_path / "photographs"
    root.mkdir()
    spec = open_images(root, names=MARK + b'"/m/cat","Cat"\n')
    labels = root / "annotations/oidv7-train-annotations-human-imagelabels.csv"
    labels.write_bytes(MARK + b'"ImageID",LabelName,Confidence\ntrain,/m/cat,1\n')
    (root / "list.csv").write_bytes(MARK + b'"ImageID"\n"train"\n')
    assert build_dataset(spec | {"subset": "list.csv"}) == (0, "")
    assert list(files.read_parquet(index)["label_name"]) == ["Cat"] * 3

    root = tmp_path / "embeddings"
    root.mkdir()
    text = MARK + b"image_id,label\ntrain,1\n"
    assert build_dataset(table(root, text)) == (0, "")
    assert list(files.read_parquet(index)["image_id"]) == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("oidv7-class-descriptions.csv", b"/m/cat,caf\xe9\n", "'utf-8' codec"),
        ("oidv7-train-annotations-human-imagelabels.csv", b"", "Empty CSV"),
    ],
)
def test_texts_of_open_images(tmp_path, build_dataset, name, content, expected):
    spec = open_images(tmp_path)
    (tmp_path / "annotations" / name).write_bytes(content)
    assert_refused(build_dataset, spec, name, expected)


def test_an_image_folder_that_is_a_file_is_named_before_any_job(tmp_path):
    file = tmp_path / "birds.zip"
    file.write_bytes(b"PK")
    spec = {"type": "image_folder", "root": str(file)}
    head = registry.head("dataset", "image_folder")
    module = registry.load("dataset", "image_folder")
    with pytest.raises(UserError, match="is a file: name the folder that holds"):
        module.check_early(head.options(root=spec["root"]))
