"""A run that is killed at any moment loses nothing, and takes no half for a result."""

import contextlib
import signal
import time

import psutil
import pytest

pytestmark = pytest.mark.workflow


def kill_tree(process):
    """Kill a process and all its descendants at once, as a power cut would."""
    parent = psutil.Process(process.pid)
    for victim in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_at_any_moment_the_rerun_gives_the_same_bytes(make_checkout):
    undisturbed = make_checkout("undisturbed")
    killed = make_checkout("killed")
    undisturbed.snakemake("tiny", "--until", "score")
    run = ("-m", "sae_workflow.run", "tiny", "--until", "score")
    root = killed.folder / "results"

    def has_listed_images():
        return (root / "datasets/digits/manifest.json").exists()

    def embeds():
        has_parts = any(root.glob("activations/digits/tiny/.*/*"))
        return has_parts or any(root.glob("activations/**/embeddings.npy"))

    def has_trained_two():
        return len(list(root.glob("store/saes/[0-9a-f]*"))) >= 2

    def has_scored():
        return (root / "tiny/scores/digits/tiny/k4/score/metrics.parquet").exists()

    for moment in (has_listed_images, embeds, has_trained_two, has_scored):
        process = killed.start(*run)
        while not moment() and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, "finished before it could be killed"
        kill_tree(process)
    rerun = killed.run(*run)
    assert rerun.returncode == 0, rerun.stdout + rerun.stderr
    assert "its owner is gone: unlocking" in rerun.stdout
    assert killed.results() == undisturbed.results()
    # What the kills left half-written was swept away.
    assert not list(root.rglob("*.tmp"))


def is_embedding(process):
    try:
        return "embed" in process.cmdline()
    except psutil.Error:  # It ended in the meantime.
        return False


@pytest.mark.slow
def test_a_live_owner_or_orphaned_job_is_an_error_and_is_left_alone(make_checkout):
    checkout = make_checkout()
    process = checkout.start(*checkout.command("tiny"))
    run = ("-m", "sae_workflow.run", "tiny", "--until", "embed")

    def check_that_a_second_run_is_refused():
        second = checkout.run(*run)
        assert (second.returncode, second.stdout) == (1, "")
        assert (
            "error: this folder is locked by a run: "
            "another Snakemake, or a job of a killed one"
        ) in second.stderr

    jobs = []
    while not jobs:
        assert process.poll() is None, "finished before it was seen at work"
        jobs = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if is_embedding(child)
        ]
        time.sleep(0.01)
    # Held where it is, so that it cannot end before it was asked about.
    for job in jobs:
        job.suspend()
    check_that_a_second_run_is_refused()
    process.kill()  # Snakemake alone: its job lives on.
    process.wait()
    check_that_a_second_run_is_refused()
    for job in jobs:
        job.resume()
    psutil.wait_procs(jobs)
    rerun = checkout.run(*run)
    assert rerun.returncode == 0, rerun.stdout + rerun.stderr
