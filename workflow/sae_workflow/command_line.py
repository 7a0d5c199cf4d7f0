"""How a command of this package starts.

It reads its words, prints its help, and says in one line what is wrong.

Snakemake has nothing of it: commands of one's own beside it say their mistakes themselves.
"""

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from sae.core.errors import UserError
from sae.core.faults import BROKEN_PIPE, explain, open_standard_streams, silence


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line now; what a run makes does not hang on whether somebody reads it.

    Args:
        text: The line.
        stream: Where to print it, by default standard output.
    """
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:  # What reads it, such as `head`, has enough.
        silence(stream.fileno())


def run_command(main: Callable[..., int | None], *words: str) -> None:
    """Call the main function of a command, and exit with the code that it returns.

    The docstring of its module is the help. Its parameters say what it takes:

    - `name` is a word;
    - `*names` are all words that follow;
    - `*options` are all words that follow, also such as begin with a dash, since
      another program takes them;
    - a parameter behind a `*` is an option. It has no value where its default is False,
      and is required otherwise.

    Args:
        main: The function. What it raises as `UserError` or `OSError` is printed in one
            line.
        words: The command line, by default that of this process.
    """
    open_standard_streams()
    parameters = inspect.signature(main).parameters
    parser = _make_parser(main)
    # Where all that follows goes to another program, argparse cannot mix the order.
    parse = parser.parse_intermixed_args
    if "options" in parameters:
        parse = parser.parse_args
    values = vars(parse(words or sys.argv[1:]))

    positional_words: list[str] = []
    for name, parameter in parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            positional_words += values.pop(name)

    code: int | None = BROKEN_PIPE
    try:
        code = main(*positional_words, **values)
        sys.stdout.flush()
    except BrokenPipeError:  # What reads it, such as `head`, has enough.
        silence(sys.stdout.fileno())
    except (UserError, OSError) as error:
        fault = explain(error, parser.prog) if isinstance(error, OSError) else None
        sys.exit(f"error: {error if fault is None else fault[0]}")
    if code:
        sys.exit(code)


def _make_parser(main: Callable[..., int | None]) -> argparse.ArgumentParser:
    """Make the parser of a command line; each word of it gives a list."""
    module = sys.modules[main.__module__]
    parser = argparse.ArgumentParser(
        prog=f"python -m sae_workflow.{Path(str(module.__file__)).stem}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, parameter in inspect.signature(main).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            settings: dict[str, Any] = {"required": True}
            if parameter.default is False:
                settings = {"action": "store_true"}
            parser.add_argument(f"--{name}", **settings)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            parser.add_argument(name, nargs=1)
        elif name == "options":
            parser.add_argument(name, nargs=argparse.REMAINDER)
        else:
            parser.add_argument(name, nargs="*")
    return parser
