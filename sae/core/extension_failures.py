"""Explain failures of a user's own entries (`extensions`).

The line that failed comes first; the traceback is for the log.
"""

import os
import re
import sys
import traceback
from pathlib import Path

from sae.core import registry

_LONGEST_MESSAGE = 400  # characters of what an exception says
# {folder in a folder of extensions: the kind of its entries}
_KIND_OF_FOLDER = {
    package.rpartition(".")[2]: kind for kind, package in registry.PACKAGES.items()
}


def explain(error: BaseException, step: str) -> str | None:
    """Explain an exception in which a user's entries had a part.

    Where none of their lines was running, the entries that the step had loaded are
    named: autograd, for one, fails after the function whose fault it is has returned.

    Args:
        error: The exception.
        step: The name of the step that failed.

    Returns:
        Two lines, what failed and why; None if no entry of the user's had a part.
    """
    folder = registry.roots().get(registry.EXTENSIONS)
    if folder is None:
        return None
    place = _failed_line(error, step, folder)
    if place is None:
        place = _loaded_entries(step)
    if place is None:
        return None
    return f"{place}\n  {_message(error)}"


def _failed_line(error: BaseException, step: str, folder: Path) -> str | None:
    """Say which entry failed, and where."""
    # The text also has the causes, and what a process that decodes images reported.
    traceback_text = "".join(traceback.format_exception(error))
    file_in_folder = f'{re.escape(f"{folder}{os.sep}")}[^"]+'
    running = re.findall(f'File "({file_in_folder})", line ([0-9]+)', traceback_text)
    if not running:
        return None

    # The outermost entry is named, and the innermost line.
    running_entries = [_entry_in(Path(file)) for file, _ in running]
    outermost_entry = next((entry for entry in running_entries if entry), step)
    innermost_file, line = running[-1]
    return f"{outermost_entry} failed at {innermost_file} line {line}"


def _loaded_entries(step: str) -> str | None:
    entries = []
    for module in list(sys.modules):
        file = (
            registry.locate(module) if module.startswith(registry.EXTENSIONS) else None
        )
        entry = _entry_in(file) if file else None
        if entry:
            entries.append(f"{entry} ({file})")
    if not entries:
        return None
    return (
        f"{step} failed after code of your own had run, and perhaps by it: "
        f"{', '.join(entries)}"
    )


def _message(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(error)).strip()
    # Another process's traceback ends in the class and the message.
    if "Traceback (most recent call last)" in text:
        text = text.splitlines()[-1]
    text = " ".join(text.split())
    if len(text) > _LONGEST_MESSAGE:
        text = text[: _LONGEST_MESSAGE - 3] + "..."
    return text


def _entry_in(file: Path) -> str | None:
    """Return the kind and name of the entry that a file is; None if it is none."""
    kind = _KIND_OF_FOLDER.get(file.parent.name)
    if kind is None:
        return None
    return f"{kind} {file.stem}"
