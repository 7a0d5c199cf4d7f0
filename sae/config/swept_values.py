"""Check the values of options that the trials of a method try."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from sae.bank.plan import INPUT_OPTIONS
from sae.config.models import Method, Sweep
from sae.config.problems import Problems
from sae.core import paths
from sae.core.options import describe_problem
from sae.training.recipe import Recipe, rounded

# The options that belong to a penalty, whichever it is.
PENALTY_OPTIONS = {"lambda", "mask"}
# What every method can sweep, beside the options of its objective and its penalty.
_COMMON_OPTIONS = {"lambda", *Recipe.model_fields} - {*INPUT_OPTIONS, "log_every"}
_IN_PATHS = "[A-Za-z0-9_.+-]+"


def check_sweep(
    key: str,
    sweep: Mapping[str, Any],
    method: Method,
    problems: Problems,
    *,
    excluded: Collection[str] = (),
) -> Sweep:
    """Check which options are tried for a method, and their values.

    Args:
        key: Where they stand in the config.
        sweep: {option: values, or {k8: values, ...}}.
        method: The method, complete.
        problems: Where it is noted what is wrong.
        excluded: Options that cannot be tried here.

    Returns:
        The same options, their values as they are trained, in ascending order, without
        those that are not right.
    """
    if method.at and sweep:
        problems.add(key, f"its trial is that of {method.at}: leave it out")

    allowed = {*_COMMON_OPTIONS, *method.options} - {*excluded}
    if not method.penalty:
        allowed -= PENALTY_OPTIONS
    if not problems.check_names(key, sweep, allowed):
        return {}

    checked: Sweep = {}
    for option, grid in sweep.items():
        option_key = f"{key}.{option}"
        if isinstance(grid, dict):
            checked[option] = {
                k: _check_values(f"{option_key}.{k}", option, values, method, problems)
                for k, values in grid.items()
            }
        else:
            checked[option] = _check_values(option_key, option, grid, method, problems)
    return checked


def _check_values(
    key: str, option: str, values: list[Any], method: Method, problems: Problems
) -> list[Any]:
    """Return the values that are right, as they are trained, in ascending order."""
    value_by_text: dict[str, Any] = {}
    words = method.model_dump(by_alias=True, exclude_unset=True)
    for position, value in enumerate(values):
        value_key = f"{key}.{position}"
        try:
            complete = type(method).model_validate({**words, option: value})
        except ValidationError as error:
            problems.add(value_key, describe_problem(error.errors()[0]))
            continue

        trained_value = complete.model_dump(by_alias=True)[option]
        text = ""
        if isinstance(trained_value, str | int | float):
            text = paths.value_in_path(trained_value)
        if not re.fullmatch(_IN_PATHS, text):
            problems.add(
                value_key, f"{value!r} cannot stand in a path, so it cannot be swept"
            )
            continue
        if text in value_by_text:
            problems.add(
                key,
                f"two values are both written {text} in paths; leave one out, or part "
                "them more",
            )
        value_by_text[text] = rounded(trained_value)
    return sorted(
        value_by_text.values(), key=lambda value: (isinstance(value, str), value)
    )
