"""A run that is told to stop, at any moment and more than once, by Ctrl-C or SIGTERM.

It says in one line what is kept, ends with all its jobs, and the next run can start.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.workflow
ROOT = Path(__file__).parents[2]
STOP_LINE = (
    "stopped by {}: running jobs end now. What is finished is kept, down to each SAE "
    "and batch of embeddings; run the same command again to go on."
)
RUN = [sys.executable, "-m", "sae_workflow.run", "tiny"]
# `make run`, without a setup of its own.
MAKE = ["make", "-f", ROOT / "Makefile", "-o", "setup", "run", "EXPERIMENT=tiny"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, digits):
    from conftest import Checkout

    return Checkout(tmp_path_factory.mktemp("interrupted"), digits)


def with_default_signals():
    """Let a process that starts take signals, also where the tests ignore them.

    A shell lets what it starts in the background ignore SIGINT, and nohup SIGHUP.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def with_sigint_ignored():
    """Let a process that starts ignore SIGINT, as in the background of a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def start(checkout, command, dispositions=with_default_signals):
    """Start a command in a checkout, in a session of its own."""
    return checkout.start(*command, start_new_session=True, preexec_fn=dispositions)


def wait_for(moment, checkout, process):
    while not moment(checkout.folder):
        assert process.poll() is None, "finished before it could be stopped"
        time.sleep(0.005)


def processes_of_session(session):
    """Return the commands of a session's processes that have not ended."""
    commands = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session:
                commands.append(process.cmdline())
        except (psutil.Error, ProcessLookupError):
            continue
    return commands


def check_stopped(process, name, code):
    """Check what a run that is told to stop says, and that all of it ends."""
    output = process.communicate()[0]
    line = STOP_LINE.format(name)
    assert process.returncode == code, output
    from_snakemake = [text for text in output.splitlines() if "make: ***" not in text]
    assert output.count(line) == 1 and from_snakemake[-1] == line, output
    assert "Traceback" not in output and "python -m sae" not in output, output
    assert "failed" not in output and "error:" not in output.lower(), output
    assert processes_of_session(process.pid) == []


def starts(folder):
    time.sleep(0.3)
    return True


def plans(folder):
    return any(folder.glob(".snakemake/alive-*"))


def starts_its_first_job(folder):
    return (folder / "results/logs/dataset").exists()


def trains(folder):
    return any(folder.glob("results/store/saes/[0-9a-f]*"))


# Each goes on where the one before it was stopped.
@pytest.mark.parametrize(
    ("moment", "times"),
    [
        (starts, 1),
        pytest.param(plans, 2, marks=pytest.mark.slow),
        pytest.param(starts_its_first_job, 1, marks=pytest.mark.slow),
        pytest.param(trains, 3, marks=pytest.mark.slow),
    ],
)
def test_one_line_says_what_is_kept_and_the_next_run_can_start(checkout, moment, times):
    process = start(checkout, RUN)
    wait_for(moment, checkout, process)
    for _ in range(times):  # A terminal sends them to all processes.
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    check_stopped(process, "Ctrl-C", 128 + signal.SIGINT)
    assert not any((checkout.folder / ".snakemake/locks").glob("*"))


@pytest.mark.slow
def test_then_the_run_goes_on(checkout):
    inode_by_sae = {
        file: file.stat().st_ino
        for file in checkout.folder.glob("results/store/saes/[0-9a-f]*/sae.safetensors")
    }
    output = checkout.snakemake("tiny", "--until", "train")
    assert inode_by_sae and "is gone" not in output and "found in the store" in output
    assert {file: file.stat().st_ino for file in inode_by_sae} == inode_by_sae


def scores(folder):
    return any(folder.glob("results/tiny/logs/score/digits/tiny/*"))


@pytest.mark.parametrize(
    ("command", "is_group", "number", "code"),
    [
        pytest.param(
            MAKE, False, signal.SIGTERM, -signal.SIGTERM, marks=pytest.mark.slow
        ),
        pytest.param(
            RUN, False, signal.SIGINT, 128 + signal.SIGINT, marks=pytest.mark.slow
        ),
        pytest.param(
            RUN, True, signal.SIGTERM, 128 + signal.SIGTERM, marks=pytest.mark.slow
        ),
        pytest.param(
            RUN, True, signal.SIGHUP, 128 + signal.SIGHUP, marks=pytest.mark.slow
        ),
    ],
    ids=["make alone", "run alone", "all its processes", "the terminal is closed"],
)
def test_a_run_told_to_end_ends_with_its_jobs(
    checkout, command, is_group, number, code
):
    log = checkout.folder / "results/tiny/logs/score/digits/tiny/k4.log"
    log.unlink(missing_ok=True)
    process = start(checkout, command)
    wait_for(scores, checkout, process)
    send_signal = os.killpg if is_group else os.kill
    send_signal(process.pid, number)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    check_stopped(process, name, code)
    # The job did not go on to its end, and no other one began.
    assert not (checkout.folder / "results/tiny/metrics.parquet").exists()
    assert not any((checkout.folder / ".snakemake/locks").glob("*"))


@pytest.mark.slow
def test_a_run_in_the_background_of_a_script_ignores_ctrl_c_and_takes_sigterm(checkout):
    log = checkout.folder / "results/tiny/logs/score/digits/tiny/k4.log"
    log.unlink(missing_ok=True)
    process = start(checkout, MAKE, with_sigint_ignored)
    wait_for(plans, checkout, process)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(scores, checkout, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    check_stopped(process, "SIGTERM", -signal.SIGTERM)
    assert not (checkout.folder / "results/tiny/metrics.parquet").exists()
    assert not any((checkout.folder / ".snakemake/locks").glob("*"))


@pytest.mark.parametrize(
    ("command", "imported", "number"),
    [
        ("sae_workflow.run tiny", "sae_workflow.check", signal.SIGINT),
        ("sae_workflow.run tiny", "sae_workflow.check", signal.SIGTERM),
        ("sae leaderboard nowhere", "sae.core.extension_failures", signal.SIGINT),
        ("sae leaderboard nowhere", "sae.core.extension_failures", signal.SIGTERM),
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
    process = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        preexec_fn=with_default_signals,
        text=True,
    )
    assert process.returncode == 128 + number, process.stderr
    assert len(process.stderr.splitlines()) == 1 and "stop" in process.stderr


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_while_python_ends_leaves_the_exit_code(first):
    # What a module holds is finalized after Python has dropped its handlers.
    script = f"""
import os, signal
from sae_workflow import stop_signals
class Finalized:
    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGINT):
        kill(own, number)
held_to_the_end = Finalized()
stop_signals.stop_in_one_line()
os.kill(os.getpid(), {first:d})
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        preexec_fn=with_default_signals,
        text=True,
    )
    assert process.returncode == 128 + first, process.stderr
