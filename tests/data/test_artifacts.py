"""Downloads: verified, resumable, with one error that says why each source failed."""

import gzip
import hashlib
import http.server
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


def test_an_unknown_kind_lists_those_there_are(tmp_path):
    with pytest.raises(
        UserError, match="one kind of url, wheel, npm, apt, deb, torchvision"
    ):
        fetch("thing", spec({"ftp": "x"}), tmp_path)
