"""Check sweeps: the values that trials try, and a grid for each k of an experiment."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from sae.bank.plan import INPUT_OPTIONS
from sae.config.models import MethodEntry, Sweep
from sae.config.named_experiment import NamedExperiment
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
    method: MethodEntry,
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
    key: str, option: str, values: list[Any], method: MethodEntry, problems: Problems
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


def check_grids(experiment: NamedExperiment, problems: Problems) -> None:
    """Check that a sweep by k has a grid for every k of an experiment, and no other.

    Grids that nobody wrote for this experiment, but for a method or another experiment,
    may be of other k, too. Those that are missing there are noted in one line, which
    says what to write.
    """
    names_of_k = experiment.names_of_k
    is_inherited = problems.origin(f"{experiment.key}.sweep") is not None
    missing_by_option: dict[str, list[str]] = {}
    for name in experiment.methods:
        swept_here = experiment.sweep_said_here(name)
        for option, grid_by_k in experiment.sweep(name).items():
            if not isinstance(grid_by_k, dict):
                continue
            missing = [k for k in names_of_k if k not in grid_by_k]
            if option in swept_here and not is_inherited:
                key = f"{experiment.key}.sweep.{name}.{option}"
                if missing:
                    problems.add(key, f"no grid for {', '.join(missing)}")
                problems.check_names(key, grid_by_k, names_of_k)
            elif missing:
                missing_by_option[option] = missing

    if missing_by_option:
        lacking = " and ".join(
            f"{option} for {', '.join(missing)}"
            for option, missing in missing_by_option.items()
        )
        problems.add(
            f"{experiment.key}.sweep",
            f"no grid of {lacking}: write `{_sweep_to_write(experiment)}` here, with "
            "the values that you mean",
        )


def _sweep_to_write(experiment: NamedExperiment) -> str:
    """Return a line such as `sweep: {reg1: {lambda: {k8: [0.1], k16: [0.1]}}}`."""
    # Where a k has no grid, the line has the grid of the nearest k. What a method
    # itself sweeps alike at all k is left to the method.
    sweep: dict[str, dict[str, Any]] = {}
    for name in experiment.methods:
        swept_here = experiment.sweep_said_here(name)
        for option, grid in experiment.sweep(name).items():
            if isinstance(grid, dict):
                grid_to_write: Any = {
                    f"k{k}": _nearest_grid(grid, k) for k in experiment.spec.every_k
                }
            elif option in swept_here:
                grid_to_write = grid
            else:
                continue
            sweep.setdefault(name, {})[option] = grid_to_write
    text = yaml.safe_dump(
        {"sweep": sweep}, default_flow_style=True, sort_keys=False, width=math.inf
    )
    # Without the braces of the mapping, and the end of the line.
    return text.strip()[1:-1]


def _nearest_grid(grid_by_k: Mapping[str, list[Any]], k: int) -> list[Any]:
    """Return a copy of the grid of nearest k; YAML would anchor one used twice."""

    def distance(name: str) -> float:
        return abs(math.log(int(name.removeprefix("k")) / k))

    return list(grid_by_k[min(grid_by_k, key=distance)])
