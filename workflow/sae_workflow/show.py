"""Open an experiment's site in a browser, or say where it lies: `make show EXPERIMENT=demo`."""

import os
import sys
import webbrowser
from pathlib import Path

from sae.core import paths
from sae_workflow.start import start


def show(experiment: str) -> int:
    """Open it where there is a display; the exit code."""
    page = Path(paths.SITE.format(experiment=experiment))
    if not page.exists():
        print(
            f"error: {page} is not there: make run EXPERIMENT={experiment} writes it",
            file=sys.stderr,
        )
        return 1
    has_display = sys.platform in ("darwin", "win32") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))
    )
    if not (has_display and webbrowser.open(page.resolve().as_uri())):
        print(
            f"{page}: open it in a browser, here or where you copy the folder {page.parent}"
        )
    return 0


if __name__ == "__main__":
    start(show)
