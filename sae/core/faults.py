"""Faults of the machine rather than of the input, each told in one line: of the disk, of memory, a signal to stop."""

import errno
import os
import signal
from types import FrameType
from typing import NoReturn

_FREE = "Free some, then run again: what is finished is kept"
_OPEN = "Make it writable, or work in a copy of this folder elsewhere, then run again"
_DISK = {
    errno.ENOSPC: f"could not be written: its file system is full (`df -h` and `df -i` say of what). {_FREE}",
    errno.EDQUOT: f"could not be written: the disk quota there is used up. {_FREE}",
    errno.EROFS: f"could not be written: its file system is read-only. {_OPEN}",
    errno.EACCES: f"is closed to this user: permission denied (`ls -ld` shows owner and mode). {_OPEN}",
    errno.EPERM: f"is closed to this user: operation not permitted (`ls -ld`, `lsattr -d`). {_OPEN}",
}
# Libraries that write by themselves put these into the text of an exception of their own.
_IN_TEXT = {
    code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
}
# What PyTorch says where it raises no MemoryError: on the CPU, on a GPU, of a process that the system ended.
_NO_MEMORY = (
    os.strerror(errno.ENOMEM),
    "out of memory",
    "killed by signal: Killed",
    "terminated abruptly",
)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: list[int] = []


class Stopped(SystemExit):
    """A signal asked this process to stop. Like KeyboardInterrupt it is no `Exception`: only clean-up code sees it."""


def stop_on_signals() -> None:
    """Raise :class:`Stopped` at the first SIGTERM or SIGINT; further ones are ignored, so that clean-up can finish."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        # The processes that decode got the signal too. Torch would report their end as an error during the clean-up.
        if hasattr(signal, "SIGCHLD"):  # Not on Windows.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _received.append(number)
        raise Stopped(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def hold_back(held: bool, *numbers: int) -> None:
    """Whether signals wait, here and in what is started: in an import Python may drop what one raises, and go on."""
    if hasattr(signal, "pthread_sigmask"):  # Not on Windows.
        signal.pthread_sigmask(
            signal.SIG_BLOCK if held else signal.SIG_UNBLOCK, numbers
        )


def disk_error(error: BaseException) -> int | None:
    """The errno of a full or closed disk that caused an exception of any library; None for another cause."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return error.errno
    return next((code for code, text in _IN_TEXT.items() if text in str(error)), None)


def explain(
    error: BaseException, step: str, memory: str = ""
) -> tuple[str, int] | None:
    """(one line for the user, exit code) of an exception that a fault caused; None for any other exception.

    Args:
        step: the name of the step that ran.
        memory: what to do where it lacks memory.
    """
    # A process that decodes may have been stopped before this one; torch then reports that one's end.
    stopped = _received[:1] or (
        [signal.SIGTERM] if "killed by signal: Terminated" in str(error) else []
    )
    if stopped:
        name = signal.Signals(stopped[0]).name
        return (
            f"{step} was told to stop ({name}); what it has finished is kept, run again to go on",
            128 + stopped[0],
        )
    if isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY):
        said = next(iter(str(error).splitlines()), type(error).__name__)
        surely = (
            "perhaps ran" if "abruptly" in said else "ran"
        )  # A process ended, and nobody knows why.
        return (
            f"{step} {surely} out of memory ({said}): {memory or 'give it more'}; what is finished is kept",
            1,
        )
    code = disk_error(error)
    if code is None:
        return None
    return (
        f"{getattr(error, 'filename', None) or f'what {step} makes'} {_DISK[code]}",
        1,
    )
