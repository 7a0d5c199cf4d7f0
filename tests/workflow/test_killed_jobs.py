"""A job that the kernel kills, where memory runs out, says so and what to set."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from sae_workflow import killed_jobs, run_progress, stop_signals

from sae.steps import STEPS

# A Python whose steps are killed, and which is the real one for all else.
PYTHON = """#!/bin/sh
if [ "$2" = sae ]; then
  echo "a line of progress" >&2
  kill -KILL $$
fi
exec {python} "$@"
"""


def run_shell(command, into_log, programs):
    """Run a command as a job's shell does.

    Args:
        command: The command.
        into_log: Whether errors go into the job's log alone.
        programs: A folder of programs that come before all others.
    """
    prefix = f"set -euo pipefail; {stop_signals.shell_prefix(into_log)}"
    return subprocess.run(
        ["bash", "-c", f"{prefix}{command}"],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def run_job(tmp_path, into_log):
    """Run a job's shell whose Python is killed; return its log and what it printed."""
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(python=shlex.quote(sys.executable)))
    python.chmod(0o755)
    log = tmp_path / "k8.log"
    log.touch()
    command = f"python -m sae train --bank x --log {log}"
    process = run_shell(command, into_log, python.parent)
    assert process.returncode == 128 + signal.SIGKILL
    return log, process.stderr


@pytest.mark.parametrize("into_log", [True, False], ids=["live view", "snakemake"])
def test_its_shell_says_that_it_was_killed_and_what_to_set(tmp_path, into_log):
    log, printed = run_job(tmp_path, into_log)
    line = f"error: {killed_jobs.explain_kill('train')}"
    assert "memory ran out" in line and STEPS["train"].memory in line
    assert run_progress.error_in_logs([log]) == [line]
    assert printed.count(line) == (0 if into_log else 1)


def test_its_shell_says_nothing_of_what_a_closed_terminal_ends_before_python(tmp_path):
    env = tmp_path / "env"
    # Under nohup the signal is ignored, and `env` ends with its code alone.
    env.write_text("#!/bin/bash\nkill -HUP $$\nexit 129\n")
    env.chmod(0o755)
    process = run_shell("python -c 'print(1)'", True, tmp_path)
    assert (process.returncode, process.stdout, process.stderr) == (0, "1\n", "")


@pytest.mark.workflow
@pytest.mark.slow
def test_a_job_that_is_killed_with_its_shell_is_told_of_without_its_command(
    make_checkout,
):
    checkout = make_checkout()
    words = ("-m", "sae_workflow.run", "tiny", "--until", "embed")
    process = checkout.start(*words)
    jobs = []
    while not jobs:
        assert process.poll() is None, "finished before it could be killed"
        jobs = [job for job in processes_below(process) if is_step(job, "embed")]
        time.sleep(0.01)
    for job in [*(job.parent() for job in jobs), *jobs]:  # The shell first.
        job.kill()
    output = process.communicate()[0]
    assert process.returncode == 1
    assert f"embed digits/tiny failed: {killed_jobs.explain_kill('embed')}" in output
    assert "python -m sae" not in output and len(output.splitlines()) < 12, output


def processes_below(process):
    return psutil.Process(process.pid).children(recursive=True)


def is_step(process, step):
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return command[1:4] == ["-m", "sae", step] and Path(command[0]).name == "python"
