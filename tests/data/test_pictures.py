"""Pictures that a dataset may hold; its index follows what they show."""

import shutil
import struct
import zlib

import pytest
from PIL import EpsImagePlugin, Image
from support.errors import refused_naming

from sae.core import files
from sae.core.errors import UserError
from sae.data import dataset as datasets
from sae.data import pictures

HELD = ("train/0/0", "train/1/1", "val/0/2", "val/1/3", "test/0/4", "test/1/5")


@pytest.fixture
def root(tmp_path):
    """A folder of six pictures of 30 x 20 pixels, of which no two are the same."""
    for i, name in enumerate(HELD):
        path = tmp_path / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((30, 20)).rotate(50 * i).save(path)
    return tmp_path / "images"


def build(root, **options):
    """Build a dataset of a folder; return its manifest and the bytes of its index."""
    folder = root.parent / "dataset"
    spec = {"type": "image_folder", "root": str(root), **options}
    datasets.build("six", spec, None, folder)
    manifest = files.read_json(folder / "manifest.json")
    return manifest, (folder / "index.parquet").read_bytes()


@pytest.mark.parametrize("ending", pictures.ENDINGS)
def test_pictures_of_every_ending_that_is_listed_are_read(tmp_path, ending):
    file = tmp_path / f"picture{ending}"
    Image.new("RGB", (30, 20), "white").save(file)
    picture = pictures.Guard(Image.open)(str(file))
    assert picture.size == (30, 20)
    assert picture.getpixel((5, 5)) == (255, 255, 255)


def test_the_fingerprint_follows_pixels_and_not_files(root):
    first, index = build(root)
    picture = root / "train/0/0.png"
    shutil.copy(
        picture, root / "copy.png"
    )  # A later time and other bytes, the same pixels.
    Image.open(root / "copy.png").save(picture, compress_level=0)
    assert build(root) == (first, index)
    Image.open(picture).point(lambda value: value ^ 1).save(picture)
    assert build(root)[0]["fingerprint"] != first["fingerprint"]


def test_the_same_picture_in_two_splits_is_an_error_unless_it_is_allowed(root):
    alone = build(root)[0]
    assert alone["duplicates"] == []
    # Other bytes, two of them in train.
    for name in ("train/1/again.bmp", "train/0/twice.png", "test/1/6.bmp"):
        Image.open(root / "train/0/0.png").save(root / name)
    (root.parent / "dataset/manifest.json").unlink()
    expected = (
        "dataset six: pictures that lie in more than one split: 1, such as "
        r"train/0/0\.png .* = test/1/6\.bmp "
    )
    with pytest.raises(UserError, match=expected + r".* `duplicates: allow`"):
        build(root)
    assert not (root.parent / "dataset/manifest.json").exists()
    manifest = build(root, duplicates="allow")[0]
    assert manifest["duplicates"] == [
        {
            "train": ["train/0/0.png", "train/0/twice.png", "train/1/again.bmp"],
            "test": ["test/1/6.bmp"],
        }
    ]
    (root / "test/1/6.bmp").unlink()
    assert build(root)[0]["duplicates"] == []  # Those within a split harm nothing.


def test_identical_pictures_go_to_one_split_where_fractions_draw_it(tmp_path, caplog):
    for number in range(20):
        file = tmp_path / f"pictures/{number % 2}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        # Each picture is there twice.
        Image.new("RGB", (4, 4), (number // 2, 0, 0)).save(file)
    fractions = {"train": 0.6, "val": 0.2, "test": 0.2}
    manifest, _ = build(tmp_path / "pictures", fractions=fractions)
    index = files.read_parquet(tmp_path / "dataset/index.parquet")
    assert manifest["duplicates"] == []
    assert len(index) == 20 and set(index["split"]) == set(fractions)
    assert (index.groupby("pixels")["split"].nunique() == 1).all()
    assert (index.groupby("pixels").size() == 2).all()
    (said,) = (line for line in caplog.messages if "identical to one" in line)
    assert "go to that split, such as 1/" in said


def test_postscript_named_jpg_does_not_reach_ghostscript(root, tmp_path, monkeypatch):
    script = tmp_path / "bin/gs"
    ran = tmp_path / "ran"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    picture = root / "train/0/x.jpg"
    picture.write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    )
    with pytest.raises(OSError):
        Image.open(picture).load()
    ran.unlink()  # Pillow by itself ran it.
    with pytest.raises(
        UserError, match=r"train/0/x\.jpg: ValueError: not a whole picture in one of"
    ):
        build(root)
    assert not ran.exists()


def test_too_large_a_picture_is_refused_by_its_header(root):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    bomb = chunk(b"IHDR", struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)) + chunk(
        b"IDAT", b""
    )
    (root / "train/0/bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    with refused_naming("bomb.png", "89 megapixels", "`max_megapixels`"):
        build(root)
    (root / "train/0/bomb.png").unlink()
    build(root, max_megapixels=0.0006)
    with pytest.raises(
        UserError, match=r"6 of 6 images cannot be read.*more than 0\.000599 megapixels"
    ):
        build(root, max_megapixels=0.000599)
    assert (
        Image.MAX_IMAGE_PIXELS > 89e6 and "EPS" in Image.ID
    )  # Of others that use Pillow.
