"""Prove whether a Snakemake process of this folder, or a job of one, is alive.

Snakemake's own lock is a file without an owner: after a SIGKILL nobody can tell whether it is stale. So every Snakemake
process, and every job that it starts here, holds a shared flock on `.snakemake/alive-{host}`, which the kernel drops
when the process ends, however it ends. Jobs in a Slurm queue hold none: their node is another machine, and they outlive
a killed Snakemake. `end_orphans` finds them in the queue.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

from sae.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held = []
_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def alive_file():
    """The lock file of this machine: a flock may not be seen from another one."""
    return f".snakemake/alive-{socket.gethostname()}"


def hold():
    """Hold the lock until this process ends. Where the file system has no locks, nothing can be proven later."""
    if fcntl is None:
        return
    try:
        Path(".snakemake").mkdir(exist_ok=True)
        file = open(alive_file(), "a")  # noqa: SIM115 (held until exit)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return
    _held.append(file)


def shell_prefix():
    """What makes a job's shell, and all that it starts, hold the lock too, unless it is in a Slurm queue."""
    file = f"'{alive_file()}'"
    here = f'[ -z "${{{{SLURM_JOB_ID:-}}}}" ] && command -v flock >/dev/null && [ -e {file} ]'
    return f"set -euo pipefail; if {here}; then exec 9<{file}; flock -s 9; fi; "


def owner_is_gone():
    """Whether it is proven that no process holds the lock: (bool, why not)."""
    here = Path(alive_file())
    if fcntl is None or not here.exists():
        return False, "nothing on this machine recorded its owner"
    with open(here) as file:
        return _alone(file)


def _alone(file):
    """Whether nobody but `file`, open on this machine's lock file, can hold the lock."""
    here = Path(alive_file()).name
    others = sorted(f.name.removeprefix("alive-") for f in Path(".snakemake").glob("alive-*") if f.name != here)
    if others:
        return False, f"it may be of {', '.join(others)}, which cannot be seen from here"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False, "another Snakemake, or a job of a killed one, is running here"
    except OSError as error:
        return False, f"this file system cannot tell ({os.strerror(error.errno)})"
    return True, ""


def end_orphans():
    """Cancel the Slurm jobs that a killed Snakemake of this folder left, and wait until they are gone.

    To be called when a run starts, before it submits anything: what this folder then has in the queue is of an earlier
    run, and would write the very files that this one is about to make. Where another run may be alive, nothing is
    cancelled.

    Raises:
        UserError: they do not end.
    """
    jobs = queued()
    if not jobs:
        return
    alone, why = _alone(_held[0]) if _held else (False, "this file system has no locks")
    if _held:
        fcntl.flock(_held[0], fcntl.LOCK_SH)  # Shared again: this run's own jobs are to hold it too.
    if not alone:
        print(f"Slurm jobs {', '.join(jobs)} of another run of this folder: {why}. If it is gone, scancel them.")
        return
    print(f"A killed run left Slurm jobs {', '.join(jobs)}: cancelling them. What they finished is kept.", flush=True)
    subprocess.run(["scancel", *jobs], check=False, timeout=60)
    for _ in range(120):
        if not queued():
            return
        time.sleep(1)
    raise UserError(f"Slurm jobs {', '.join(jobs)} of a killed run do not end; try again when they have")


def queued():
    """The Slurm jobs that a Snakemake of this folder and user submitted and that have not ended."""
    if not (Path(".snakemake/slurm_logs").exists() and shutil.which("squeue")):
        return []
    command = ["squeue", "--me", "--noheader", "--format=%A|%j|%k|%Z"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()
    rows = [line.split("|", 3) for line in listed]
    # Snakemake names its jobs by the run and says the rule in the comment: a job of the user's own is none of these.
    return [
        r[0] for r in rows if len(r) == 4 and _RUN.search(r[1]) and r[2].startswith("rule_") and r[3] == os.getcwd()
    ]
