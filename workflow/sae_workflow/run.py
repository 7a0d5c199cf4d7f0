"""Run an experiment and show its result: what `make demo` calls.

After a SIGKILL, Snakemake leaves a lock behind; it is removed here, but only when its
owner is proven gone. Snakemake lacks it: it refuses a stale lock until somebody says
`--unlock`, and ends without a word of what came out.
"""

import signal

from sae.core import faults

if __name__ == "__main__":
    # Till the imports below, which take a second, are done.
    faults.hold_back(True, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from sae.config.yaml_file import parse_file
from sae.core import paths
from sae.core.errors import UserError
from sae_workflow import check, lock, settings, stop_signals
from sae_workflow.command_line import run_command, say

PATIENCE = 5  # seconds that a run that was stopped a moment ago may take to end


def main(experiment: str, *options: str) -> None:
    """Run `snakemake EXPERIMENT OPTIONS` in this folder, then print what it found.

    Args:
        experiment: The name of an experiment.
        options: Options of Snakemake.
    """
    check_configfiles(options)
    free_the_folder(options)
    first = first_cell_first(experiment, options)
    run_snakemake(experiment, *options, *first, "--logger", "sae")

    claims = Path(paths.CLAIMS.format(experiment=experiment, suffix="csv"))
    if not claims.exists():  # With `--until train` or the like.
        return
    # Snakemake looks at times: it would not notice that a finished file was altered.
    if check.report_damage(experiment):
        sys.exit(1)
    from sae_workflow import summary

    say("\n" + "\n".join(summary.summarise(experiment)))


def first_cell_first(experiment: str, options: Sequence[str]) -> list[str]:
    """Return the option of Snakemake that has the first cell made and scored first.

    `make show` shows it while the rest is made. Its scores wait for the embeddings of
    all backbones of its dataset, which judge it. Without the option these would come
    last: Snakemake starts with the jobs that read most.

    Args:
        experiment: The name of an experiment.
        options: Options of Snakemake, which may name files laid over the config.

    Returns:
        Nothing where the config is wrong: Snakemake will say how.
    """
    try:
        config = settings.read_config("config.yaml", *settings.overlays_of(options))
        cell = settings.cells(config, experiment)[0]
    except (UserError, KeyError):
        return []
    scores = paths.STAGE_TABLE.format(
        experiment=experiment, **cell.wildcards, stage="score", table="metrics"
    )
    return ["--prioritize", scores]


def check_configfiles(options: Sequence[str]) -> None:
    """Exit if a file after `--configfile` cannot be read.

    Snakemake itself would not say which file, nor the line.

    Args:
        options: Options of Snakemake.
    """
    try:
        for file in settings.configfiles_of(options):
            parse_file(file)
    except UserError as error:
        sys.exit(f"error: {error}")


def free_the_folder(options: Sequence[str]) -> None:
    """Wait a little for a run of this folder to end, and remove the lock of a dead one.

    This process exits if a run is alive, or may be. It then tells of mistakes in the
    config too, which can be mended in the meantime.

    Args:
        options: Options of Snakemake.
    """
    latest = time.monotonic() + PATIENCE
    while any(Path(".snakemake/locks").glob("*.lock")):
        obstacle = lock.obstacle_to_unlocking()
        if obstacle is None:
            say("A killed run left its lock; its owner is gone: unlocking.")
            run_snakemake("--unlock", "--quiet", "all")
            return
        if time.monotonic() > latest:
            try:
                settings.read_config("config.yaml", *settings.overlays_of(options))
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
            sys.exit(
                f"error: this folder is locked by a run: {obstacle}. Wait for it or "
                "stop it; if you are sure that it is gone, run `.venv/bin/snakemake "
                "--unlock`."
            )
        time.sleep(0.1)


def run_snakemake(*arguments: str) -> None:
    """Run Snakemake; exit with its code if it fails.

    A signal to stop goes on to Snakemake, which says so, ends its jobs and cleans up by
    itself: wait for that.

    Args:
        arguments: The words of its command line.
    """
    received_signals: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received_signals.append(number)
        # From a terminal Snakemake got that as well; it takes the first alone.
        if process is not None:
            process.send_signal(number)

    # Whoever started this may have it ignore a signal, and Snakemake too.
    handlers_before = {
        number: signal.getsignal(number)
        for number in stop_signals.STOP_SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    # From Snakemake, until it can say one line; and from here, until there is a process
    # to pass them on to.
    faults.hold_back(True, *stop_signals.STOP_SIGNALS)
    for number in handlers_before:
        signal.signal(number, pass_on)
    try:
        process = subprocess.Popen(
            ["snakemake", *arguments], env=_environment_with_live_view()
        )
    except FileNotFoundError:
        sys.exit(
            "error: snakemake is not on the PATH: activate .venv, or run `make demo`"
        )
    faults.hold_back(False, *stop_signals.STOP_SIGNALS)
    code = process.wait()

    if not received_signals:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
    # Also of one that came in the loop. The handlers stay: a further one does nothing.
    if received_signals:
        sys.exit(128 + received_signals[0])
    if code:
        sys.exit(code)


def _environment_with_live_view() -> dict[str, str]:
    """Return this process's environment, in which Snakemake finds the live view.

    It looks for `snakemake_logger_plugin_sae` in the folders of the path alone.
    """
    folders = [str(Path(__file__).parents[1])]
    if os.environ.get("PYTHONPATH"):
        folders.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


if __name__ == "__main__":
    # First of all: what is opened would take the place of a stream that is closed.
    faults.open_standard_streams()
    stop_signals.stop_in_one_line()
    run_command(main)
