"""Folders that are closed, and files from the future, are found before a run.

Snakemake lacks it: it would fail at them later, or say less plainly of what.
"""

import errno
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sae.core import faults, paths
from sae.core.errors import UserError
from sae_workflow.command_line import say

# Folders of SAEs and of links to them, of which Snakemake knows nothing.
_FOLDERS_OF_SAES = (re.sub(r"{\w+}", "*", paths.BANK_FOLDER), paths.STORE)
# Seconds by which the clocks of a cluster's machines may differ.
CLOCK_SKEW = 5


def activate_environment() -> None:
    """Let `python` be the Python of this process.

    Its environment may not be activated.
    """
    folder = os.path.dirname(sys.executable)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])


def check_records() -> None:
    """Check that Snakemake can keep its records, of which even a dry run makes some.

    Raises:
        UserError: as :func:`check_writable`, or another user made them and keeps them
            closed.
    """
    check_writable(".snakemake")
    # Of other records Snakemake makes new files, for which it is enough that their
    # folder is open.
    for pattern in ("*/", "iocache/*", "metadata/*"):
        for path in Path(".snakemake").glob(pattern):
            if not os.access(path, os.W_OK):
                error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                raise _explain_unwritable(error, path)


def check_writable(folder: str | Path) -> None:
    """Check that files can be written into a folder, which is made if needed.

    Raises:
        UserError: the disk is full or read-only, or the folder is closed to this user.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise _explain_unwritable(error, folder) from None


def _explain_unwritable(error: OSError, path: str | Path) -> UserError:
    """Return the error for the user that a path cannot be written."""
    # Snakemake's own log lies there too, and would add a traceback for every line that
    # it cannot write.
    logging.raiseExceptions = False
    named_error = OSError(error.errno, error.strerror, str(path))
    explanation = faults.explain(named_error, "Snakemake")
    line = str(error) if explanation is None else explanation[0]
    return UserError(line)


def date_back_future_files(*folders: str) -> None:
    """Date files that a clock ahead of time left in the future back to now.

    Jobs that read such files would fail till then.

    Raises:
        UserError: a file cannot be dated back.
    """
    present = time.time()
    future_files = list(_files_younger_than(present + CLOCK_SKEW, folders))
    for path in future_files:
        try:
            os.utime(path, (present, present), follow_symlinks=False)
        except OSError as error:
            raise UserError(
                f"{path} is dated in the future; `touch` it or set the clock right "
                f"({error})"
            ) from None
    if future_files:
        say(
            f"dated in the future, set to the present time: {len(future_files)} files, "
            f"first {min(future_files)}",
            sys.stderr,
        )


def _files_younger_than(latest: float, roots: tuple[str, ...]) -> Iterator[str]:
    """Yield the files below some folders that were changed after a time.

    Args:
        latest: The time, in seconds since 1970.
        roots: The folders. Those of SAEs in them, which are many, are left out.
    """
    for root in roots:
        for folder, subfolders, names in os.walk(root):
            if any(Path(folder).match(pattern) for pattern in _FOLDERS_OF_SAES):
                subfolders.clear()
            for name in names:
                path = os.path.join(folder, name)
                with suppress(FileNotFoundError):  # Another process's temporary file.
                    if os.lstat(path).st_mtime > latest:
                        yield path
