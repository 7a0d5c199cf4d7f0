"""Commands and datasets take the same files of a folder for pictures."""

import io
import os

import pytest
from PIL import Image
from support.errors import refused_naming

from sae.data.datasets import image_folder
from sae.models.apply import image_paths


def put(folder, *names):
    for number, name in enumerate(names):
        stream = io.BytesIO()
        Image.new("RGB", (4, 4), (number, 0, 0)).save(stream, "png")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(stream.getvalue())


@pytest.fixture
def root(tmp_path):
    """Return a folder with links to folders, and files that are no pictures of it."""
    folder = tmp_path / "root"
    put(folder, "a/0.png", "a/below/1.GIF", "b/2.png")
    put(tmp_path / "elsewhere", "3.png", "._3.png")
    os.symlink(tmp_path / "elsewhere", folder / "b/linked")
    os.symlink(tmp_path / "elsewhere/3.png", folder / "b/4.png")
    put(folder, "a/._0.png", ".hidden/5.png", "b/@eaDir/6.png", "a/7.heic")
    return folder


def test_a_folder_has_the_same_pictures_for_commands_and_datasets(root, caplog):
    names = ["a/0.png", "a/below/1.GIF", "b/2.png", "b/4.png", "b/linked/3.png"]
    with caplog.at_level("INFO", "sae.progress"):
        assert image_paths(root) == names
    said = [record.getMessage() for record in caplog.records]
    assert any("4 hidden files and folders" in line for line in said)
    assert any("1 files that are no picture" in line for line in said)

    fractions = {"train": 0.5, "val": 0.2, "test": 0.3}
    spec = image_folder.Options(root=str(root), fractions=fractions)
    assert sorted(image_folder.load(spec, None).index["path"]) == names

    os.symlink("..", root / "a/up")
    with refused_naming("a/up", "remove it"):
        image_paths(root)
