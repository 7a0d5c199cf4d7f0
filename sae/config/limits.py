"""The most that a number in a config may be."""

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationInfo, field_validator

from sae.core.options import Options

# No number of a study is larger: it is a slip of the pen.
LIMIT = 10**12


class Limited(Options):
    """Options whose numbers are at most :data:`LIMIT`, but for seeds."""

    @field_validator("*")
    @classmethod
    def _check_limit(cls, value: Any, field: ValidationInfo) -> Any:
        """Check the numbers of a field, alone or one level deep in what it holds."""
        numbers: Iterable[Any] = [value]
        if isinstance(value, dict | Options):
            numbers = dict(value).values()
        elif isinstance(value, Iterable):
            numbers = value
        for number in numbers:
            if not isinstance(number, int | float) or "seed" in str(field.field_name):
                continue
            if number > LIMIT:
                raise ValueError(f"{number} should be at most {LIMIT:,}")
        return value
