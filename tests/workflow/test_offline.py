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
    """A hub with one file, and an empty cache; the function gives the list of requests.

    A request is (method, path, whether `manifest`, which the function is given, was there).
    """
    content = (digits / "backbone.safetensors").read_bytes()
    digest, asked, watched = hashlib.sha256(content).hexdigest(), [], []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.path, watched[0].exists()))
            found = self.path == FILE
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{digest}"')
            self.end_headers()
            if found and self.command == "GET":
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

    def requests(manifest):
        watched.append(manifest)
        return asked

    yield requests
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
    asked = hub(manifest)
    checkout.snakemake("results/activations/digits/tiny/test/manifest.json")
    assert ("GET", FILE, False) in asked
    assert not [request for request in asked if request[-1]], (
        "asked after the weights were there"
    )
    digest = hashlib.sha256((digits / "backbone.safetensors").read_bytes()).hexdigest()
    listed = {"repo": REPO, "file": "model.safetensors", "sha256": digest}
    assert files.read_json(manifest) == {"backbone": "tiny", "files": [listed]}
