"""What a run was planned with: its config, and the hashes and versions of its jobs' code.

On a cluster each job has a Snakemake of its own, which reads the Snakefile anew. By then config and code may be others,
so it takes both from the run that planned: through a file, which the environment variable `SAE_RUN` names. Each run has
a file of its own, since several may share a folder.
"""

import atexit
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sae.core import files, versions
from sae.core.codehash import code_hash

VARIABLE = "SAE_RUN"
_said: dict[str, str] = {}


def name_run() -> None:
    """Give this process's run its name, for it and all that it starts."""
    os.environ[VARIABLE] = f"{socket.gethostname()}-{os.getpid()}"


def code(modules: str) -> str:
    """The hash of what some modules (dotted names with spaces between) mean, as it was planned."""
    return _once(modules, lambda: code_hash(*modules.split()))


def meaning(names: list[versions.Name]) -> str:
    """The versions of some things (`sae.core.versions.joined`), as they were planned."""
    return _once(files.dumps(names), lambda: versions.joined(names))


def _once(what: str, say: Callable[[], str]) -> str:
    if what not in _said:
        _said[what] = say()
    return _said[what]


def write(config: dict[str, Any]) -> None:
    """Say until this process ends what it planned with: a config, and what `code` and `meaning` were asked for.

    Jobs of killed runs have been ended by then (`lock.end_orphans`), so what those runs said is deleted.
    """
    for file in Path(".snakemake").glob(f"planned-{socket.gethostname()}-*.json"):
        if not files.is_alive(int(file.stem.rpartition("-")[2])):
            file.unlink(missing_ok=True)
    files.write_json(_file(), {"config": config, "code": _said})
    atexit.register(_file().unlink, missing_ok=True)


def read() -> dict[str, Any]:
    """Plan as the process that called :func:`write` did; returns its config.

    Raises:
        UserError: it is gone, or its file was altered.
    """
    found = files.read_json(_file(), "plan of the run")
    _said.update(found["code"])
    return found["config"]


def _file() -> Path:
    return Path(f".snakemake/planned-{os.environ.get(VARIABLE)}.json")
