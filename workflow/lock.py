"""Prove whether a Snakemake process of this folder, or a job of one, is alive.

Snakemake's own lock is a file without an owner: after a SIGKILL nobody can tell whether it is stale. So every Snakemake
process, and every job that it starts, holds a shared flock on `.snakemake/alive-{host}`, which the kernel drops when
the process ends, however it ends.
"""

import os
import socket
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held = []


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
    """What makes a job's shell, and all that it starts, hold the lock too."""
    file = f"'{alive_file()}'"
    return f"set -euo pipefail; if command -v flock >/dev/null && [ -e {file} ]; then exec 9<{file}; flock -s 9; fi; "


def owner_is_gone():
    """Whether it is proven that no process holds the lock: (bool, why not)."""
    here = Path(alive_file())
    others = sorted(f.name.removeprefix("alive-") for f in Path(".snakemake").glob("alive-*") if f.name != here.name)
    if fcntl is None or not here.exists():
        return False, "nothing on this machine recorded its owner"
    if others:
        return False, f"it may be of {', '.join(others)}, which cannot be seen from here"
    with open(here) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False, "another Snakemake, or a job of a killed one, is running here"
        except OSError as error:
            return False, f"this file system cannot tell ({os.strerror(error.errno)})"
    return True, ""
