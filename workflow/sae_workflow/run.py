"""Run an experiment and show its result: what `make demo` calls.

After a SIGKILL, Snakemake leaves a lock behind; it is removed here, but only when its owner is proven gone.
"""

import signal

from sae.core import faults

if __name__ == "__main__":
    # Till the imports below, which take a second, are done.
    faults.hold_back(True, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from sae.core import paths
from sae.core.errors import UserError
from sae_workflow import check, lock, preflight, settings
from sae_workflow.start import open_standard_streams, say, start

PATIENCE = 5  # seconds that a run that was stopped a moment ago may take to end


def main(experiment: str, *options: str) -> None:
    """Run `snakemake EXPERIMENT OPTIONS` in this folder, then print what it found, and where."""
    check_configfiles(options)
    free_the_folder()
    snakemake(experiment, *options, "--logger", "sae")
    if Path(
        paths.CLAIMS.format(experiment=experiment, suffix="csv")
    ).exists():  # Not with `--until train` or the like.
        # Snakemake looks at times: it would not notice that a finished file was altered.
        if check.report(experiment):
            sys.exit(1)
        from sae_workflow import answer

        say("\n" + "\n".join(answer.text(experiment)))


def check_configfiles(options: Sequence[str]) -> None:
    """Exit if a file after `--configfile` cannot be read: Snakemake itself would not say which, nor the line."""
    try:
        for first, option in enumerate(options, 1):
            if option in ("--configfile", "--configfiles"):
                settings.merged(
                    *itertools.takewhile(
                        lambda word: not word.startswith("-"), options[first:]
                    )
                )
    except UserError as error:
        sys.exit(f"error: {error}")


def free_the_folder() -> None:
    """Wait a little for a run of this folder to end, and remove the lock of one that is gone; exit if one is alive."""
    latest = time.monotonic() + PATIENCE
    while any(Path(".snakemake/locks").glob("*.lock")):
        gone, why = lock.owner_is_gone()
        if gone:
            say("A killed run left its lock; its owner is gone: unlocking.")
            snakemake("--unlock", "--quiet", "all")
            return
        if time.monotonic() > latest:
            sys.exit(
                f"error: this folder is locked by a run: {why}. Wait for it or stop it; if you are sure that it is "
                "gone, run `.venv/bin/snakemake --unlock`."
            )
        time.sleep(0.1)


def snakemake(*arguments: str) -> None:
    """Run Snakemake; exit with its code if it fails.

    A signal to stop goes on to Snakemake, which says so, ends its jobs and cleans up by
    itself: wait for that.
    """
    stop_signals: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        stop_signals.append(number)
        # From a terminal Snakemake got that as well; it takes the first alone.
        if process is not None:
            process.send_signal(number)

    # Whoever started this may have it ignore a signal, and Snakemake too.
    handlers_before = {
        number: handler
        for number in preflight.STOP_SIGNALS
        if (handler := signal.getsignal(number)) != signal.SIG_IGN
    }
    # From Snakemake, until it can say one line; and from here, until there is a process
    # to pass them on to.
    faults.hold_back(True, *preflight.STOP_SIGNALS)
    for number in handlers_before:
        signal.signal(number, pass_on)
    try:
        # Snakemake looks for the view (`snakemake_logger_plugin_sae`) in the folders of the path alone.
        path = os.pathsep.join(
            [
                str(Path(__file__).parents[1]),
                *filter(None, [os.environ.get("PYTHONPATH")]),
            ]
        )
        process = subprocess.Popen(
            ["snakemake", *arguments], env=os.environ | {"PYTHONPATH": path}
        )
    except FileNotFoundError:
        sys.exit(
            "error: snakemake is not on the PATH: activate .venv, or run `make demo`"
        )
    faults.hold_back(False, *preflight.STOP_SIGNALS)
    code = process.wait()
    for number, handler in handlers_before.items():
        signal.signal(number, handler)
    if stop_signals:
        sys.exit(128 + stop_signals[0])
    if code:
        sys.exit(code)


if __name__ == "__main__":
    # First of all: what is opened would take the place of a stream that is closed.
    open_standard_streams()
    preflight.stop_in_one_line()
    start(main)
