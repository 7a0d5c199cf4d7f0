"""Expect an error for what it names: a file, a key, a value, and what to do about it.

How the error puts this into words is not for tests to say.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sae.core.errors import UserError


@contextmanager
def refused_naming(
    *parts: str, error: type[BaseException] = UserError
) -> Iterator[None]:
    """Expect that the block raises an error whose message names all of some things.

    Args:
        parts: What the message must hold, each as it stands, in any order.
        error: The class of the error.
    """
    with pytest.raises(error) as caught:
        yield
    assert_names(str(caught.value), *parts)


def assert_names(message: str, *parts: str) -> None:
    """Check that a message names all of some things.

    Args:
        message: The message, or all that was printed.
        parts: What it must hold, each as it stands, in any order.
    """
    missing = [part for part in parts if part not in message]
    assert not missing, f"{missing} not in: {message}"
