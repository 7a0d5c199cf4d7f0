"""What Snakemake would fail at later or say less plainly: a folder that is closed, files from the future, Ctrl-C."""

import _thread
import errno
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from sae.core import faults, paths
from sae.core.errors import UserError
from sae_workflow.start import say, silence

_BANKS = re.sub(r"{\w+}", "*", paths.BANK_FOLDER)
# What asks a run to end: Ctrl-C, `kill` or a service manager, a terminal that is closed.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED = (
    "stopped by {name}: jobs at work end now. What is finished is kept, to the SAE and "
    "the batch of embeddings; run the same again to go on.\n"
)
PATIENCE = 15  # seconds that a job that was told to end may take before it is killed
_stop_handlers: dict[signal.Signals, Callable[[int, FrameType | None], NoReturn]] = {}
SKEW = 5  # seconds by which the clocks of a cluster's machines may differ


def stop_in_one_line() -> None:
    """Let the first signal to stop say one line and end this process and its jobs.

    Further signals are dropped, and what this process says from then on: Snakemake
    would end in tracebacks of its event loop. Its log in .snakemake/log has the rest.
    A signal that was ignored when this process began (in the background of a script,
    under nohup) stays ignored.
    """

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        # A handler that does nothing: what starts now would inherit that a signal is
        # ignored, and could not be told to end.
        for each in STOP_SIGNALS:
            signal.signal(each, lambda *_: None)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        below_the_live_view = "\n" * os.isatty(2)
        # Standard error may be a terminal or a pipe that is gone.
        with suppress(OSError):
            os.write(2, (below_the_live_view + _STOPPED.format(name=name)).encode())
        silence(2)
        # Not `threading.Thread`: this may interrupt the start of another one, which
        # holds a lock that it would wait for.
        _thread.start_new_thread(_end_jobs, (number,))
        raise SystemExit(128 + number)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            # Not in a thread of a program that calls Snakemake.
            with suppress(ValueError):
                signal.signal(number, stop)
                _stop_handlers[number] = stop
    faults.hold_back(False, *STOP_SIGNALS)


def take_back_stop_signals(scheduler: object) -> None:
    """Take SIGTERM back from a scheduler of Snakemake's, which was just made.

    It would wait for all jobs at work. If it got one already, that counts now.
    """
    for number, handler in _stop_handlers.items():
        with suppress(ValueError):
            signal.signal(number, handler)
    if getattr(scheduler, "_user_kill", None):
        os.kill(os.getpid(), signal.SIGTERM)


def _end_jobs(number: int) -> None:
    """Tell the jobs on this machine to end, later ones too, until this process ends.

    A signal to this process alone does not reach them. Jobs on a cluster are for the
    executor to cancel.

    Args:
        number: the signal that this process got.
    """
    import psutil
    from snakemake.shell import shell

    # Jobs know two signals (`sae.core.faults`).
    signal_for_jobs = number if number == signal.SIGINT else signal.SIGTERM
    told: set[psutil.Process] = set()
    latest = time.monotonic() + PATIENCE
    while True:
        for job in list(shell._processes.values()):
            with suppress(psutil.Error):
                shell_of_job = psutil.Process(job.pid)
                processes = [*shell_of_job.children(recursive=True), shell_of_job]
                if time.monotonic() > latest:
                    for process in processes:
                        process.kill()
                for process in processes:
                    if process not in told:
                        told.add(process)
                        process.send_signal(signal_for_jobs)
        time.sleep(0.1)


def shell_prefix(into_log: bool) -> str:
    """What the shell of a job on this machine takes `python` for, and a signal to stop.

    Python that is starting would end in a traceback on Ctrl-C, or without a word;
    `sae.__main__` lets signals through once it can. The shell waits for it: else
    Snakemake would take the job for ended, and tell of an error. Of Python that is
    killed, which can say nothing itself, it says so (`sae_workflow.killed`).

    Args:
        into_log: all that the job says goes into the log that its command names.
    """
    into = (
        'if [[ "$*" =~ --log\\ ([^\\ ]+) ]]; then exec >>"${BASH_REMATCH[1]}" 2>&1; fi; '
        if into_log
        else ""
    )
    held = "env --block-signal=INT --block-signal=TERM"
    either = f"held=command; if {held} true 2>/dev/null; then held='{held}'; fi; "
    wait = "trap 'exit 130' INT; trap 'exit 143' TERM; trap 'exit 129' HUP; "
    tell = 'PYTHONPATH="workflow${PYTHONPATH:+:$PYTHONPATH}" command python'
    tell += ' -m sae_workflow.killed "$@" || true'
    killed = f"local code=$?; if [ $code = 137 ]; then {tell}; fi; return $code"
    run = f'{into}$held python "$@" || {{ {killed}; }}'
    return f"{wait}{either}python() {{ {run}; }}; "


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


def pass_over_damaged_records() -> None:
    """Let Snakemake pass over a record of a file that is damaged, with one line.

    By itself it does so where the record is no JSON. A byte that is no text, or a value
    of another type, would end in a traceback.
    """
    from snakemake.logging import logger
    from snakemake.persistence.file import FilePersistence

    read_json = FilePersistence._io_read
    read_record = FilePersistence._read_record

    def warn(path: str) -> None:
        logger.warning(f"Snakemake's record {path} is damaged, and is passed over.")

    def read_json_or_nothing(self: Any, folder: str, name: str) -> dict[str, Any]:
        try:
            content = read_json(self, folder, name)
        except UnicodeDecodeError:
            content = None
        if isinstance(content, dict):
            return content
        warn(self._record_path(folder, name))
        return {}

    def read_record_or_nothing(self: Any, name: str) -> Any:
        try:
            return read_record(self, name)
        except ValueError:  # As pydantic says of a type.
            warn(self._record_path(self._metadata_path, name))
            return None

    FilePersistence._io_read = read_json_or_nothing
    FilePersistence._read_record = read_record_or_nothing


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
        say(
            f"dated in the future, set to the present time: {len(found)} files, first {min(found)}",
            sys.stderr,
        )
