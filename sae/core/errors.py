"""The exception that the command line shows without a traceback, and what its messages share."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message names the file, key or value, and what to do about it."""


def brief(error: BaseException, longest: int = 300) -> str:
    """What an exception says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[:longest] + "..."


def meant(name: object, names: Iterable[object]) -> str:
    """What a message about an unknown name ends in: the nearest of the names that there are, or nothing."""
    near = difflib.get_close_matches(str(name), [*map(str, names)], 1)
    return f"; did you mean {near[0]!r}?" if near else ""
