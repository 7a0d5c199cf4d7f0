"""The rule of arXiv:2606.27321: the largest lambda that loses no R^2, on validation.

Every method trains the trials of its sweep with every seed. Of a method's trials whose
R^2 is at least the baseline's, that of the largest lambda is chosen. A method that is
`at` another one then trains at what was chosen for that one. Each seed chooses for
itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae.bank.plan import Plan, PlannedMethod
from sae.bank.sae import Sae
from sae.core.errors import UserError
from sae.core.options import Options
from sae.protocols._history import Choice, History, Sizes

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
METRICS = ("reconstruction",)
NAME = "paper"
TOLERANCE = 0.0  # R^2 at least the other's, not one bit less.


def next(history: History) -> list[Sae]:
    """Return every trial with every seed; then `at` methods too, at what was chosen.

    Raises:
        UserError: a method that others are compared with diverged.
    """
    plan = history.plan
    trial_members = _trials(plan)
    if not history.has(trial_members):
        return trial_members
    _check_baselines(history)

    trial_by_name = {
        (member.method, member.name): member.trial for member in trial_members
    }
    chosen_names = {
        (row["method"], row["seed"]): row["trial"] for row in choose(history).rows
    }
    at_members = []
    for method, spec in plan.methods.items():
        if spec.at is None:
            continue
        for seed in plan.seeds:
            trial_name = chosen_names.get((spec.at, seed))
            # On fallback there is nothing to train at.
            if trial_name is not None:
                trial = trial_by_name[spec.at, trial_name]
                at_members.append(plan.member(method, trial, seed, NAME))
    return trial_members + at_members


def choose(history: History) -> Choice:
    """Choose one trial per method and seed; :func:`chosen` has the rule.

    Judged is what was chosen.
    """
    validation = history.rows_of(_trials(history.plan))
    rows = chosen(validation, history.plan.methods)
    judged = {
        (row["method"], row["trial"], row["seed"])
        for row in rows
        if row["trial"] is not None
    }
    return Choice(rows, judged)


def at_most(plan: Plan, options: Options) -> Sizes:
    """Count the SAEs: every trial and seed, and after the choice the `at` methods."""
    trial_counts = {}
    at_counts = {}
    for method, spec in plan.methods.items():
        if spec.at is None:
            trial_counts[method] = len(_seeds(plan, spec)) * len(spec.trials())
        else:
            at_counts[method] = len(plan.seeds)
    return Sizes(
        trials=sum(trial_counts.values()),
        after=sum(at_counts.values()),
        by_method={**trial_counts, **at_counts},
        judged=len(plan.seeds) * len(trial_counts),
    )


def chosen(
    validation: pd.DataFrame, methods: Mapping[str, PlannedMethod]
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
        - `bar`: the R^2 to reach; NaN where there is none.

    Raises:
        UserError: `validation` has no row of a method that another one is `against`,
            with the same seed.
    """
    rows = []
    methods_and_seeds = validation[["method", "seed"]].drop_duplicates()
    for method, seed in methods_and_seeds.itertuples(index=False):
        decision = _decide(validation, methods, method, int(seed))
        rows.append(
            {
                "method": method,
                "seed": int(seed),
                "tolerance": TOLERANCE,
                "trial": decision.trial_name,
                "role": None if decision.trial_name is None else "candidate",
                "status": decision.status,
                "r2": decision.r2,
                "bar": decision.bar,
            }
        )
    return rows


@dataclass(frozen=True)
class _Decision:
    """The choice for a method and a seed; :func:`chosen` explains the fields.

    `trial_name` is its column `trial`.
    """

    trial_name: str | None
    status: str
    r2: float
    bar: float


def _decide(
    validation: pd.DataFrame,
    methods: Mapping[str, PlannedMethod],
    method: str,
    seed: int,
) -> _Decision:
    is_of_method = validation["method"] == method
    trials = validation[is_of_method & (validation["seed"] == seed)]
    if trials.empty:
        raise UserError(
            f"selection: the bank has no SAE of method {method} with seed {seed} "
            "to compare with"
        )

    # The R^2 to reach is that of the other method's choice; on a fallback, what that
    # method had to reach itself.
    spec = methods[method]
    bar = math.nan
    if spec.against:
        reference = _decide(validation, methods, spec.against, seed)
        bar = reference.bar if reference.trial_name is None else reference.r2

    acceptable = trials[(trials["status"] == "ok") & trials["r2"].notna()]
    status = "chosen"
    if spec.sweep and spec.against:
        acceptable = acceptable[acceptable["r2"] >= bar]
        if acceptable["lambda"].notna().any():
            largest = acceptable["lambda"].max()
            acceptable = acceptable[acceptable["lambda"] == largest]
            # Diverged trials count here: the sweep had their lambda too.
            if "lambda" in spec.sweep and largest == trials["lambda"].max():
                status = "edge"
    if acceptable.empty:
        return _Decision(trial_name=None, status="fallback", r2=math.nan, bar=bar)

    best = acceptable.loc[acceptable["r2"].idxmax()]
    return _Decision(trial_name=best["trial"], status=status, r2=best["r2"], bar=bar)


def _trials(plan: Plan) -> list[Sae]:
    """Return every trial with every seed, of methods that are `at` no other one."""
    # Baselines, which are compared with no other method, come first. Then methods are
    # in the order of their names, since that of config.yaml should decide nothing.

    def place_in_order(method: str) -> tuple[bool, str]:
        spec = plan.methods[method]
        is_no_baseline = spec.against is not None or spec.control
        return is_no_baseline, method

    members = []
    for method in sorted(plan.methods, key=place_in_order):
        spec = plan.methods[method]
        if spec.at is not None:
            continue
        for trial in spec.trials():
            for seed in _seeds(plan, spec):
                members.append(plan.member(method, trial, seed, NAME))
    return members


def _seeds(plan: Plan, spec: PlannedMethod) -> list[int]:
    """Return the seeds of a method: the first alone if its SAE was made elsewhere."""
    return plan.seeds[:1] if spec.objective == "imported" else plan.seeds


def _check_baselines(history: History) -> None:
    specs = history.plan.methods
    # What others are compared with, and what is itself compared with nothing.
    baselines = {spec.against for spec in specs.values() if spec.against is not None}
    for method, spec in specs.items():
        if spec.against is None and not (spec.at or spec.control):
            baselines.add(method)
    for (method, seed), trials in history.validation.groupby(["method", "seed"]):
        if method in baselines and (trials["status"] != "ok").all():
            raise UserError(
                f"{history.plan.cell}: the baseline diverged (seed {seed}): "
                f"nothing can be compared with {method}; lower lr"
            )
