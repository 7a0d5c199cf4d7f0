"""The library alone: its wheel in an empty environment, without the workflow's engine."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from scoring.examples import coder as make_coder

import sae
from sae.models import saefile

pytestmark = pytest.mark.libraries
USE = """
import importlib.util, json, sys
import numpy as np
import sae
from sae.__main__ import main

assert importlib.util.find_spec("snakemake") is None
assert not sae.__file__.startswith(sys.argv[1]), sae.__file__
x, labels = np.load("x.npy"), np.load("labels.npy")
loaded = sae.load("sae.safetensors")
assert main(["export", "sae.safetensors", "--format", "saelens", "--out", "theirs"]) == 0
assert main(["import", "theirs", "--out", "back.safetensors", "--check", "x.npy"]) == 0
assert main(["encode", "--sae", "back.safetensors", "--source", "x.npy", "--out", "codes.parquet"]) == 0
assert main(["explore", "--sae", "theirs", "--activations", "x.npy", "--out", "site"]) == 0
back = sae.load("back.safetensors").encode(x)
print(json.dumps({"same": bool((back.indices == loaded.encode(x).indices).all()),
                  "scores": sae.score(loaded, x, labels=labels)}))
"""


def test_the_wheel_loads_encodes_imports_exports_explores_and_scores(tmp_path):
    run = {"check": True, "capture_output": True, "text": True}
    python = tmp_path / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], **run)
    source = (
        tmp_path / "source"
    )  # A build leaves its folder there, which a later build would take files from.
    for part in (
        "sae",
        "workflow/sae_workflow",
        "workflow/snakemake_logger_plugin_sae",
    ):
        shutil.copytree(ROOT / part, source / part)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
        source,
    ]
    subprocess.run([sys.executable, *build], **run)
    (wheel,) = tmp_path.glob("sae-*.whl")
    # The versions that are tested: what the lock names of the library's own requirements.
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            ROOT / "requirements.lock",
            wheel,
        ],
        **run,
    )
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 6)).astype(np.float32))
    np.save(tmp_path / "labels.npy", rng.integers(3, size=60))
    saefile.save(make_coder(0, d=6, m=16, k=4), tmp_path / "sae.safetensors")
    done = subprocess.run([python, "-c", USE, str(ROOT)], cwd=tmp_path, **run)
    assert "assets/" in (tmp_path / "site/index.html").read_text()
    said = json.loads(done.stdout.splitlines()[-1])
    x, labels = (np.load(tmp_path / f"{name}.npy") for name in ("x", "labels"))
    here = sae.score(sae.load(tmp_path / "sae.safetensors"), x, labels)
    assert said["same"] and said["scores"] == pytest.approx(here)
