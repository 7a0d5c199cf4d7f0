"""Killed at any moment, taken up again: nothing is lost and nothing half-written is taken for a result."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.workflow


def kill_tree(process):
    """SIGKILL a process and all its descendants, as a power cut would."""
    parent = psutil.Process(process.pid)
    for victim in [parent, *parent.children(recursive=True)]:
        victim.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_at_any_moment_the_rerun_gives_the_same_bytes(make_checkout):
    undisturbed, killed = make_checkout("undisturbed"), make_checkout("killed")
    undisturbed.snakemake("tiny")
    run = [sys.executable, "workflow/run.py", "tiny"]
    results = killed.folder / "results"
    moments = [
        lambda: (results / "datasets/digits/manifest.json").exists(),
        lambda: (
            list(results.glob("activations/digits/tiny/.*/*")) or list(results.glob("activations/**/embeddings.npy"))
        ),
        lambda: len(list(results.glob("store/saes/[0-9a-f]*"))) >= 2,
        lambda: (results / "tiny/scores/digits/tiny/k4/scores.parquet").exists(),
    ]
    for moment in moments:
        process = subprocess.Popen(
            run, cwd=killed.folder, env=killed.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not moment() and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, "finished before it could be killed"
        kill_tree(process)
    done = subprocess.run(run, cwd=killed.folder, env=killed.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its owner is gone: unlocking" in done.stdout
    assert killed.results() == undisturbed.results()
    assert not [f for f in results.rglob("*.tmp") if f.is_file() and f.suffix == ".safetensors"]


def test_a_live_owner_is_an_error_and_is_left_alone(make_checkout):
    checkout = make_checkout()
    process = subprocess.Popen(
        checkout.command("tiny"), cwd=checkout.folder, env=checkout.environment, stdout=subprocess.DEVNULL
    )
    while not list(checkout.folder.glob(".snakemake/locks/*.lock")):
        time.sleep(0.01)
    run = [sys.executable, "workflow/run.py", "tiny"]
    second = subprocess.run(run, cwd=checkout.folder, env=checkout.environment, capture_output=True, text=True)
    assert second.returncode == 1
    assert "error: this folder is locked by a run: another Snakemake is running here" in second.stderr
    assert process.wait() == 0
