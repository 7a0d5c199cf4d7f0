"""The command line: commands for people, and every step of the workflow.

A step is a function, whose parameters are its options. Its module alone is imported, so
that `python -m sae fetch` does not wait for torch.
"""

from sae.core import faults

if __name__ == "__main__":
    # First of all: what is opened would take the place of a stream that is closed.
    faults.open_standard_streams()
    faults.stop_on_signals()
    faults.hold_back(True, *faults.SIGNALS)

import argparse
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sae.core import (
    codehash,
    command,
    extension_failures,
    faults,
    files,
    warned,
    workers,
)
from sae.core.errors import UserError
from sae.core.options import Count
from sae.steps import FOR_USERS, STEPS

log = logging.getLogger("sae")


def parser(chosen_step: str = "") -> argparse.ArgumentParser:
    """Return the parser of command lines.

    Args:
        chosen_step: The step whose own options the parser knows. Of other steps it
            knows the options that all have.
    """
    form = argparse.RawDescriptionHelpFormatter
    parser_of_all = argparse.ArgumentParser(
        "python -m sae", description=_list_commands(), formatter_class=form
    )
    parser_of_all.add_argument(
        "--extensions",
        default=os.environ.get("SAE_EXTENSIONS") or None,
        help=(
            "folder with entries of your own (`extensions` in config.yaml); by default "
            "$SAE_EXTENSIONS"
        ),
    )
    steps = parser_of_all.add_subparsers(
        dest="step", required=True, metavar="COMMAND", help="one of the above"
    )
    for name in STEPS:
        is_chosen = name == chosen_step
        step_parser = steps.add_parser(name, formatter_class=form, add_help=is_chosen)
        if is_chosen:
            _add_own_options(step_parser, STEPS[name].load())
        step_parser.add_argument(
            "--code",
            nargs="+",
            default=[],
            metavar=("HASH", "MODULE"),
            help=(
                "the hash that the step's code is to have, then the modules that it "
                "covers (`sae.core.codehash`)"
            ),
        )
        step_parser.add_argument(
            "--log",
            type=Path,
            help=(
                "also write a detailed log to this file and, if all goes well, what it "
                "took to one beside it, .tsv"
            ),
        )
    return parser_of_all


def _list_commands() -> str:
    """Return the list of commands that `python -m sae --help` prints."""
    line_of_step = {name: f"  {name:<10} {step.text}" for name, step in STEPS.items()}
    lines_for_users = [line_of_step.pop(name) for name in FOR_USERS]
    return "\n".join(
        [
            "Of use by themselves:",
            *lines_for_users,
            "",
            "The workflow's steps, which `make run` runs:",
            *line_of_step.values(),
            "",
            "Options of a command: python -m sae COMMAND --help",
        ]
    )


def _add_own_options(
    step_parser: argparse.ArgumentParser, function: Callable[..., None]
) -> None:
    """Add the options of one step, and say what the step does.

    Args:
        step_parser: The parser of the step.
        function: What the step runs.
    """
    docstring = inspect.getdoc(function) or ""
    step_parser.description = docstring.partition("\n\nArgs:")[0]
    command.add_options(step_parser, function)
    parameter_names = [
        parameter.name for parameter, _ in command.command_options(function)
    ]
    # Who computes on a device computes with PyTorch.
    if "device" in parameter_names:
        step_parser.add_argument(
            "--threads",
            type=command.word_parser(Count),
            default=1,
            help="CPU threads of torch; results depend on it (default: %(default)s)",
        )


def main(argv: list[str] | None = None) -> int:
    """Run one step.

    A `UserError`, or a fault of the machine, is reported in one line on stderr. A
    failure of a user's own entry is reported in three.

    Args:
        argv: The words of the command line; None: those of this process.

    Returns:
        The exit code.
    """
    started_at = time.monotonic()
    words = sys.argv[1:] if argv is None else argv
    # The options of the step are not known yet: its module is not imported.
    common_options, _ = parser().parse_known_args(words)
    job = workers.RunningStep(
        common_options.step,
        common_options.extensions,
        tuple(common_options.code),
        common_options.log,
    )

    # First the hash of the code, then its import: what runs is what was hashed.
    exit_code = _exit_code_of(job, job.begin)
    if not exit_code:
        exit_code = _exit_code_of(job, STEPS[job.step].load)
    if exit_code:
        return exit_code

    options = parser(job.step).parse_args(words)
    return _exit_code_of(job, lambda: _run(job, options, started_at))


def _run(
    job: workers.RunningStep, options: argparse.Namespace, started_at: float
) -> None:
    """Run a step whose module is imported.

    Args:
        job: The step.
        options: All options of the command line.
        started_at: When this process began, in seconds of the monotonic clock.
    """
    # Imports are done: signals may come again. The workflow's shell had held Ctrl-C
    # back, too.
    faults.hold_back(False, *faults.SIGNALS)
    if hasattr(options, "threads"):
        workers.start_torch(options.threads)
        options.device = workers.available_device(options.device)
    with warned.kept() as warnings:
        command.call_with_options(STEPS[job.step].load(), vars(options))
    # A reader that is gone is noticed here, not when Python ends.
    sys.stdout.flush()
    # Once more: files of an extension that are not Python may have been read at any
    # time.
    job.check_code()
    if job.log:
        warned.write(job.log, warnings)
        _write_usage(job.log.with_suffix(".tsv"), time.monotonic() - started_at)


def _exit_code_of(job: workers.RunningStep, work: Callable[[], object]) -> int:
    """Do some work of a step, log its failure, and return the exit code.

    Args:
        job: The step.
        work: A function without arguments; what it returns is dropped.
    """
    try:
        work()
    except UserError as error:
        log.error("error: %s", error)
        return 1
    # `Stopped` is a SystemExit, and code of one's own may raise another.
    except (Exception, SystemExit) as error:
        if isinstance(error, BrokenPipeError) and job.step in FOR_USERS:
            # What reads the output, such as `head`, has enough.
            faults.silence(sys.stdout.fileno())
            return faults.BROKEN_PIPE
        fault = faults.explain(error, job.step, STEPS[job.step].memory)
        is_for_user = fault is None and job.step in FOR_USERS
        if is_for_user and isinstance(error, OSError) and error.filename is not None:
            # Of a path that was given: a file where a folder belongs, a link to itself.
            log.error("error: %s: %s", error.filename, error.strerror)
            return 1
        if fault is None:
            _log_traceback(job, error)
            return 1
        line, exit_code = fault
        # Ctrl-C reaches every job of a run, and the run itself says so, once.
        is_ctrl_c = exit_code == 128 + signal.SIGINT
        is_reported_by_run = is_ctrl_c and "SAE_RUN" in os.environ
        level = logging.INFO if is_reported_by_run else logging.ERROR
        log.log(level, "error: %s", line)
        return exit_code
    return 0


def _log_traceback(job: workers.RunningStep, error: BaseException) -> None:
    """Log the traceback of an error that is being handled.

    Where a user's own entry had a part in it, the terminal gets a short explanation,
    and the traceback goes to the log alone, if there is one.

    Args:
        job: The step that failed.
        error: The error.
    """
    explanation = extension_failures.explain(error, job.step)
    if explanation is not None:
        place = f"\n  the whole traceback is in {job.log}" if job.log else ""
        log.error("error: %s%s", explanation, place)
    is_for_log_alone = explanation is not None and job.log is not None
    level = logging.DEBUG if is_for_log_alone else logging.ERROR
    log.log(level, "%s failed", job.step, exc_info=True)


def _write_usage(file: Path, seconds: float) -> None:
    """Write what a step took, as Snakemake's benchmarks do.

    The table has one row: the seconds, the processor's seconds, and the MiB at the
    highest of this process and of the largest one that it started, together. On
    Windows, which does not tell, nothing is written.

    Args:
        file: A table of columns that tabs part.
        seconds: How long the step took.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    usages = [
        resource.getrusage(resource.RUSAGE_SELF),
        resource.getrusage(resource.RUSAGE_CHILDREN),
    ]
    cpu_seconds = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    # macOS counts bytes, other systems KiB.
    units_of_mib = 2**20 if sys.platform == "darwin" else 2**10
    mib = sum(usage.ru_maxrss for usage in usages) / units_of_mib
    table = f"s\tcpu_time\tmax_rss\n{seconds:.2f}\t{cpu_seconds:.2f}\t{mib:.0f}\n"
    # Like a log that a full disk cuts short: what the step made is whole.
    with suppress(OSError):
        files.write_text(file, table)


if __name__ == "__main__":
    codehash.run_what_is_hashed()
    sys.exit(main())
