"""How far a step is, in a small file that is replaced as a whole, for whoever shows it while the step runs."""

import atexit
import json
import os
import time
from contextlib import suppress
from pathlib import Path

EVERY = 0.5  # least seconds between two writes; the last one is written at once
_file: list[Path] = []
_told = [0.0]


def file_of(log: Path) -> Path:
    """Where a step with this log tells it."""
    return log.with_suffix(".progress.json")


def tell_in(file: Path) -> None:
    """Let :func:`tell` write into this file, which is removed when this process ends."""
    file.unlink(missing_ok=True)
    _file[:] = [file]
    atexit.register(file.unlink, missing_ok=True)


def tell(done: int, total: int, what: str) -> None:
    """Say that so many of all are done; `what` they are, such as "images embedded"."""
    if _file and (done >= total or time.monotonic() - _told[0] > EVERY):
        _told[0], temporary = (
            time.monotonic(),
            _file[0].with_suffix(f".{os.getpid()}.tmp"),
        )
        with suppress(
            OSError
        ):  # On a full disk, of which the step itself tells, and nobody needs this file.
            temporary.write_text(
                json.dumps({"done": done, "total": total, "what": what})
            )
            os.replace(temporary, _file[0])
