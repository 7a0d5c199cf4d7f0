"""What a run was planned with: its config, and the hashes and versions of its code.

Snakemake lacks it: on a cluster each job has a Snakemake of its own, which reads the
Snakefile anew. By then config and code may be others, so it takes both from the run
that planned: through a file, which the environment variable `SAE_RUN` names. Each run
has a file of its own, since several may share a folder.
"""

import atexit
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sae.core import files, versions
from sae.core.codehash import code_hash

RUN_VARIABLE = "SAE_RUN"
# {what was asked: the answer}: once asked, an answer holds for the whole run.
_answers: dict[str, str] = {}


def name_run() -> None:
    """Give this process's run its name, for the process and all that it starts."""
    os.environ[RUN_VARIABLE] = f"{socket.gethostname()}-{os.getpid()}"


def code_hash_of(module_names: str) -> str:
    """Return the hash of what some modules mean, as the run was planned.

    Args:
        module_names: Dotted names with spaces between.
    """
    return _answer_once(module_names, lambda: code_hash(*module_names.split()))


def joined_versions(names: list[versions.Name]) -> str:
    """Return the versions of some things, as the run was planned.

    They are as :func:`sae.core.versions.joined` writes them.
    """
    return _answer_once(files.dumps(names), lambda: versions.joined(names))


def _answer_once(question: str, compute_answer: Callable[[], str]) -> str:
    if question not in _answers:
        _answers[question] = compute_answer()
    return _answers[question]


def write_planned_run(config: dict[str, Any]) -> None:
    """Keep, until this process ends, what it planned with, for the jobs that it starts.

    That is a config, and what :func:`code_hash_of` and :func:`joined_versions` have
    returned. Jobs of killed runs have been ended by then (`lock.end_orphans`), so the
    files that those runs left are deleted.
    """
    for file in Path(".snakemake").glob(f"planned-{socket.gethostname()}-*.json"):
        process_id = int(file.stem.rpartition("-")[2])
        if not files.is_alive(process_id):
            file.unlink(missing_ok=True)
    files.write_json(_file(), {"config": config, "code": _answers})
    atexit.register(_file().unlink, missing_ok=True)


def read_planned_run() -> dict[str, Any]:
    """Plan from now on as the process did that called :func:`write_planned_run`.

    Returns:
        The config of that process.

    Raises:
        UserError: its file is gone, since it ended, or was altered.
    """
    planned = files.read_json(_file(), "plan of the run")
    _answers.update(planned["code"])
    return planned["config"]


def _file() -> Path:
    return Path(f".snakemake/planned-{os.environ.get(RUN_VARIABLE)}.json")
