"""Every bench runs at a tiny size, and pages name commands that are there."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

MEASURED = ("step", "fvu", "embed", "growth")
TINY_RUNS = [
    ("judging.py",),
    *(("performance.py", name) for name in MEASURED),
]
# {script: its commands}
COMMANDS = {
    "performance.py": {*MEASURED},
    "reference.py": {"keep", "rebuild"},
}
# What a page prints of a bench, with what stands behind.
PRINTED = re.compile(r"bench/(\w+\.py)(?: ([a-z][\w-]*))?(?=(.{0,200}))")
COMMIT = re.compile(r"\bat commit ([0-9a-f]{7,})")


@pytest.mark.slow
@pytest.mark.parametrize("words", TINY_RUNS, ids=" ".join)
def test_a_bench_runs(words, tmp_path):
    script, *options = words
    options.append("--tiny")
    if script == "performance.py":
        options += ["--out", tmp_path]
    process = subprocess.run(
        [sys.executable, f"bench/{script}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.strip()
    if script == "performance.py":
        assert (tmp_path / f"{options[0]}.csv").exists()


def printed_commands():
    """Yield (page, script, command, commit or None) of what pages and configs print."""
    folders = [ROOT / name for name in ("docs", "config", "workflow")]
    texts = [path for folder in folders for path in folder.rglob("*.md")]
    texts += [path for folder in folders for path in folder.rglob("*.yaml")]
    texts += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
    for path in texts:
        words = " ".join(path.read_text(encoding="utf-8").split())
        for script, command, rest in PRINTED.findall(words):
            # A command that is gone has its commit before the next one is named.
            commit = COMMIT.search(rest.partition("bench/")[0])
            yield path, script, command, commit and commit[1]


def test_a_command_that_is_printed_is_there_or_its_commit_is_named():
    for path, script, command, commit in printed_commands():
        if commit is None:
            assert (ROOT / "bench" / script).exists(), (path, script)
            there = {"", *COMMANDS.get(script, {command})}
            assert command in there, (path, script, command)
            continue
        file = f"{commit}:bench/{script}"
        found = subprocess.run(["git", "cat-file", "-e", file], cwd=ROOT)
        has_history = subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT)
        assert found.returncode == 0 or has_history.returncode, (path, file)
