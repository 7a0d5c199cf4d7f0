"""How far a step is, in a small file for whoever shows it while the step runs.

The file is replaced as a whole, so that its reader never sees half of one.
"""

import atexit
import json
import os
import time
from contextlib import suppress
from pathlib import Path

SECONDS_BETWEEN_WRITES = 0.5  # at least; the last report is written at once


# The file that this process reports in, once it is known; and when it was last written,
# in seconds of a monotonic clock.
_progress_file: Path | None = None
_written_at = 0.0


def progress_path(log: Path) -> Path:
    """Return the path of the progress file of a step with this log."""
    return log.with_suffix(".progress.json")


def report_in(file: Path) -> None:
    """Let :func:`report_progress` write into a file.

    The file is removed now, and when this process ends.
    """
    global _progress_file
    file.unlink(missing_ok=True)
    _progress_file = file
    atexit.register(file.unlink, missing_ok=True)


def report_progress(done_count: int, total: int, unit: str) -> None:
    """Write how far the step is, if it has a progress file.

    Args:
        done_count: How many are done.
        total: How many there are.
        unit: What they are, such as "images embedded".
    """
    global _written_at
    file = _progress_file
    if file is None:
        return
    seconds_since_write = time.monotonic() - _written_at
    if done_count < total and seconds_since_write <= SECONDS_BETWEEN_WRITES:
        return

    _written_at = time.monotonic()
    progress = {"done": done_count, "total": total, "what": unit}
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    # A full disk is no error here: the step reports it, and nobody needs this file.
    with suppress(OSError):
        temporary.write_text(json.dumps(progress))
        os.replace(temporary, file)
