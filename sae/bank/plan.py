"""What SAEs a bank's plan asks for. No torch here: the workflow counts and keeps SAEs by it.

A plan is JSON: {dataset, backbone, k, seeds: [...], recipe: {...}, methods: {name: {objective, penalty, mask, lambda,
options: {...}, recipe: {overrides}, sweep: {option: [values]}, at, against, control}}, fair}, complete with all
defaults. `fair` is null, or what protocol `fair` trains: {trials, design_seed, ranges: {method: {option: [low, high]}},
baseline, steps: {first, most, lr, ...} or null where every method sets its own, seeds: {tuning, shortlist, fresh},
shortlist, tolerances}.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
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
DIMENSIONS = 8  # of the design of protocol `fair`: options of one method that it can draw


@dataclass(frozen=True)
class Member:
    """One SAE of a bank.

    Attributes:
        method: its name.
        trial: {swept option: value}; empty if the method sweeps nothing.
        settings: what it is trained with.
        protocol: whose trial it is.
    """

    method: str
    trial: dict[str, Any]
    settings: Settings
    protocol: str = "paper"

    @property
    def path(self) -> str:
        """Where it lies, relative to its bank."""
        return paths.SAE.format(method=self.method, trial=paths.trial_name(self.trial), seed=self.settings.seed)

    def __str__(self) -> str:
        return f"{self.method} {paths.trial_name(self.trial)} seed {self.settings.seed}"


def members(plan: dict[str, Any], steps: int | None = None) -> list[Member]:
    """The SAEs of bank.json: of every method without `at` its trials, of every trial its seeds.

    Baselines, compared with no other method, come first: if one diverges, the rest is not worth its time. Then methods
    are in the order of their names, since that of config.yaml should decide nothing. Trials of `fair` come last.

    Args:
        steps: of the trials of protocol `fair`, where methods set none; by default as many as are allowed.

    Raises:
        UserError: a method sets or sweeps what it does not have, or what the whole bank has in common.
    """
    found = [
        _member(plan, method, trial, seed)
        for method, spec in sorted(plan["methods"].items(), key=_place)
        if spec["at"] is None
        for trial in trials(spec)
        for seed in _seeds(plan, spec)
    ]
    if fair := plan["fair"]:
        most = fair["steps"] and fair["steps"]["most"]
        for method in fair["ranges"]:
            every = designed(plan, method, steps or most)
            found += [_member(plan, method, trial, fair["seeds"]["tuning"], "fair") for trial in every]
    return found


def length_members(plan: dict[str, Any], steps: int) -> list[Member]:
    """The SAEs that say whether so many steps are enough: the baseline with each learning rate."""
    fair = plan["fair"]
    every = [{"lr": paths.rounded(lr), "steps": steps} for lr in fair["steps"]["lr"]]
    return [_member(plan, fair["baseline"], trial, fair["seeds"]["tuning"], "fair") for trial in every]


def shortlist_members(plan: dict[str, Any], steps: int | None, picked: Iterable[tuple[str, str]]) -> list[Member]:
    """The SAEs of bank_shortlist.json: (method, trial) with the other tuning seeds."""
    fair = plan["fair"]
    return [
        _member(plan, method, _designed_as(plan, method, steps, trial), seed, "fair")
        for method, trial in picked
        for seed in fair["seeds"]["shortlist"]
    ]


def designed(plan: dict[str, Any], method: str, steps: int | None) -> list[dict[str, Any]]:
    """The trials of a method under protocol `fair`: the first points of one scrambled Sobol sequence for all methods.

    Its first two coordinates are lr and encoder_scale, so that all methods share these; then come the method's own
    options by name. Each is spread evenly in the logarithm between the ends of its range; values have three digits. A
    method that sets its own number of steps keeps it.
    """
    fair, steps = plan["fair"], plan["methods"][method]["recipe"].get("steps") or steps
    ranges = fair["ranges"][method]
    first = ["lr", "encoder_scale"]
    names = first + sorted(ranges.keys() - first)
    points = _sobol(fair["trials"], fair["design_seed"])
    if len(names) > DIMENSIONS:
        raise UserError(
            f"fair: {method} has {len(names)} options with a range; at most {DIMENSIONS} can be drawn together"
        )
    found = []
    for point in points:
        trial: dict[str, Any] = {"steps": steps}
        for name, at in zip(names, point, strict=False):
            low, high = map(math.log, ranges[name])
            trial[name] = float(f"{math.exp(low + at * (high - low)):.3g}")
        found.append(trial)
    return found


@functools.cache
def _sobol(count: int, seed: int) -> list[list[float]]:
    """(count, DIMENSIONS) points in the unit cube; always so many coordinates: scrambling hangs on their number."""
    from scipy.stats import qmc  # Takes half a second.

    # A prefix of a longer design is the shorter one. Its length must be a power of 2, or it warns.
    sequence = qmc.Sobol(DIMENSIONS, scramble=True, rng=seed)
    return sequence.random_base2(max(0, count - 1).bit_length())[:count].tolist()


def _designed_as(plan: dict[str, Any], method: str, steps: int | None, name: str) -> dict[str, Any]:
    """The trial of protocol `fair` that has this name in paths."""
    there = {paths.trial_name(trial): trial for trial in designed(plan, method, steps)}
    if name not in there:
        raise UserError(f"the selection chose {name} for {method}, whose trials are {', '.join(there)}")
    return there[name]


def _place(item: tuple[str, dict[str, Any]]) -> tuple[bool, str]:
    name, spec = item
    return spec["against"] is not None or spec["control"], name


def chosen_members(plan: dict[str, Any], selection: pd.DataFrame, steps: int | None = None) -> list[Member]:
    """The SAEs of bank_chosen.json: what selection asks for.

    Of every `at` method, per seed, the trial chosen for the method it refers to; under protocol `fair` the candidates
    with fresh seeds, and the `at` methods at the candidate of the first tolerance.

    Args:
        selection: selection.parquet of this bank. Where no trial was acceptable there is nothing to train.
        steps: of the trials of protocol `fair`.

    Raises:
        UserError: the selection names a trial that the plan does not have.
    """
    there = selection[selection["trial"].notna()]
    paper, fair = (_by_seed(there[there["protocol"] == protocol]) for protocol in ("paper", "fair"))
    found = []
    for method, spec in plan["methods"].items():
        if spec["at"] is None:
            continue
        named = {paths.trial_name(trial): trial for trial in trials(plan["methods"][spec["at"]])}
        for seed in plan["seeds"]:
            for name in paper.get((spec["at"], seed), []):
                if name not in named:
                    raise UserError(f"the selection chose {name} for {spec['at']}, which sweeps {', '.join(named)}")
                found.append(_member(plan, method, named[name], seed))
    for (method, seed), names in fair.items():
        pick = functools.partial(_designed_as, plan, method, steps)
        found += [_member(plan, method, pick(name), seed, "fair") for name in dict.fromkeys(names)]
        # The first tolerance is the headline.
        at = [name for name, spec in plan["methods"].items() if spec["at"] == method]
        found += [_member(plan, name, pick(names[0]), seed, "fair") for name in at]
    return found


def _by_seed(rows: pd.DataFrame) -> dict[tuple[str, int], list[str]]:
    """{(method, seed): its trials}, in the order of the rows."""
    return {key: list(of["trial"]) for key, of in rows.groupby(["method", "seed"], sort=False)}


def count(plan: dict[str, Any]) -> dict[str, int]:
    """{stem of a bank's file: its SAEs, at most}."""
    specs, seeds, fair = plan["methods"].values(), len(plan["seeds"]), plan["fair"]
    found = {
        "bank": sum(len(_seeds(plan, spec)) * len(trials(spec)) for spec in specs if spec["at"] is None),
        "bank_chosen": seeds * sum(spec["at"] is not None for spec in specs),
    }
    if fair:
        methods, at = len(fair["ranges"]), sum(spec["at"] in fair["ranges"] for spec in specs)
        roots = sum(plan["methods"][name]["against"] is None for name in fair["ranges"])
        shortlisted = min(fair["shortlist"], fair["trials"]) * (methods + roots)
        found["bank"] += fair["trials"] * methods
        found["bank_chosen"] += len(fair["seeds"]["fresh"]) * (methods * len(fair["tolerances"]) + at)
        found["bank_shortlist"] = len(fair["seeds"]["shortlist"]) * shortlisted
        if fair["steps"]:
            lengths = (fair["steps"]["most"] // fair["steps"]["first"]).bit_length()
            found["bank_lengths"] = lengths * len(fair["steps"]["lr"])
    return found


def _seeds(plan: dict[str, Any], spec: dict[str, Any]) -> list[int]:
    """The seeds of a method; an SAE that was made elsewhere is one."""
    seeds: list[int] = plan["seeds"]
    return seeds[:1] if spec["objective"] == "imported" else seeds


def trials(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of a method's sweep, its options sorted by name; values are rounded to what paths print."""
    names = sorted(spec["sweep"])
    values = [list(dict.fromkeys(paths.rounded(v) for v in spec["sweep"][name])) for name in names]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


def _member(plan: dict[str, Any], method: str, trial: dict[str, Any], seed: int, protocol: str = "paper") -> Member:
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
        return Member(method, trial, Settings(**values, options=options), protocol)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"method {method}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
