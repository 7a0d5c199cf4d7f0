"""The library works alone: its wheel, without the workflow's engine.

The wheel is installed into an empty environment.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits

import sae
from sae.models import saefile
from sae.models.coder import Coder
from sae.models.inputs import unit_rows

# It installs all anew, by a network that may be slow.
pytestmark = [pytest.mark.libraries, pytest.mark.timeout(3600)]
USE = """
import importlib.metadata, importlib.util, json, sys
import numpy as np
import sae
from sae.__main__ import main

assert importlib.util.find_spec("snakemake") is None
assert not sae.__file__.startswith(sys.argv[1]), sae.__file__
assert importlib.metadata.version("image-sae-bench") == sae.__version__
x, labels = np.load("x.npy"), np.load("labels.npy")
loaded = sae.load("sae.safetensors")
assert main(["export", "sae.safetensors", "--format", "saelens", "--out", "theirs"]) == 0
assert main(["import", "theirs", "--out", "back.safetensors", "--check", "x.npy"]) == 0
assert main(["encode", "--sae", "back.safetensors", "--source", "x.npy", "--out", "codes.parquet"]) == 0
assert main(["explore", "--sae", "theirs", "--activations", "x.npy", "--out", "site"]) == 0
card = ["card", "--sae", "sae.safetensors", "--activations", "x.npy", "--quick"]
assert main(card) == 0
back = sae.load("back.safetensors").encode(x)
print(json.dumps({"same": bool((back.indices == loaded.encode(x).indices).all()),
                  "scores": sae.score(loaded, x, labels=labels)}))
"""


def test_the_wheel_loads_encodes_imports_exports_explores_scores_and_cards(tmp_path):
    environment = tmp_path / "env"
    python = environment / "bin/python"
    run_python(sys.executable, "-m", "venv", environment)
    # A copy: a build leaves its folder there, which a later build would take files
    # from.
    source = tmp_path / "source"
    for package in (
        "sae",
        "workflow/sae_workflow",
        "workflow/snakemake_logger_plugin_sae",
    ):
        shutil.copytree(ROOT / package, source / package)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run_python(sys.executable, "-m", *build, "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("image_sae_bench-*.whl")
    # The versions that are tested: the lock has the library's own requirements.
    lock = ROOT / "requirements.lock"
    run_python(python, "-m", "pip", "install", "--quiet", "-c", lock, wheel)

    images, labels = load_digits(return_X_y=True)
    embeddings = images[:600].astype(np.float32)
    labels = labels[:600]
    np.save(tmp_path / "x.npy", embeddings)
    np.save(tmp_path / "labels.npy", labels)
    untrained = Coder(64, 16, 4, input_norm="unit_l2", metadata={"method": "topk"})
    untrained.initialise(torch.from_numpy(unit_rows(embeddings).mean(axis=0)), 0)
    sae_file = tmp_path / "sae.safetensors"
    saefile.save(untrained, sae_file)
    output = run_python(python, "-c", USE, str(ROOT), cwd=tmp_path)
    assert "assets/" in (tmp_path / "site/index.html").read_text()
    printed = json.loads(output.splitlines()[-1])
    assert printed["same"]
    expected_scores = sae.score(sae.load(sae_file), embeddings, labels)
    assert printed["scores"] == pytest.approx(expected_scores)
    assert "is below tuned Top-k in MS." in output
    page = (tmp_path / "card/index.html").read_text()
    assert "below tuned Top-k" in page and "<svg" in page


def run_python(*command, cwd=None):
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout
