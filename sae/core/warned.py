"""What a step warns of, kept with what it made.

Who reads the results of a run sees neither the terminal nor the logs of its jobs, and a
job that is done does not run again. So each job leaves its warnings in a file of their
own (`sae.core.paths`), and an SAE has those of its training beside it in the store.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sae.core import files, paths

# The warnings of each block of `kept`, the innermost last.
_blocks: list[list[str]] = []


class _Keeper(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if record.levelno == logging.WARNING and text not in _blocks[-1]:
            _blocks[-1].append(text)


@contextmanager
def kept() -> Iterator[list[str]]:
    """Yield a list that gets each warning which the block logs, once.

    Where such blocks lie within each other, the innermost alone gets it.
    """
    texts: list[str] = []
    keeper = _Keeper()
    logger = logging.getLogger("sae")
    logger.addHandler(keeper)
    _blocks.append(texts)
    try:
        yield texts
    finally:
        _blocks.pop()
        logger.removeHandler(keeper)


def write(log: Path, texts: list[str]) -> None:
    """Keep what a job with this log warned of, in a file if there is anything."""
    file = paths.warnings_file(log)
    if file is None:
        return
    if texts:
        files.write_json(file, {"warnings": texts})
    else:
        file.unlink(missing_ok=True)
