"""Faults of the machine rather than of the input, each explained in one line.

These are a full or closed disk, a lack of memory, and a signal to stop.
"""

import errno
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_FREE_SOME = "Free some, then run again: what is finished is kept"
BROKEN_PIPE = 141  # the exit code of a program that SIGPIPE ends
_MAKE_WRITABLE = (
    "Make it writable, or work in a copy of this folder elsewhere, then run again"
)
# {errno: what is wrong with a file}
_DISK_FAULTS = {
    errno.ENOSPC: (
        "could not be written: its file system is full (`df -h` and `df -i` say of "
        f"what). {_FREE_SOME}"
    ),
    errno.EDQUOT: (
        f"could not be written: the disk quota there is used up. {_FREE_SOME}"
    ),
    errno.EFBIG: (
        "could not be written: it is larger than files may be here (`ulimit -f`). Raise "
        "that limit, then run again: what is finished is kept"
    ),
    errno.EMFILE: (
        "could not be opened: a process may have no more files open here (`ulimit -n`). "
        "Raise that limit, then run again: what is finished is kept"
    ),
    errno.EROFS: (
        f"could not be written: its file system is read-only. {_MAKE_WRITABLE}"
    ),
    errno.EACCES: (
        "is closed to this user: permission denied (`ls -ld` shows owner and mode). "
        f"{_MAKE_WRITABLE}"
    ),
    errno.EPERM: (
        "is closed to this user: operation not permitted (`ls -ld`, `lsattr -d`). "
        f"{_MAKE_WRITABLE}"
    ),
}
# {errno: its text}, which libraries that write files themselves put into the message of
# an exception of their own.
_DISK_FAULT_TEXTS = {
    code: os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)
}
# What PyTorch says where it raises no MemoryError: on the CPU, on a GPU, of a process
# that the system killed.
_MEMORY_FAULT_TEXTS = (
    os.strerror(errno.ENOMEM),
    "out of memory",
    "killed by signal: Killed",
    "terminated abruptly",
)

_THREAD_FAULT_TEXT = "can't start new thread"  # Python's

# The signals that ask a process to stop.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Those of them that this process got.
_received_signals: list[int] = []


class Stopped(SystemExit):
    """A signal asked this process to stop.

    Like KeyboardInterrupt it is no `Exception`, so that only clean-up code sees it.
    """


def stop_on_signals() -> None:
    """Raise :class:`Stopped` at the first SIGTERM or SIGINT.

    Further ones are ignored, so that clean-up can finish.
    """

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for stop_signal in SIGNALS:
            signal.signal(stop_signal, signal.SIG_IGN)
        # The processes that decode got the signal too. Torch would report their end as
        # an error during the clean-up. Python would report one that is on its way, if
        # there were no handler at all.
        if hasattr(signal, "SIGCHLD"):  # Not on Windows.
            signal.signal(signal.SIGCHLD, lambda *_: None)
        _received_signals.append(number)
        raise Stopped(128 + number)

    # A signal that was ignored when this process began, under nohup say, stays so.
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def hold_back(held: bool, *numbers: int) -> None:
    """Let signals wait, or let them come again, here and in what is started.

    During an import Python may drop the exception that a signal raises, and go on.

    Args:
        held: Whether they wait.
        numbers: The signals.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows.
        return
    action = signal.SIG_BLOCK if held else signal.SIG_UNBLOCK
    signal.pthread_sigmask(action, numbers)


def open_standard_streams() -> None:
    """Let standard input, output and error that are closed lead to the null device.

    After `make run >&-` the next file that a process opens would be its standard
    output, and `sys.stdout` would be None.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def silence(descriptor: int) -> None:
    """Let what is written to a file descriptor from now on go to the null device."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, descriptor)
    os.close(null_device)


def disk_error(error: BaseException) -> int | None:
    """Return the errno of a full or closed disk that caused an exception.

    Args:
        error: An exception of any library.

    Returns:
        None if the exception has another cause.
    """
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        return error.errno
    message = str(error)
    for code, text in _DISK_FAULT_TEXTS.items():
        if text in message:
            return code
    return None


def explain(
    error: BaseException, step: str, memory_advice: str = ""
) -> tuple[str, int] | None:
    """Explain an exception that a fault of the machine caused.

    Args:
        error: The exception.
        step: The name of the step that ran.
        memory_advice: What to do where the step lacks memory.

    Returns:
        One line for the user, and the exit code; None for any other exception.
    """
    stop_signal = _stop_signal(error)
    if stop_signal is not None:
        name = signal.Signals(stop_signal).name
        line = (
            f"{step} was told to stop ({name}); what it has finished is kept, run "
            "again to go on"
        )
        return line, 128 + stop_signal

    if _lacks_memory(error):
        message_lines = str(error).splitlines() or [type(error).__name__]
        message = message_lines[0]
        # A process ended abruptly, and nobody knows why.
        ran = "perhaps ran" if "abruptly" in message else "ran"
        line = (
            f"{step} {ran} out of memory ({message}): "
            f"{memory_advice or 'give it more'}; what is finished is kept"
        )
        return line, 1

    if _THREAD_FAULT_TEXT in str(error):
        line = (
            f"{step} could start no further thread: this user has as many processes and "
            "threads as are allowed here (`ulimit -u`). Raise that limit, then run "
            "again: what is finished is kept"
        )
        return line, 1

    code = disk_error(error)
    if code is not None:
        file = getattr(error, "filename", None) or f"what {step} makes"
        return f"{file} {_DISK_FAULTS[code]}", 1
    return None


def _stop_signal(error: BaseException) -> int | None:
    """Return the signal that stopped this process, or one that works for it."""
    if _received_signals:
        return _received_signals[0]
    # A process that decodes may have been stopped before this one; torch then reports
    # the end of that process.
    if "killed by signal: Terminated" in str(error):
        return signal.SIGTERM
    return None


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    message = str(error)
    return any(text in message for text in _MEMORY_FAULT_TEXTS)
