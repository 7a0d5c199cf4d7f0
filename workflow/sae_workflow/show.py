"""Open an experiment's site in a browser, or say where it lies.

`make show EXPERIMENT=demo` does.
"""

import os
import sys
import webbrowser
from pathlib import Path

from sae.core import paths
from sae_workflow.command_line import run_command


def show(experiment: str) -> int:
    """Open the site of an experiment where there is a display.

    Returns:
        The exit code: 1 if there is no site.
    """
    page = Path(paths.SITE.format(experiment=experiment))
    if not page.exists():
        print(
            f"error: {page} is not there: make run EXPERIMENT={experiment} writes it",
            file=sys.stderr,
        )
        return 1
    if not (_has_display() and webbrowser.open(page.resolve().as_uri())):
        print(
            f"{page}: open it in a browser, here or where you copy the folder "
            f"{page.parent}"
        )
    return 0


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    run_command(show)
