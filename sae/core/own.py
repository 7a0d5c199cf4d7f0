"""What fails in entries of one's own (`extensions`): their line comes first, the traceback is for the log."""

import os
import re
import sys
import traceback
from pathlib import Path

from sae.core import registry

_LONGEST = 400  # characters of what an exception says
_KINDS = {
    package.rpartition(".")[2]: kind for kind, package in registry.PACKAGES.items()
}


def explain(error: BaseException, step: str) -> str | None:
    """Two lines for the user on an exception in which entries of one's own had a part; None if they had none.

    Where none of their lines was running, those that the step had loaded are named: autograd, for one, fails after the
    function whose fault it is has returned.
    """
    folder = registry.roots().get(registry.EXTENSIONS)
    if folder is None:
        return None
    # The text also has the causes, and what a process that decodes reported.
    whole = "".join(traceback.format_exception(error))
    ran = re.findall(
        f'File "({re.escape(f"{folder}{os.sep}")}[^"]+)", line ([0-9]+)', whole
    )
    if ran:
        file, line = ran[-1]
        entry = next(filter(None, (_entry(Path(outer)) for outer, _ in ran)), step)
        place = f"{entry} failed at {file} line {line}"
    else:
        loaded = [
            registry.locate(name)
            for name in list(sys.modules)
            if name.startswith(registry.EXTENSIONS)
        ]
        entries = [
            f"{_entry(path)} ({path})" for path in loaded if path and _entry(path)
        ]
        if not entries:
            return None
        place = f"{step} failed after code of your own had run, and perhaps by it: {', '.join(entries)}"
    said = "".join(traceback.format_exception_only(error)).strip()
    said = " ".join(
        said.splitlines()[-1:]
        if "Traceback (most recent call last)" in said
        else said.split()
    )
    return (
        f"{place}\n  {said if len(said) <= _LONGEST else said[: _LONGEST - 3] + '...'}"
    )


def _entry(file: Path) -> str | None:
    """The kind and name of the entry that a file in the folder is, if it is one."""
    kind = _KINDS.get(file.parent.name)
    return kind and f"{kind} {file.stem}"
