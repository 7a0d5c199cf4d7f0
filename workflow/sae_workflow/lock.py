"""Prove whether a Snakemake process of this folder, or a job of one, is alive.

Snakemake's own lock is a file without an owner: after a SIGKILL nobody can tell whether it is stale. So every
Snakemake, and every job that it starts on its own machine, holds a shared flock on `.snakemake/alive-{host}`, which the
kernel drops when the process ends, however it ends. A run that ends by itself removes the file. Jobs in a Slurm queue
hold none: their node is another machine, and they outlive a killed Snakemake. `end_orphans` finds them in the queue.
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
from sae_workflow.start import say

_held: list[IO[str]] = []
_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def alive_file() -> str:
    """The lock file of this machine: a flock may not be seen from another one."""
    return f".snakemake/alive-{socket.gethostname()}"


def hold() -> None:
    """Hold the lock until this process ends. Where the file system has no locks, nothing can be proven later."""
    with suppress(OSError):
        Path(".snakemake").mkdir(exist_ok=True)
        while True:
            file = open(alive_file(), "a+")  # noqa: SIM115 (held until exit); network file systems want it readable too
            fcntl.flock(file, fcntl.LOCK_SH)
            with suppress(
                FileNotFoundError
            ):  # Its owner may have removed it in between.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(alive_file())):
                    _held.append(file)
                    atexit.register(_release)
                    return
            file.close()


def _release() -> None:
    # Another run, or a job of a killed one, may hold the lock too.
    if _only_holder(_held[0])[0]:
        Path(alive_file()).unlink(missing_ok=True)


def shell_prefix() -> str:
    """What makes the shell of a job on this machine, and all that it starts, hold the lock too."""
    file = f"'{alive_file()}'"
    here = f"command -v flock >/dev/null && [ -e {file} ]"
    return f"set -euo pipefail; if {here}; then exec 9<{file}; flock -s 9 || true; fi; "


@contextmanager
def alone() -> Iterator[tuple[bool, str]]:
    """While it is held, no run starts here: gives whether it is proven that none is alive, and why not (bool, text)."""
    here = Path(alive_file())
    if not here.exists():
        yield False, "nothing on this machine recorded its owner"
        return
    with open(here, "a+") as file:
        yield _alone(file)


def owner_is_gone() -> tuple[bool, str]:
    """Whether it is proven that no process holds the lock: (bool, why not)."""
    with alone() as found:
        return found


def _alone(file: IO[str]) -> tuple[bool, str]:
    """Whether nobody but `file`, open on this machine's lock file, can hold the lock of any machine."""
    here = Path(alive_file()).name
    others = sorted(
        f.name.removeprefix("alive-")
        for f in Path(".snakemake").glob("alive-*")
        if f.name != here
    )
    if others:
        return (
            False,
            f"it may be of {', '.join(others)}, which cannot be seen from here",
        )
    return _only_holder(file)


def _only_holder(file: IO[str]) -> tuple[bool, str]:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False, "another Snakemake, or a job of a killed one, is running here"
    except OSError as error:
        return False, f"this file system cannot tell ({error.strerror})"
    return True, ""


def end_orphans() -> None:
    """Cancel the Slurm jobs that a killed Snakemake of this folder left, and wait until they are gone.

    To be called when a run starts, before it submits anything: what this folder then has in the queue is of an earlier
    run, and would write the very files that this one is about to make.

    Raises:
        UserError: they do not end, or another run may own them; nothing is cancelled then.
    """
    jobs = queued()
    if not jobs:
        return
    found, why = _alone(_held[0]) if _held else (False, "this file system has no locks")
    if _held:
        fcntl.flock(
            _held[0], fcntl.LOCK_SH
        )  # Shared again: this run's own jobs are to hold it too.
    if not found:
        raise UserError(
            f"Slurm jobs {', '.join(jobs)} are of another run of this folder: {why}. Wait for it; if it is gone, "
            f"`scancel {' '.join(jobs)}`, delete .snakemake/alive-*, and run again"
        )
    say(
        f"A killed run left Slurm jobs {', '.join(jobs)}: cancelling them. What they finished is kept."
    )
    _slurm("scancel", *jobs)
    for _ in range(120):
        if not queued():
            return
        time.sleep(1)
    raise UserError(
        f"Slurm jobs {', '.join(jobs)} of a killed run do not end; try again when they have"
    )


def queued() -> list[str]:
    """The Slurm jobs that a Snakemake of this folder and user submitted and that have not ended.

    Raises:
        UserError: the queue cannot be asked.
    """
    if not (Path(".snakemake/slurm_logs").exists() and shutil.which("squeue")):
        return []
    rows = [
        line.split("|", 3)
        for line in _slurm(
            "squeue", "--me", "--noheader", "--format=%A|%j|%k|%Z"
        ).splitlines()
    ]
    # Snakemake names its jobs by the run and says the rule in the comment: a job of the user's own is none of these.
    return [
        r[0]
        for r in rows
        if len(r) == 4
        and _RUN.search(r[1])
        and r[2].startswith("rule_")
        and r[3] == os.getcwd()
    ]


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        )
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise UserError(
            f"`{command[0]}` does not work here, so nobody knows whether a killed run left jobs: {said}"
        ) from None
    return done.stdout
