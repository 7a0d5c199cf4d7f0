"""Ctrl-C in a run, at any moment and more than once: one line that says what is kept, and the next run can start."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.workflow
SAID = (
    "stopped by Ctrl-C: jobs at work end now. What is finished is kept, to the SAE and the batch of embeddings; run "
    "the same again to go on."
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, digits):
    from conftest import Checkout

    return Checkout(tmp_path_factory.mktemp("interrupted"), digits)


def interrupted(checkout, moment, times):
    """What a run printed that got so many Ctrl-C, the first one at a moment; a terminal sends them to all processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sae_workflow.run", "tiny"],
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    while not moment(checkout.folder):
        assert process.poll() is None, "finished before it could be stopped"
        time.sleep(0.005)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGINT, said
    return said


# A run that starts, plans, embeds, and trains; each goes on where the one before it was stopped.
@pytest.mark.parametrize(
    ("moment", "times"),
    [
        (lambda folder: time.sleep(0.3) or True, 1),
        pytest.param(
            lambda folder: any(folder.glob(".snakemake/alive-*")),
            2,
            marks=pytest.mark.slow,
        ),
        (lambda folder: (folder / "results/logs/dataset").exists(), 1),
        (lambda folder: any(folder.glob("results/store/saes/[0-9a-f]*")), 3),
    ],
    ids=["starts", "plans", "its first job starts", "trains"],
)
def test_one_line_says_what_is_kept_and_the_next_run_can_start(checkout, moment, times):
    said = interrupted(checkout, moment, times)
    assert said.count(SAID) == 1 and said.strip().endswith(SAID), said
    assert "Traceback" not in said and "error" not in said.lower(), said
    assert not any((checkout.folder / ".snakemake/locks").glob("*"))


def test_then_the_run_goes_on(checkout):
    kept = {
        file: file.stat().st_ino
        for file in checkout.folder.glob("results/store/saes/[0-9a-f]*/sae.safetensors")
    }
    output = checkout.snakemake("tiny", "--until", "train")
    assert kept and "is gone" not in output and "found in the store" in output
    assert {file: file.stat().st_ino for file in kept} == kept


@pytest.mark.parametrize(
    ("command", "imported", "number"),
    [
        ("sae_workflow.run tiny", "sae_workflow.check", signal.SIGINT),
        ("sae board nowhere", "sae.core.own", signal.SIGINT),
        ("sae board nowhere", "sae.core.own", signal.SIGTERM),
    ],
)
def test_a_signal_within_an_import_is_not_lost(command, imported, number, tmp_path):
    # Python drops what a finalizer raises, and every import has one.
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), {number:d})
class Finder:
    def find_spec(name, *_):
        if name == {imported!r}:
            Finalized()
sys.meta_path.insert(0, Finder)
""")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 128 + number, process.stderr
    assert len(process.stderr.splitlines()) == 1 and "stop" in process.stderr
