"""Downloads: verified, resumable, with one error that says why each source failed."""

import gzip
import hashlib
import http.server
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile

import pytest

from sae.core.errors import UserError
from sae.data import artifacts
from sae.data.fetch import fetch

CONTENT = b"the content of a pinned file"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path):
    """Run a web server on the loopback address.

    Yields its address, its folder and the list of requests.
    """
    folder = tmp_path / "www"
    requests = []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *arguments):
            requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}", folder, requests
        http_server.shutdown()


def spec(*sources, digest=DIGEST):
    return {
        "version": "1",
        "licence": "MIT",
        "citation": "C",
        "files": {"a.bin": digest},
        "sources": list(sources),
    }


def test_second_source_serves_a_packed_file_and_nothing_is_fetched_twice(
    server, tmp_path
):
    address, folder, requests = server
    (folder / "a.bin.gz").write_bytes(gzip.compress(CONTENT))
    two_sources = spec(
        {"url": f"{address}/missing/{{file}}"}, {"url": f"{address}/{{file}}.gz"}
    )
    fetch("thing", two_sources, tmp_path / "store")
    assert artifacts.path(tmp_path / "store", "thing", "a.bin").read_bytes() == CONTENT
    assert artifacts.manifest(tmp_path / "store", "thing")["licence"] == "MIT"
    request_count = len(requests)
    fetch("thing", two_sources, tmp_path / "store")
    assert len(requests) == request_count
    assert sorted(f.name for f in (tmp_path / "store/thing").iterdir()) == [
        "a.bin",
        "artifact.json",
    ]


def test_when_all_fail_each_source_is_named_with_its_reason(server, tmp_path):
    address, folder, _ = server
    (folder / "a.bin").write_bytes(b"something else")
    sources = [
        {"url": f"{address}/{{file}}"},
        {"torchvision": "NoSuchDataset"},
        {"npm": "./no-such-folder@@"},
    ]
    with pytest.raises(UserError) as caught:
        fetch("thing", spec(*sources), tmp_path / "store")
    text = str(caught.value)
    assert (
        f"url {address}" in text
        and hashlib.sha256(b"something else").hexdigest() in text
        and DIGEST in text
    )
    assert "torchvision NoSuchDataset" in text and "npm ./no-such-folder@@" in text
    assert not list((tmp_path / "store/thing").iterdir())


def test_a_server_that_falls_silent_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("sae.data.fetch.MOST_SILENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        mirrors = "torchvision.datasets.FashionMNIST.mirrors"
        monkeypatch.setattr(mirrors, [f"{address}/"])
        with pytest.raises(UserError, match=r"torchvision FashionMNIST: .*timed out"):
            fetch("thing", spec({"torchvision": "FashionMNIST"}), tmp_path)
        with pytest.raises(UserError, match=r"`git` failed: .*too slow"):
            fetch("thing", git_spec(address, "0" * 40), tmp_path)
    assert socket.getdefaulttimeout() is None


def test_a_file_with_another_hash_is_an_error_that_shows_both(tmp_path):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing/a.bin").write_bytes(b"tampered")
    with pytest.raises(UserError) as caught:
        fetch("thing", spec(), tmp_path)
    assert hashlib.sha256(b"tampered").hexdigest() in str(
        caught.value
    ) and DIGEST in str(caught.value)


def test_a_wheel_of_another_hash_is_not_unpacked(tmp_path, monkeypatch):
    wheel = tmp_path / "links/thing-1-py3-none-any.whl"
    of_dist = "thing-1.dist-info"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("thing/a.bin", CONTENT)
        archive.writestr(
            f"{of_dist}/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1\n"
        )
        archive.writestr(
            f"{of_dist}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    source = {"wheel": "thing==1", "path": "thing/{file}"}
    with pytest.raises(UserError, match="the wheel thing==1 has no `sha256`"):
        fetch("thing", spec(source), tmp_path)
    unpack = zipfile.ZipFile.extractall
    monkeypatch.setattr(zipfile.ZipFile, "extractall", None)
    with pytest.raises(UserError, match=r"wheel thing==1: `.*` failed: .*(?i:hash)"):
        fetch("thing", spec(source | {"sha256": DIGEST}), tmp_path)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", unpack)
    fetch(
        "thing",
        spec(source | {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}),
        tmp_path,
    )
    assert artifacts.path(tmp_path, "thing", "a.bin").read_bytes() == CONTENT


def git(folder, *words):
    """Run git in a folder, and return what it says."""
    author = ["-c", "user.name=A", "-c", "user.email=a@b"]
    command = ["git", "-C", folder, *author, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    """A repository of three commits, of which the second has the pictures."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commits = []
    for text in ("before", "pinned", "after"):
        for name in ("train/a/1.png", "val/b/2.png", "other/3.png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{name} {text}")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", text)
        commits.append(git(folder, "rev-parse", "HEAD").strip())
    return folder, commits[1]


def git_spec(address, commit, digest=DIGEST):
    source = {"git": f"{address}@{commit}", "folders": ["train", "val"]}
    return spec(source, digest=digest) | {"files": {"photos.tar": digest}}


def digest_of_tar(repository, folder):
    """Return the hash of the tar that a first, refused attempt reports."""
    with pytest.raises(UserError, match=r"photos\.tar came with SHA-256") as caught:
        fetch("thing", git_spec(*repository), folder)
    return str(caught.value).partition("came with SHA-256 ")[2][:64]


def test_folders_of_one_commit_of_a_repository_become_a_tar(repository, tmp_path):
    digest = digest_of_tar(repository, tmp_path / "refused")
    fetch("thing", git_spec(*repository, digest), tmp_path / "store")
    with tarfile.open(
        artifacts.path(tmp_path / "store", "thing", "photos.tar")
    ) as archive:
        contents = {
            member.name: archive.extractfile(member).read()
            for member in archive
            if member.isfile()
        }
    assert contents == {
        "train/a/1.png": b"train/a/1.png pinned",
        "val/b/2.png": b"val/b/2.png pinned",
    }
    assert sorted(file.name for file in (tmp_path / "store/thing").iterdir()) == [
        "artifact.json",
        "photos.tar",
    ]


def test_a_clone_that_was_brought_is_read_instead_of_the_address(repository, tmp_path):
    upstream, commit = repository
    digest = digest_of_tar(repository, tmp_path / "refused")
    wanted = git_spec("https://127.0.0.1:9/owner/name", commit, digest)
    with pytest.raises(UserError) as caught:
        fetch("thing", wanted, tmp_path)
    text = str(caught.value)
    place = tmp_path / "thing/repository"
    assert "git clone --bare https://127.0.0.1:9/owner/name" in text
    assert commit in text and str(place) in text

    clones = {"bare": ["--bare"], "worktree": [], "shallow": ["--depth=2"]}
    for name, options in clones.items():
        clone = tmp_path / "clones" / name
        git(tmp_path, "clone", "--quiet", *options, f"file://{upstream}", clone)
        place.symlink_to(clone)
        fetch("thing", wanted, tmp_path)
        (tmp_path / "thing/photos.tar").unlink()
        place.unlink()


def test_a_clone_at_another_commit_or_altered_is_refused_by_name(repository, tmp_path):
    upstream, commit = repository
    wanted = git_spec("https://127.0.0.1:9/owner/name", commit)
    place = tmp_path / "thing/repository"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{upstream}", place)
    with pytest.raises(UserError, match=f"{place} did not give commit {commit}"):
        fetch("thing", wanted, tmp_path)
    shutil.rmtree(place)

    # One picture's content under the name of another's.
    shutil.copytree(upstream, place)
    first, second = (
        git(place, "rev-parse", f"{commit}:{path}").strip()
        for path in ("train/a/1.png", "val/b/2.png")
    )
    objects = place / ".git/objects"
    altered = objects / first[:2] / first[2:]
    altered.chmod(0o644)
    shutil.copyfile(objects / second[:2] / second[2:], altered)
    with pytest.raises(UserError, match=f"{place} did not give commit {commit}"):
        fetch("thing", wanted, tmp_path)
