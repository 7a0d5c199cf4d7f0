"""Bad input: the exception that is shown without a traceback, and words of messages."""

import difflib
from collections.abc import Collection, Iterable
from typing import NamedTuple


class UserError(Exception):
    """Bad input. The message names the file, key or value, and what to do about it."""


class Problem(NamedTuple):
    """Something in a config that is not right.

    A protocol that makes one may change its words: no hash of code counts them.

    Attributes:
        key: The key of the value, parts with dots between them: "experiments.demo.k".
        text: What is wrong with the value, and what to do about it.
    """

    key: str
    text: str


def in_one_line(error: BaseException, longest: int = 300) -> str:
    """Return an exception's message in one line.

    Args:
        error: The exception. If it has no message, its class is named.
        longest: How many characters of the message are kept.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= longest:
        return text
    return text[:longest] + "..."


def did_you_mean(unknown_name: object, names: Iterable[object]) -> str:
    """Return the end of a message about an unknown name: "; did you mean 'topk'?".

    Args:
        unknown_name: What the user wrote.
        names: The names that there are.

    Returns:
        "" if no name is near the unknown one.
    """
    candidates = [str(name) for name in names]
    nearest = difflib.get_close_matches(str(unknown_name), candidates, n=1)
    if not nearest:
        return ""
    return f"; did you mean {nearest[0]!r}?"


def describe_unknown(unknown_name: object, names: Collection[object]) -> str:
    """Say that a name is not known, and which names there are.

    Args:
        unknown_name: What the user wrote.
        names: The names that there are.
    """
    allowed = ", ".join(sorted(map(str, names))) or "none"
    return (
        f"{unknown_name!r} is not known; allowed: {allowed}"
        f"{did_you_mean(unknown_name, names)}"
    )
