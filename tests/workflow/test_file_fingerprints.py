"""A fingerprint of files changes with any of them, and costs nothing if not needed."""

import os
import shutil
from types import SimpleNamespace

import pytest
from sae_workflow import file_fingerprints


def of(root, has_images=True, **spec):
    file_fingerprints._fingerprint_folder.cache_clear()
    return file_fingerprints.fingerprint_images(
        SimpleNamespace(spec={"root": str(root), **spec}, has_images=has_images)
    )


@pytest.fixture
def root(tmp_path):
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart/c.png").write_bytes(b"c")
    (tmp_path / "root/train").mkdir(parents=True)
    (tmp_path / "root/train/a.png").write_bytes(b"a")
    (tmp_path / "root/b.tar").write_bytes(b"b")
    (tmp_path / "root/linked").symlink_to(tmp_path / "apart")
    (tmp_path / "root/train/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/nowhere").symlink_to(tmp_path / "gone")
    return tmp_path / "root"


def replaced(root):
    times = os.stat(root / "train/a.png")
    (root / "train/a.png").write_bytes(b"A")
    os.utime(root / "train/a.png", ns=(times.st_atime_ns, times.st_mtime_ns + 1))


CHANGES = {
    "added": lambda root: (root / "train/d.png").write_bytes(b"d"),
    "replaced by one as large": replaced,
    "larger, with its time": lambda root: (
        (root / "b.tar").write_bytes(b"bb") and os.utime(root / "b.tar", (1, 1))
    ),
    "removed": lambda root: (root / "b.tar").unlink(),
    "renamed": lambda root: (root / "b.tar").rename(root / "d.tar"),
    "moved": lambda root: (root / "b.tar").rename(root / "train/b.tar"),
    "changed behind a link": lambda root: (root / "linked/c.png").write_bytes(b"cc"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_below_the_root_shows(root, change):
    os.utime(root / "b.tar", (1, 1))
    before = of(root)
    assert before == of(root) and before.startswith("3 files ")
    shutil.copytree(root, root.parent / "copy", symlinks=True)
    (root.parent / "copy/train/loop").unlink()
    assert (
        of(root.parent / "copy") == before
    )  # The same names, sizes and times elsewhere.
    CHANGES[change](root)
    assert of(root) != before


def test_nothing_is_listed_where_nothing_is_followed(root):
    assert (
        of(root, has_images=False)
        == of(root, download=True)
        == of(root / "none", download=True)
        == ""
    )
    assert of(root / "none").startswith("0 files")


def test_single_files_are_told_apart_as_images_are(root):
    files = [str(root / name) for name in ("train/a.png", "b.tar", "gone")]
    os.utime(root / "b.tar", (1, 1))
    before = file_fingerprints.fingerprint_files(files)
    assert (
        before == file_fingerprints.fingerprint_files(files)
        and before.startswith("2 files ")
        and file_fingerprints.fingerprint_files(files[2:]) == ""
    )
    CHANGES["larger, with its time"](root)
    larger = file_fingerprints.fingerprint_files(files)
    replaced(root)
    assert len({before, larger, file_fingerprints.fingerprint_files(files)}) == 3
