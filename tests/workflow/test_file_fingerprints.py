"""A fingerprint of files changes with any of them, and costs nothing if not needed."""

import os
import shutil
from types import SimpleNamespace

import pytest
from sae_workflow import file_fingerprints


def fingerprint(root, has_images=True, **spec):
    """Return the fingerprint of a dataset's images, below a root, as they are now."""
    file_fingerprints._fingerprint_folder.cache_clear()
    spec = {"root": str(root), **spec}
    dataset = SimpleNamespace(spec=spec, has_images=has_images)
    return file_fingerprints.fingerprint_images(dataset)


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
    before = fingerprint(root)
    assert before == fingerprint(root) and before.startswith("3 files ")
    shutil.copytree(root, root.parent / "copy", symlinks=True)
    (root.parent / "copy/train/loop").unlink()
    # The same names, sizes and times elsewhere.
    assert fingerprint(root.parent / "copy") == before
    CHANGES[change](root)
    assert fingerprint(root) != before


def test_nothing_is_listed_where_nothing_is_followed(root):
    assert fingerprint(root, has_images=False) == ""
    assert fingerprint(root, download=True) == ""
    assert fingerprint(root / "none", download=True) == ""
    assert fingerprint(root / "none").startswith("0 files")


def test_single_files_are_told_apart_as_images_are(root):
    files = [str(root / name) for name in ("train/a.png", "b.tar", "gone")]
    os.utime(root / "b.tar", (1, 1))
    before = file_fingerprints.fingerprint_files(files)
    assert before == file_fingerprints.fingerprint_files(files)
    assert before.startswith("2 files ")
    assert file_fingerprints.fingerprint_files(files[2:]) == ""
    CHANGES["larger, with its time"](root)
    larger = file_fingerprints.fingerprint_files(files)
    replaced(root)
    assert len({before, larger, file_fingerprints.fingerprint_files(files)}) == 3
