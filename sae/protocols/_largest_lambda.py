"""The rule of arXiv:2606.27321: the largest lambda that loses no R^2, on validation.

Of a method's trials whose R^2 is at least the baseline's, that of the largest lambda is
chosen. A method that is `at` another one then trains at what was chosen for that one.
Each seed chooses for itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae.bank.plan import Method
from sae.bank.sae import Sae
from sae.core.errors import UserError
from sae.protocols._history import Choice, History, Rounds

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 0.0  # R^2 at least the other's, not one bit less.


def largest_lambda(
    history: History, trial_members: list[Sae], protocol: str
) -> Rounds[Choice]:
    """Choose one trial per method and seed, and train `at` methods at what was chosen.

    :func:`chosen` has the rule.

    Args:
        history: Of the cell.
        trial_members: Every trial with every seed, all of them trained.
        protocol: Its name.

    Raises:
        UserError: A method that others are compared with diverged.
    """
    plan = history.plan
    _check_baselines(history)
    rows = chosen(history.rows_of(trial_members), plan.methods)

    # On fallback there is no trial, and nothing to train at.
    chosen_names = {
        (row["method"], row["seed"]): row["trial"]
        for row in rows
        if row["trial"] is not None
    }
    trial_by_name = {
        (member.method, member.name): member.trial for member in trial_members
    }
    yield [
        plan.member(
            name,
            trial_by_name[method.at, chosen_names[method.at, seed]],
            seed,
            protocol,
        )
        for name, method in plan.methods.items()
        if method.at is not None
        for seed in plan.seeds
        if (method.at, seed) in chosen_names
    ]

    keys = {(name, trial, seed) for (name, seed), trial in chosen_names.items()}
    return Choice(rows, keys)


def chosen(
    validation: pd.DataFrame, methods: Mapping[str, Method]
) -> list[dict[str, Any]]:
    """Choose one trial per method and seed of one cell.

    A method without a sweep has one trial, which is chosen. With `against`: of the
    trials whose R^2 is at least that of the other method's choice of the same seed (an
    equal one is enough), those of the largest lambda; of several the one with the
    highest R^2. Without `against`: the highest R^2. Of equals the first in the order of
    `validation`. A diverged SAE is never chosen.

    Args:
        validation: A row per SAE: method, trial, seed, lambda, status, and r2 on the
            validation split.
        methods: {name: method}, of all that stand in `validation` or are an `against`.

    Returns:
        A row per method and seed, in the order of `validation`: method, seed,
        tolerance, trial, role, status, r2, bar.

        - `trial`: the choice; None on fallback, where the numbers of the method that it
          is `against` stand for it.
        - `role`: 'candidate'; None on fallback.
        - `status`: 'chosen'; 'edge' where the choice is the sweep's largest lambda, so
          that a larger one might have done too; 'fallback' where nothing is acceptable.
        - `r2`: of the choice; NaN on fallback.
        - `bar`: R*, of the other method's choice; NaN where there is none.

    Raises:
        UserError: `validation` has no row of a method that another one is `against`,
            with the same seed.
    """
    methods_and_seeds = validation[["method", "seed"]].drop_duplicates()
    return [
        _choice_of(validation, methods, method, int(seed))
        for method, seed in methods_and_seeds.itertuples(index=False)
    ]


def _choice_of(
    validation: pd.DataFrame, methods: Mapping[str, Method], name: str, seed: int
) -> dict[str, Any]:
    """Return the row of a method and a seed that :func:`chosen` explains."""
    is_of_method = validation["method"] == name
    trials = validation[is_of_method & (validation["seed"] == seed)]
    if trials.empty:
        raise UserError(
            f"selection: the bank has no SAE of method {name} with seed {seed} "
            "to compare with"
        )

    # R* is the R^2 of the other method's choice; on a fallback, that method's own R*.
    method = methods[name]
    best_r2 = math.nan
    if method.against:
        reference = _choice_of(validation, methods, method.against, seed)
        best_r2 = reference["bar" if reference["trial"] is None else "r2"]

    acceptable = trials[(trials["status"] == "ok") & trials["r2"].notna()]
    status = "chosen"
    if method.sweep and method.against:
        acceptable = acceptable[acceptable["r2"] >= best_r2]
        if acceptable["lambda"].notna().any():
            largest = acceptable["lambda"].max()
            acceptable = acceptable[acceptable["lambda"] == largest]
            # Diverged trials count here: the sweep had their lambda too.
            if "lambda" in method.sweep and largest == trials["lambda"].max():
                status = "edge"

    row: dict[str, Any] = {"method": name, "seed": seed, "tolerance": TOLERANCE}
    if acceptable.empty:
        none = {"trial": None, "role": None, "status": "fallback", "r2": math.nan}
        return {**row, **none, "bar": best_r2}
    best = acceptable.loc[acceptable["r2"].idxmax()]
    return {
        **row,
        "trial": best["trial"],
        "role": "candidate",
        "status": status,
        "r2": best["r2"],
        "bar": best_r2,
    }


def _check_baselines(history: History) -> None:
    methods = history.plan.methods
    # What others are compared with, and what is itself compared with nothing.
    baselines = {method.against for method in methods.values()}
    for name, method in methods.items():
        if method.against is None and not (method.at or method.control):
            baselines.add(name)
    for (name, seed), trials in history.validation.groupby(["method", "seed"]):
        if name in baselines and (trials["status"] != "ok").all():
            raise UserError(
                f"{history.plan.cell}: the baseline diverged (seed {seed}): "
                f"nothing can be compared with {name}; lower lr"
            )
