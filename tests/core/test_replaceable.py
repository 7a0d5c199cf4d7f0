"""What is written replaces a file or nothing: no link, pipe, device or folder."""

import os
from pathlib import Path

import pytest
from support.errors import refused_naming

from sae.__main__ import main
from sae.core import files
from sae.core.errors import UserError
from sae.models.convert import check_output_path


def make(kind: str, path: Path) -> None:
    """Make a link to a file beside it, a broken link, a pipe or a folder."""
    if kind == "link":
        path.with_name("target").write_text("old")
        path.symlink_to("target")
    elif kind == "broken link":
        path.symlink_to("nothing")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_a_file_is_replaced(tmp_path, kind):
    out = tmp_path / "out"
    make(kind, out)
    before = out.lstat()
    with refused_naming(str(out), "name"):
        files.write_text(out, "new")
    # Before anything is computed, where a command takes long.
    with refused_naming(str(out), "name"):
        check_output_path(out)
    assert os.path.samestat(out.lstat(), before)
    assert sorted(tmp_path.iterdir())[0] == out


def test_a_device_stays_a_device(tmp_path):
    with refused_naming("/dev/null", "device"):
        check_output_path("/dev/null")


def test_a_link_may_be_replaced_by_a_link(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("old")
    with files.atomic_file(link) as temporary:
        temporary.symlink_to("new")
    assert os.readlink(link) == "new"


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_replaces_a_file_alone(tmp_path, kind, capfd):
    log = tmp_path / "step.log"
    make(kind, log)
    before = log.lstat()
    assert main(["embed", "--log", str(log)]) == 1
    assert f"error: {log} is a" in capfd.readouterr().err
    assert os.path.samestat(log.lstat(), before)


def test_a_folder_replaces_a_folder_alone(tmp_path):
    file = tmp_path / "out"
    file.write_text("mine")
    with (
        pytest.raises(UserError, match="no folder"),
        files.atomic_directory(file, replace=True),
    ):
        pass
    assert file.read_text() == "mine"
