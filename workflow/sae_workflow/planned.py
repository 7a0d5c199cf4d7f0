"""What a run was planned with: its config, and the hashes of its jobs' code.

On a cluster each job has a Snakemake of its own, which reads the Snakefile anew. By then config and code may be others,
so it takes both from the run that planned: through a file, which the environment variable `SAE_RUN` names. Each run has
a file of its own, since several may share a folder.
"""

import atexit
import os
import socket
from pathlib import Path
from typing import Any

from sae.core import files
from sae.core.codehash import code_hash

VARIABLE = "SAE_RUN"
_codes: dict[str, str] = {}


def name_run() -> None:
    """Give this process's run its name, for it and all that it starts."""
    os.environ[VARIABLE] = f"{socket.gethostname()}-{os.getpid()}"


def code(modules: str) -> str:
    """The hash of what some modules (dotted names with spaces between) mean, as it was planned."""
    if modules not in _codes:
        _codes[modules] = code_hash(*modules.split())
    return _codes[modules]


def write(config: dict[str, Any]) -> None:
    """Say until this process ends what it planned with: a config, and what :func:`code` was asked for.

    Jobs of killed runs have been ended by then (`lock.end_orphans`), so what those runs said is deleted.
    """
    for file in Path(".snakemake").glob(f"planned-{socket.gethostname()}-*.json"):
        if not files.is_alive(int(file.stem.rpartition("-")[2])):
            file.unlink(missing_ok=True)
    files.write_json(_file(), {"config": config, "codes": _codes})
    atexit.register(_file().unlink, missing_ok=True)


def read() -> dict[str, Any]:
    """Plan as the process that called :func:`write` did; returns its config.

    Raises:
        UserError: it is gone, or its file was altered.
    """
    found = files.read_json(_file(), "plan of the run")
    _codes.update(found["codes"])
    return found["config"]


def _file() -> Path:
    return Path(f".snakemake/planned-{os.environ.get(VARIABLE)}.json")
