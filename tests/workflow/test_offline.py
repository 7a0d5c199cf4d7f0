"""Weights on the hub come to the machine that runs Snakemake; the jobs ask nobody."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sae.core import files

pytestmark = pytest.mark.slow

REPO = "timm/test_efficientnet.r160_in1k"
FILE = f"/{REPO}/resolve/main/model.safetensors"


@pytest.fixture
def hub(digits, monkeypatch, tmp_path):
    """Serve a hub of one file, beside an empty cache.

    Returns:
        A function that is given a manifest to watch, and returns the list of requests:
        of each its method, its path, and whether the manifest was there already.
    """
    content = (digits / "backbone.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    requests = []
    watched = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append((self.command, self.path, watched[0].exists()))
            is_there = self.path == FILE
            self.send_response(200 if is_there else 404)
            self.send_header("Content-Length", str(len(content) if is_there else 0))
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{digest}"')
            self.end_headers()
            if is_there and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def watch(manifest):
        watched.append(manifest)
        return requests

    yield watch
    server.shutdown()
    server.server_close()


def test_only_the_local_rule_asks_the_hub(make_checkout, hub, digits):
    checkout = make_checkout()
    checkout.config["backbones"]["tiny"] = {
        "loader": "timm",
        "family": "tiny",
        "model": REPO.removeprefix("timm/"),
    }
    checkout.write()
    manifest = checkout.folder / "results/weights/tiny.json"
    requests = hub(manifest)
    checkout.snakemake("results/activations/digits/tiny/test/manifest.json")
    assert ("GET", FILE, False) in requests
    late_requests = [request for request in requests if request[-1]]
    assert not late_requests, "asked after the weights were there"
    digest = hashlib.sha256((digits / "backbone.safetensors").read_bytes()).hexdigest()
    listed = {"repo": REPO, "file": "model.safetensors", "sha256": digest}
    assert files.read_json(manifest) == {"backbone": "tiny", "files": [listed]}
