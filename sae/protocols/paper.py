"""The rule of arXiv:2606.27321: the largest lambda that loses no R^2 against the baseline, on the validation split.

Every method trains the trials of its sweep with every seed; one that is `at` another one then trains at what was chosen
for that one. Each seed chooses for itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae.bank.plan import Member, Plan, PlannedMethod
from sae.core.errors import UserError
from sae.core.options import Options
from sae.protocols._history import Choice, History, Sizes

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
METRICS = ("reconstruction",)
NAME = "paper"
TOLERANCE = 0.0  # R^2 at least the other's, not one bit less.


def next(history: History) -> list[Member]:
    """Every trial with every seed; then the `at` methods at what was chosen.

    Raises:
        UserError: a method that others are compared with diverged.
    """
    plan, trials = history.plan, _trials(history.plan)
    if not history.has(trials):
        return trials
    _check_baselines(history)
    chosen = {
        (row["method"], row["seed"]): row["trial"] for row in choose(history).rows
    }
    options = {(member.method, member.name): member.trial for member in trials}
    at = []
    for method, spec in plan.methods.items():
        for seed in plan.seeds:
            if spec.at and (trial := chosen.get((spec.at, seed))):
                at.append(plan.member(method, options[spec.at, trial], seed, NAME))
    return trials + at


def choose(history: History) -> Choice:
    """One trial per method and seed; see :func:`chosen`."""
    rows = chosen(history.of(_trials(history.plan)), history.plan.methods)
    return Choice(
        rows,
        {
            (row["method"], row["trial"], row["seed"])
            for row in rows
            if row["trial"] is not None
        },
    )


def at_most(plan: Plan, options: Options) -> Sizes:
    """Every trial and seed; after the choice, a seed of each `at` method."""
    specs, seeds = plan.methods.items(), len(plan.seeds)
    trials = {
        name: len(_seeds(plan, spec)) * len(spec.trials())
        for name, spec in specs
        if spec.at is None
    }
    after = {name: seeds for name, spec in specs if spec.at is not None}
    return Sizes(
        sum(trials.values()), sum(after.values()), trials | after, seeds * len(trials)
    )


def chosen(
    validation: pd.DataFrame, methods: Mapping[str, PlannedMethod]
) -> list[dict[str, Any]]:
    """Choose one trial per method and seed of one cell.

    A method without a sweep has one trial, which is chosen. With `against`: of the trials whose R^2 is at least that of
    the other method's choice of the same seed (an equal one is enough), those of the largest lambda; of several the one
    with the highest R^2. Without `against`: the highest R^2. Of equals the first in the order of `validation`. A
    diverged SAE is never chosen.

    Args:
        validation: a row per SAE: method, trial, seed, lambda, status, r2 on val.

    Returns:
        A row per method and seed, in the order of `validation`: method, seed, tolerance, trial, role, status, r2, bar.
        `role`: 'candidate', None on fallback. `status`: 'chosen'; 'edge' where the choice is the sweep's largest
        lambda, so that a larger one might have done too; 'fallback' where nothing is acceptable: `trial` is then None,
        and the numbers of the method it is `against` stand for it. `r2`: of the choice, NaN on fallback.
        `bar`: R^2 to reach, NaN where there is none.

    Raises:
        UserError: `validation` has no row of a method that another one is `against`, with the same seed.
    """

    @functools.cache
    def decide(method: str, seed: int) -> dict[str, Any]:
        rows = validation[
            (validation["method"] == method) & (validation["seed"] == seed)
        ]
        if rows.empty:
            raise UserError(
                f"selection: the bank has no SAE of method {method} with seed {seed} to compare with"
            )
        bar = math.nan
        if against := methods[method].against:
            other = decide(against, seed)
            bar = other["r2"] if other["trial"] is not None else other["bar"]
        return _one(rows, methods[method], bar)

    return [
        {"method": method, "seed": int(seed), "tolerance": TOLERANCE}
        | decide(method, int(seed))
        for method, seed in validation[["method", "seed"]]
        .drop_duplicates()
        .itertuples(index=False)
    ]


def _one(rows: pd.DataFrame, method: PlannedMethod, bar: float) -> dict[str, Any]:
    acceptable = rows[(rows["status"] == "ok") & rows["r2"].notna()]
    verdict = "chosen"
    if method.sweep and method.against:
        acceptable = acceptable[acceptable["r2"] >= bar]
        if acceptable["lambda"].notna().any():
            largest = acceptable["lambda"].max()
            acceptable = acceptable[acceptable["lambda"] == largest]
            verdict = (
                "edge"
                if "lambda" in method.sweep and largest == rows["lambda"].max()
                else "chosen"
            )
    if acceptable.empty:
        return {
            "trial": None,
            "role": None,
            "status": "fallback",
            "r2": math.nan,
            "bar": bar,
        }
    best = acceptable.loc[acceptable["r2"].idxmax()]
    return {
        "trial": best["trial"],
        "role": "candidate",
        "status": verdict,
        "r2": best["r2"],
        "bar": bar,
    }


def _trials(plan: Plan) -> list[Member]:
    """Baselines, compared with no other method, come first.

    Then methods are in the order of their names, since that of config.yaml should decide nothing.
    """
    order = sorted(
        (spec.against is not None or spec.control, name)
        for name, spec in plan.methods.items()
    )
    return [
        plan.member(method, trial, seed, NAME)
        for _, method in order
        if (spec := plan.methods[method]).at is None
        for trial in spec.trials()
        for seed in _seeds(plan, spec)
    ]


def _seeds(plan: Plan, spec: PlannedMethod) -> list[int]:
    """The seeds of a method; an SAE that was made elsewhere is one."""
    return plan.seeds[:1] if spec.objective == "imported" else plan.seeds


def _check_baselines(history: History) -> None:
    specs = history.plan.methods
    alone = {
        name
        for name, spec in specs.items()
        if spec.against is None and not (spec.at or spec.control)
    }
    baselines = alone | {spec.against for spec in specs.values()}
    for (method, seed), own in history.validation.groupby(["method", "seed"]):
        if method in baselines and (own["status"] != "ok").all():
            said = f"the baseline diverged (seed {seed}): nothing can be compared with {method}; lower lr"
            raise UserError(f"{history.plan.cell}: {said}")
