"""What Snakemake would fail at later or say less plainly: a folder that is closed, files from the future, Ctrl-C."""

import errno
import logging
import os
import re
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from sae.core import faults, paths
from sae.core.errors import UserError

_BANKS = re.sub(r"{\w+}", "*", paths.BANK_FOLDER)
_STOPPED = (
    b"stopped by Ctrl-C: jobs at work end now. What is finished is kept, to the SAE and the batch of embeddings; "
    b"run the same again to go on.\n"
)
SKEW = 5  # seconds by which the clocks of a cluster's machines may differ


def stop_in_one_line() -> None:
    """Let the first Ctrl-C say one line and end this process; more of them, and what it says from then on, are dropped.

    Snakemake would end in tracebacks of its event loop; its log in .snakemake/log has the rest.
    """

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        os.write(
            2, b"\n" * os.isatty(2) + _STOPPED
        )  # Below the live view, if there is one.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise SystemExit(128 + number)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        with suppress(
            ValueError
        ):  # Not the main thread, of a program that calls Snakemake.
            signal.signal(signal.SIGINT, stop)
    faults.hold_back(False, signal.SIGINT)


def shell_prefix(into_log: bool) -> str:
    """What the shell of a job on this machine takes `python` for.

    Python that is starting would end in a traceback on Ctrl-C; `sae.__main__` lets it through once it can.

    Args:
        into_log: all that the job says goes into the log that its command names.
    """
    into = (
        'if [[ "$*" =~ --log\\ ([^\\ ]+) ]]; then exec >>"${BASH_REMATCH[1]}" 2>&1; fi; '
        if into_log
        else ""
    )
    held = "env --block-signal=INT"
    either = f"held=command; if {held} true 2>/dev/null; then held='{held}'; fi; "
    return f'{either}python() {{ {into}$held python "$@"; }}; '


def activate() -> None:
    """Let `python` be the Python of this process, also where its environment is not activated."""
    os.environ["PATH"] = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    )


def records() -> None:
    """Check that Snakemake can keep its records, of which even a dry run makes some.

    Raises:
        UserError: as :func:`writable`, or another user made them and keeps them closed.
    """
    writable(".snakemake")
    # Of other records Snakemake makes new files, for which it is enough that their folder is open.
    for pattern in ("*/", "iocache/*", "metadata/*"):
        for path in Path(".snakemake").glob(pattern):
            if not os.access(path, os.W_OK):
                raise _unwritable(
                    PermissionError(errno.EACCES, os.strerror(errno.EACCES)), path
                )


def writable(folder: str | Path) -> None:
    """Check that files can be written into `folder`, which is made if needed.

    Raises:
        UserError: the disk is full or read-only, or the folder is closed to this user.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise _unwritable(error, folder) from None


def _unwritable(error: OSError, path: str | Path) -> UserError:
    # Snakemake's own log lies there too, and would add a traceback for every line that it cannot write.
    logging.raiseExceptions = False
    line, _ = faults.explain(
        OSError(error.errno, error.strerror, str(path)), "Snakemake"
    ) or (str(error), 1)
    return UserError(line)


def no_future(*folders: str) -> None:
    """Date files that a clock ahead of time left in the future back to now: jobs that read them would fail till then.

    Raises:
        UserError: a file cannot be dated back.
    """
    now, found = time.time(), []
    for folder, inside, names in (entry for root in folders for entry in os.walk(root)):
        # Not the SAEs and their links, of which there are many: Snakemake knows nothing of them.
        if any(Path(folder).match(pattern) for pattern in (_BANKS, paths.STORE)):
            inside.clear()
        for name in names:
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):  # Another process's temporary file.
                if os.lstat(path).st_mtime > now + SKEW:
                    found.append(path)
    for path in found:
        try:
            os.utime(path, (now, now), follow_symlinks=False)
        except OSError as error:
            raise UserError(
                f"{path} is dated in the future; `touch` it or set the clock right ({error})"
            ) from None
    if found:
        print(
            f"dated in the future, set to the present time: {len(found)} files, first {min(found)}",
            file=sys.stderr,
        )
