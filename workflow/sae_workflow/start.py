"""How a command of this package starts: its words, `--help`, and what is wrong in one line."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from sae.core.errors import UserError


def open_standard_streams() -> None:
    """Let standard input, output and error that are closed lead to the null device.

    After `make run >&-` the next file that a process opens would be its standard
    output, and `sys.stdout` would be None.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is taken, which is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line now; what a run makes does not hang on whether somebody reads it.

    Args:
        stream: where to print it, by default standard output.
    """
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:  # What reads it, such as `head`, has enough.
        silence(stream.fileno())


def silence(descriptor: int) -> None:
    """Let all that is written to a file descriptor from now on go to the null device."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, descriptor)
    os.close(null_device)


def start(main: Callable[..., int | None], *given: str) -> None:
    """Call `main` with the words that were given, or else with those of this process; exit with what it returns.

    Each of its parameters is a word, `*parameter` all that follow, one behind a `*` an option, without a value where
    its default is False. The docstring of its module is the help.
    """
    open_standard_streams()
    module, parameters = (
        sys.modules[main.__module__],
        inspect.signature(main).parameters,
    )
    program = f"python -m sae_workflow.{Path(str(module.__file__)).stem}"
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        program, description=module.__doc__, formatter_class=form
    )
    positional = []
    for word, parameter in parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            how: dict[str, Any] = (
                {"action": "store_true"}
                if parameter.default is False
                else {"required": True}
            )
            parser.add_argument(f"--{word}", **how)
            continue
        positional.append(word)
        many = (
            argparse.REMAINDER if word == "options" else "*"
        )  # What another program takes begins with a dash.
        parser.add_argument(
            word, nargs=many if parameter.kind is parameter.VAR_POSITIONAL else 1
        )
    parse = (
        parser.parse_args if "options" in parameters else parser.parse_intermixed_args
    )
    options = vars(parse(given or sys.argv[1:]))
    words = [word for name in positional for word in options.pop(name)]
    code: int | None = 141  # As of a program that SIGPIPE ends.
    try:
        code = main(*words, **options)
        sys.stdout.flush()
    except BrokenPipeError:  # What reads it, such as `head`, has enough.
        silence(sys.stdout.fileno())
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    if code:
        sys.exit(code)
