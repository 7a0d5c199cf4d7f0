"""The command line: what is of use by itself, and every step of the workflow, to run without Snakemake.

A step is a function, whose parameters are its options. Its module alone is imported, so that `python -m sae fetch` does
not wait for torch.
"""

from sae.core import faults

if __name__ == "__main__":
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

from sae.core import codehash, command, extension_failures, faults, files, workers
from sae.core.errors import UserError
from sae.core.options import Count
from sae.steps import FOR_USERS, STEPS


def parser(chosen: str = "") -> argparse.ArgumentParser:
    """The parser of command lines; of the step that is chosen it knows the options, of others what all have."""
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        "python -m sae", description=_commands(), formatter_class=form
    )
    top.add_argument(
        "--extensions",
        default=os.environ.get("SAE_EXTENSIONS") or None,
        help="folder with entries of your own (`extensions` in config.yaml); by default $SAE_EXTENSIONS",
    )
    steps = top.add_subparsers(
        dest="step", required=True, metavar="COMMAND", help="one of the above"
    )
    for name in STEPS:
        sub = steps.add_parser(name, formatter_class=form, add_help=name == chosen)
        if name == chosen:
            _describe(sub, STEPS[name].load())
        code = "the hash that the step's code is to have, then the modules that it covers (`sae.core.codehash`)"
        sub.add_argument(
            "--code", nargs="+", default=[], metavar=("HASH", "MODULE"), help=code
        )
        text = "also write a detailed log to this file and, if all goes well, what it took to one beside it, .tsv"
        sub.add_argument("--log", type=Path, help=text)
    return top


def _commands() -> str:
    lines = {name: f"  {name:<10} {step.text}" for name, step in STEPS.items()}
    own = [lines.pop(name) for name in FOR_USERS]
    said = [
        "Of use by themselves:",
        *own,
        "",
        "The workflow's steps, which `make run` runs:",
        *lines.values(),
        "",
    ]
    return "\n".join([*said, "Options of a command: python -m sae COMMAND --help"])


def _describe(sub: argparse.ArgumentParser, function: Callable[..., None]) -> None:
    sub.description = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
    command.add_options(sub, function)
    if any(
        parameter.name == "device" for parameter, _ in command.command_options(function)
    ):
        text = "CPU threads of torch; results depend on it"
        sub.add_argument(
            "--threads", type=command.word_parser(Count), default=1, help=text
        )


def main(argv: list[str] | None = None) -> int:
    """Run one step; a `UserError`, or a fault of the machine, becomes one line on stderr and an exit code.

    What fails by an entry of one's own becomes three.
    """
    words, started = sys.argv[1:] if argv is None else argv, time.monotonic()
    a, _ = parser().parse_known_args(words)
    job = workers.RunningStep(a.step, a.extensions, tuple(a.code), a.log)
    # First the hash of the code, then its import: what runs is what was hashed.
    if code := _tried(job, job.begin) or _tried(job, STEPS[job.step].load):
        return code
    a = parser(job.step).parse_args(words)
    return _tried(job, lambda: _run(job, a, started))


def _run(job: workers.RunningStep, a: argparse.Namespace, started: float) -> None:
    # Imports are done: signals may come again. The workflow's shell had held Ctrl-C back, too.
    faults.hold_back(False, *faults.SIGNALS)
    if hasattr(a, "threads"):
        workers.start_torch(a.threads)
        a.device = workers.available_device(a.device)
    command.call_with_options(STEPS[job.step].load(), vars(a))
    job.check_code()  # Again: files of an extension that are not Python may have been read at any time.
    if job.log:
        _write_usage(job.log.with_suffix(".tsv"), time.monotonic() - started)


def _tried(job: workers.RunningStep, work: Callable[[], object]) -> int:
    """The exit code of some work, after what is to be said of its failure."""
    log = logging.getLogger("sae")
    try:
        work()
    except UserError as error:
        log.error("error: %s", error)
        return 1
    except (
        Exception,
        SystemExit,
    ) as error:  # `Stopped` is one, and code of one's own may raise another.
        if fault := faults.explain(error, job.step, STEPS[job.step].memory):
            # Ctrl-C reaches every job of a run, which says so itself, once.
            told = fault[1] == 128 + signal.SIGINT and "SAE_RUN" in os.environ
            log.log(logging.INFO if told else logging.ERROR, "error: %s", fault[0])
            return fault[1]
        theirs = extension_failures.explain(error, job.step)
        if theirs:
            log.error(
                "error: %s%s",
                theirs,
                f"\n  the whole traceback is in {job.log}" if job.log else "",
            )
        log.log(
            logging.DEBUG if theirs and job.log else logging.ERROR,
            "%s failed",
            job.step,
            exc_info=True,
        )
        return 1
    return 0


def _write_usage(file: Path, seconds: float) -> None:
    # Seconds, and MiB at the highest of this process and of the largest that it started.
    try:
        import resource
    except ImportError:  # Windows
        return
    both = [
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    cpu, memory = (
        sum(u.ru_utime + u.ru_stime for u in both),
        sum(u.ru_maxrss for u in both) / unit,
    )
    with suppress(
        OSError
    ):  # As a log that a full disk cuts short: what the step made is whole.
        files.write_text(
            file, f"s\tcpu_time\tmax_rss\n{seconds:.2f}\t{cpu:.2f}\t{memory:.0f}\n"
        )


if __name__ == "__main__":
    codehash.run_what_is_hashed()
    sys.exit(main())
