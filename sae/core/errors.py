"""Bad input: the exception that is shown without a traceback, and words of messages."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message names the file, key or value, and what to do about it."""


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
