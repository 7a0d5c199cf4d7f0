"""Every bench runs, at a tiny size; what it measures then means nothing."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


# They read what a run made; tests of their own give them some.
OF_RESULTS = {
    "agree.py",
    "decisive.py",
    "draws.py",
    "frequency.py",
    "mask.py",
    "pilot.py",
    "rate.py",
    "reference.py",
    "sizes.py",
}

# They count the code itself, and have no size; tests of their own run them.
OF_CODE = {"readability.py"}


@pytest.mark.parametrize(
    "bench",
    sorted(
        {file.name for file in (ROOT / "bench").glob("[a-z]*.py")}
        - OF_RESULTS
        - OF_CODE
    ),
)
def test_a_bench_runs(bench, tmp_path):
    out = (
        ["--out", tmp_path]
        if 'add_argument("--out"' in (ROOT / "bench" / bench).read_text()
        else []
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "workflow")])
    done = subprocess.run(
        [sys.executable, f"bench/{bench}", "--tiny", *map(str, out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stdout + done.stderr
