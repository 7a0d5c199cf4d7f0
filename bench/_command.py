"""Let a script have several commands: `python bench/SCRIPT.py COMMAND --help`.

What a command does, and behind which sentence or table of which page it is, is the
docstring of the function that runs it.
"""

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

import _record as record


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], None],
    tiny: bool = True,
    writes: bool = False,
) -> argparse.ArgumentParser:
    """Add a command to a script.

    `tests/test_bench.py` finds these calls, and runs each command that has `--tiny`.

    Args:
        commands: What `add_subparsers` returned.
        name: The word that is typed.
        run: Takes the parsed arguments. Its docstring is the text of `--help`.
        tiny: Whether the command has `--tiny`, by which it takes seconds.
        writes: Whether it writes files, into the folder `--out`.

    Returns:
        The parser of the command, for further arguments.
    """
    text = inspect.getdoc(run) or ""
    command = commands.add_parser(
        name,
        help=text.partition("\n")[0],
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    if tiny:
        command.add_argument(
            "--tiny",
            action="store_true",
            help="seconds, to see that it runs: the figures mean nothing",
        )
    if writes:
        command.add_argument("--out", type=Path, default=record.OUT)
    return command


def add_numbers(command: argparse.ArgumentParser, **defaults: int) -> None:
    """Add an option with a whole number for each name, such as `--rows`."""
    for name, default in defaults.items():
        command.add_argument(f"--{name}", type=int, default=default)


def run_script(
    text: str, add_commands: Callable[["argparse._SubParsersAction"], None]
) -> None:
    """Parse what was typed, and run the command.

    Args:
        text: The docstring of the script.
        add_commands: Adds all of its commands.
    """
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_commands(commands)
    arguments = parser.parse_args()
    arguments.run(arguments)
