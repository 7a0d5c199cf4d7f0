"""Check that what an experiment sweeps by k has a grid for each of its k."""

import math
from collections.abc import Mapping
from typing import Any

import yaml

from sae.config.named_experiment import NamedExperiment
from sae.config.problems import Problems


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
