"""Prove whether a Snakemake process of this folder, or a job of one, is alive.

Snakemake's own lock is a file without an owner: after a SIGKILL nobody can tell whether
it is stale. So every Snakemake, and every job that it starts on its own machine, holds
a shared flock on `.snakemake/alive-{host}`, which the kernel drops when the process
ends, however it ends. A run that ends by itself removes the file. Jobs in a Slurm queue
hold none: their node is another machine, and they outlive a killed Snakemake.
`end_orphans` finds them in the queue.

Where functions here return or give an obstacle, it is a text that says why it is not
proven that no process is alive; None says that it is proven.
"""

import atexit
import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sae.core.errors import UserError
from sae_workflow.command_line import say

# The lock file while this process holds it, open; at most one.
_held_files: list[IO[str]] = []
# How Snakemake names its Slurm jobs: by a random UUID of the run.
_NAME_OF_SLURM_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
SECONDS_TO_CANCEL = 120
# Obstacles.
NO_OWNER = "nothing on this machine recorded its owner"
NO_LOCKS = "this file system cannot tell"
RUNNING = "another Snakemake, or a job of a killed one, is running here"


def alive_file() -> str:
    """Return the lock file of this machine.

    Each machine has its own, since a flock may not be seen from another one.
    """
    return f".snakemake/alive-{socket.gethostname()}"


def hold() -> None:
    """Hold the lock until this process ends.

    Where the file system has no locks, nothing is held, and nothing can be proven
    later.
    """
    with suppress(OSError):
        Path(".snakemake").mkdir(exist_ok=True)
        while True:
            # Held until exit. Network file systems want the file readable too.
            file = open(alive_file(), "a+")  # noqa: SIM115
            fcntl.flock(file, fcntl.LOCK_SH)
            # Another run may have removed the file in between.
            if _is_lock_file(file):
                _held_files.append(file)
                atexit.register(_release)
                return
            file.close()


def _release() -> None:
    # Another run, or a job of a killed one, may hold the lock too.
    if _lock_alone(_held_files[0]) is None:
        Path(alive_file()).unlink(missing_ok=True)


def shell_prefix() -> str:
    """Return what lets the shell of a job, and what it starts, hold the lock too."""
    file = f"'{alive_file()}'"
    can_hold = f"command -v flock >/dev/null && [ -e {file} ]"
    take = f"exec 9<{file}; flock -s 9 || true"
    return f"set -euo pipefail; if {can_hold}; then {take}; fi; "


@contextmanager
def alone(make_file: bool = False) -> Iterator[str | None]:
    """Let no run start on this machine while this is held; give the obstacle, if any.

    Args:
        make_file: Whether the lock file is made for the time if there is none. Without
            it a run that starts meanwhile is not held off.
    """
    path = Path(alive_file())
    while True:
        is_made_here = make_file and not path.exists()
        if is_made_here:
            path.parent.mkdir(exist_ok=True)
        try:
            file = open(path, "a+" if make_file else "r+")  # noqa: SIM115
        except FileNotFoundError:
            yield NO_OWNER
            return
        with file:
            obstacle = _lock_alone_on_all_machines(file)
            # Another process may have removed the file in between.
            if obstacle is None and not _is_lock_file(file):
                continue
            try:
                yield obstacle
            finally:
                if is_made_here and obstacle in (None, NO_LOCKS):
                    path.unlink(missing_ok=True)
            return


def _is_lock_file(file: IO[str]) -> bool:
    """Say whether an open file is the lock file that this folder has now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(alive_file()))
    return False


def obstacle_to_unlocking() -> str | None:
    """Return the obstacle, if any process may hold the lock."""
    with alone() as obstacle:
        return obstacle


def _lock_alone_on_all_machines(file: IO[str]) -> str | None:
    """Take the lock alone, and return the obstacle, also if it is another machine's.

    Args:
        file: The lock file of this machine, open.
    """
    name = Path(alive_file()).name
    other_hosts = sorted(
        lock_file.name.removeprefix("alive-")
        for lock_file in Path(".snakemake").glob("alive-*")
        if lock_file.name != name
    )
    if other_hosts:
        return f"it may be of {', '.join(other_hosts)}, which cannot be seen from here"
    return _lock_alone(file)


def _lock_alone(file: IO[str]) -> str | None:
    """Take the lock of this machine alone, and return the obstacle, if any."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return RUNNING
    except OSError:
        return NO_LOCKS
    return None


def end_orphans() -> None:
    """Cancel the Slurm jobs that a killed Snakemake left, and wait until they are gone.

    To be called when a run starts, before it submits anything: what this folder then
    has in the queue is of an earlier run, and would write the very files that this one
    is about to make.

    Raises:
        UserError: they do not end, or another run may own them; nothing is cancelled
            then.
    """
    jobs = queued_jobs()
    if not jobs:
        return
    names = ", ".join(jobs)
    obstacle: str | None = "this file system has no locks"
    if _held_files:
        obstacle = _lock_alone_on_all_machines(_held_files[0])
        # Shared again: this run's own jobs are to hold it too.
        fcntl.flock(_held_files[0], fcntl.LOCK_SH)
    if obstacle is not None:
        raise UserError(
            f"Slurm jobs {names} are of another run of this folder: {obstacle}. Wait "
            f"for it; if it is gone, `scancel {' '.join(jobs)}`, delete "
            ".snakemake/alive-*, and run again"
        )

    say(
        f"A killed run left Slurm jobs {names}: cancelling them. What they finished is "
        "kept."
    )
    _ask_slurm("scancel", *jobs)
    for _ in range(SECONDS_TO_CANCEL):
        if not queued_jobs():
            return
        time.sleep(1)
    raise UserError(
        f"Slurm jobs {names} of a killed run do not end; try again when they have"
    )


def queued_jobs() -> list[str]:
    """Return the Slurm jobs of a Snakemake of this folder and user that have not ended.

    Raises:
        UserError: the queue cannot be asked.
    """
    if not (Path(".snakemake/slurm_logs").exists() and shutil.which("squeue")):
        return []
    job_id_name_comment_folder = "--format=%A|%j|%k|%Z"
    text = _ask_slurm("squeue", "--me", "--noheader", job_id_name_comment_folder)
    jobs = []
    for line in text.splitlines():
        columns = line.split("|", 3)
        if len(columns) != 4:
            continue
        job_id, name, comment, folder = columns
        # Snakemake says the rule in the comment. A job of the user's own does not.
        is_of_snakemake = _NAME_OF_SLURM_JOB.search(name) and comment.startswith(
            "rule_"
        )
        if is_of_snakemake and folder == os.getcwd():
            jobs.append(job_id)
    return jobs


def _ask_slurm(*command: str) -> str:
    """Run a command of Slurm's, and return what it prints.

    Raises:
        UserError: it does not work.
    """
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        )
    except subprocess.SubprocessError as error:
        message = (getattr(error, "stderr", None) or str(error)).strip()
        raise UserError(
            f"`{command[0]}` does not work here, so nobody knows whether a killed run "
            f"left jobs: {message}"
        ) from None
    return process.stdout
