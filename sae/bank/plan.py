"""What SAEs a bank's plan asks for. No torch here: the workflow counts and keeps SAEs by it.

A plan is JSON: {dataset, backbone, k, seeds: [...], recipe: {...}, methods: {name: {objective, penalty, mask, lambda,
options: {...}, recipe: {overrides}, sweep: {option: [values]}, at, against, control}}}, complete with all defaults.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sae.core import paths
from sae.core.errors import UserError
from sae.training.settings import Recipe, Settings

if TYPE_CHECKING:
    import pandas as pd

# All SAEs of a bank read the same inputs.
OF_THE_BANK = ("input_norm", "unit_variance")


@dataclass(frozen=True)
class Member:
    """One SAE of a bank.

    Attributes:
        method: its name.
        trial: {swept option: value}; empty if the method sweeps nothing.
        settings: what it is trained with.
    """

    method: str
    trial: dict[str, Any]
    settings: Settings

    @property
    def path(self) -> str:
        """Where it lies, relative to its bank."""
        return paths.SAE.format(method=self.method, trial=paths.trial_name(self.trial), seed=self.settings.seed)

    def __str__(self) -> str:
        return f"{self.method} {paths.trial_name(self.trial)} seed {self.settings.seed}"


def members(plan: dict[str, Any]) -> list[Member]:
    """The SAEs of bank.json: of every method without `at` its trials, of every trial its seeds.

    Baselines, compared with no other method, come first: if one diverges, the rest is not worth its time. Then methods
    are in the order of their names, since that of config.yaml should decide nothing.

    Raises:
        UserError: a method sets or sweeps what it does not have, or what the whole bank has in common.
    """
    return [
        _member(plan, method, trial, seed)
        for method, spec in sorted(plan["methods"].items(), key=_place)
        if spec["at"] is None
        for trial in trials(spec)
        for seed in plan["seeds"]
    ]


def _place(item: tuple[str, dict[str, Any]]) -> tuple[bool, str]:
    name, spec = item
    return spec["against"] is not None or spec["control"], name


def chosen_members(plan: dict[str, Any], selection: pd.DataFrame) -> list[Member]:
    """The SAEs of bank_chosen.json: of every `at` method, per seed, the trial chosen for the method it refers to.

    Args:
        selection: selection.parquet of this bank. Where no trial was acceptable there is nothing to train.

    Raises:
        UserError: the selection names a trial that the plan does not have.
    """
    chosen = {(row.method, row.seed): row.trial for row in selection.itertuples() if isinstance(row.trial, str)}
    found = []
    for method, spec in plan["methods"].items():
        if spec["at"] is None:
            continue
        there = {paths.trial_name(trial): trial for trial in trials(plan["methods"][spec["at"]])}
        for seed in plan["seeds"]:
            name = chosen.get((spec["at"], seed))
            if name is None:
                continue
            if name not in there:
                raise UserError(f"the selection chose {name} for {spec['at']}, which sweeps {', '.join(there)}")
            found.append(_member(plan, method, there[name], seed))
    return found


def count(plan: dict[str, Any]) -> tuple[int, int]:
    """SAEs in bank.json, and at most in bank_chosen.json."""
    specs, seeds = plan["methods"].values(), len(plan["seeds"])
    trained = sum(len(trials(spec)) for spec in specs if spec["at"] is None)
    return trained * seeds, sum(spec["at"] is not None for spec in specs) * seeds


def trials(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of a method's sweep, its options sorted by name; values are rounded to what paths print."""
    names = sorted(spec["sweep"])
    values = [list(dict.fromkeys(paths.rounded(v) for v in spec["sweep"][name])) for name in names]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


def _member(plan: dict[str, Any], method: str, trial: dict[str, Any], seed: int) -> Member:
    spec = plan["methods"][method]
    values = plan["recipe"] | spec["recipe"] | {"k": plan["k"], "seed": seed}
    values |= {name: spec[name] for name in ("objective", "penalty", "mask", "lambda")}
    options = dict(spec["options"])
    for name, value in trial.items():
        if name in options:
            options[name] = value
        elif name in Recipe.model_fields or (name == "lambda" and spec["penalty"]):
            values[name] = value
        else:
            raise UserError(f"method {method}: it has no option {name!r} to sweep")
    common = [name for name in OF_THE_BANK if name in spec["recipe"] or name in trial]
    if common:
        raise UserError(f"method {method}: {common[0]} is the same for all methods; set it in the recipe")
    if spec["penalty"] and values["lambda"] is None:
        raise UserError(f"method {method}: penalty {spec['penalty']} needs lambda, or a sweep of it")
    try:
        return Member(method, trial, Settings(**values, options=options))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"method {method}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
