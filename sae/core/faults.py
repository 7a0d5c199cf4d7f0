"""Faults of the machine rather than of the input, each told in one line: a full or closed disk, a signal to stop."""

import errno
import os
import signal

_FREE = "Free some, then run again: what is finished, to the SAE and the batch of embeddings, is kept"
_OPEN = "Make it writable, or work in a copy of this folder elsewhere, then run again"
_DISK = {
    errno.ENOSPC: f"could not be written: its file system is full (`df -h` and `df -i` say of what). {_FREE}",
    errno.EDQUOT: f"could not be written: the disk quota there is used up. {_FREE}",
    errno.EROFS: f"could not be written: its file system is read-only. {_OPEN}",
    errno.EACCES: f"is closed to this user: permission denied (`ls -ld` shows owner and mode). {_OPEN}",
    errno.EPERM: f"is closed to this user: operation not permitted (`ls -ld`, `lsattr -d`). {_OPEN}",
}
# Libraries that write by themselves put these into the text of an exception of their own.
_IN_TEXT = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)}
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received = []


class Stopped(SystemExit):
    """A signal asked this process to stop. Like Ctrl-C no `Exception`, so that only clean-up sees it on its way out."""


def stop_on_signals():
    """Turn the first SIGTERM or SIGINT into :class:`Stopped`; more of them do not disturb the clean-up."""

    def stop(number, _frame):
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        # The processes that decode were told too: their end is no error that torch should raise in the clean-up.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _received.append(number)
        raise Stopped(128 + number)

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def disk_error(error):
    """The errno of a full or closed disk behind an exception of any library; None if it is another trouble."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return error.errno
    return next((code for code, text in _IN_TEXT.items() if text in str(error)), None)


def explain(error, step):
    """(one line for the user, exit code) of an exception that a fault caused; None for any other.

    Args:
        step: what was at work.
    """
    # A process that decodes may be stopped first, and is then what is reported.
    stopped = _received[:1] or ([signal.SIGTERM] if "killed by signal: Terminated" in str(error) else [])
    if stopped:
        name = signal.Signals(stopped[0]).name
        return f"{step} was told to stop ({name}); what it has finished is kept, run again to go on", 128 + stopped[0]
    code = disk_error(error)
    if code is None:
        return None
    return f"{getattr(error, 'filename', None) or f'what {step} makes'} {_DISK[code]}", 1
