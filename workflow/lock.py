"""Prove whether a Snakemake process of this folder is alive.

Snakemake's own lock is a file without an owner: after a SIGKILL nobody can tell whether it is stale. So every Snakemake
process holds a shared flock on `.snakemake/alive`, which the kernel drops when the process ends, however it ends.
"""

import os
import socket
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_held = []


def hold(folder):
    """Hold the lock until this process ends. Where the file system has no locks, nothing can be proven later."""
    if fcntl is None:
        return
    try:
        Path(folder).mkdir(exist_ok=True)
        file = open(Path(folder) / "alive", "a+")  # noqa: SIM115 (held until exit)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(socket.gethostname())
        file.flush()
    except OSError:
        return
    _held.append(file)


def owner_is_gone(folder):
    """Whether it is proven that no Snakemake process of this folder is alive: (bool, why not)."""
    path = Path(folder) / "alive"
    if fcntl is None or not path.exists():
        return False, "nothing recorded an owner"
    with open(path) as file:
        host = file.read()
        if host != socket.gethostname():
            return False, f"the last run was on {host or 'another machine'}"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False, "another Snakemake is running here"
        except OSError as error:
            return False, f"this file system cannot tell ({os.strerror(error.errno)})"
    return True, ""
