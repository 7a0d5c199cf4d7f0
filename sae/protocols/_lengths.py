"""A step of a design: the length of training, which doubles while the baseline gains.

The first lengths are trained by the baseline alone. What all methods train at is the
last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sae.bank.plan import Plan
from sae.bank.sae import Sae
from sae.core.errors import Problem, UserError, describe_unknown
from sae.protocols._fronts import score_trials
from sae.protocols._history import History, Rounds
from sae.protocols._own_options import rounded
from sae.scoring.front import MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from sae.config.protocol_use import ProtocolUse

# At how many learning rates the baseline tries a length.
RATES_OF_LENGTH = 3


def double_lengths(history: History, protocol: str) -> Rounds[dict[str, Any]]:
    """Double the length of training as long as the baseline gains.

    Args:
        history: Of the cell. Of the options `most_steps`, `steps`, `lr` and `tuning`
            are read.
        protocol: Its name.

    Returns:
        {steps, undertrained}: how long the cell trains, and whether the baseline would
        still gain from more; {} where every method sets its own number of steps.

    Raises:
        UserError: The baseline diverged at every learning rate.
    """
    options = history.options
    if not options.most_steps:
        return {}

    most_steps = options.most_steps[history.plan.dataset]
    steps = options.steps.first
    best_before = None
    while True:
        members = _baseline_at_length(history, steps, protocol)
        yield members
        best = _best_of_length(history, members)
        settled = False
        if best_before is not None:
            gain = best - best_before
            settled = bool(
                gain["r2"] < options.steps.gain_r2 and gain[MS] < options.steps.gain_ms
            )
        if settled or 2 * steps > most_steps:
            return {"steps": steps, "undertrained": not settled}

        best_before = best
        steps *= 2


def count(plan: Plan, options: Any) -> dict[str, int]:
    """Return {the baseline: how many SAEs find the length, at most}."""
    if not options.most_steps:
        return {}
    # The lengths first, 2 first, 4 first, ... up to the longest.
    most_steps = options.most_steps[plan.dataset]
    length_count = (most_steps // options.steps.first).bit_length()
    return {_baseline(plan): RATES_OF_LENGTH * length_count}


def step_problems(use: ProtocolUse, options: Any) -> Iterator[Problem]:
    """Yield what is wrong with the lengths of training."""
    # `most_steps` says the longest. Without it every method, or every dataset, sets its
    # own number of steps.
    most_steps = options.most_steps or {}
    for dataset in most_steps:
        if dataset not in use.known_datasets:
            yield Problem("most_steps", describe_unknown(dataset, use.known_datasets))

    if most_steps:
        for dataset in sorted(set(use.datasets) - most_steps.keys()):
            yield Problem("most_steps", f"no number of steps for {dataset}")
    elif not all(
        use.recipe_by_dataset.get(dataset, {}).get("steps") for dataset in use.datasets
    ):
        for name in sorted(use.methods):
            if "steps" not in use.methods[name].recipe:
                yield Problem(
                    "most_steps",
                    f"it must say how many steps {name} may train, which sets none of "
                    "its own, and neither does by_dataset for each dataset",
                )

    for dataset, longest in most_steps.items():
        if longest < options.steps.first:
            yield Problem(
                f"most_steps.{dataset}",
                f"{longest} is less than steps.first, {options.steps.first}",
            )


def _baseline_at_length(history: History, steps: int, protocol: str) -> list[Sae]:
    plan = history.plan
    options = history.options
    low, high = options.lr
    # The middles of the range's thirds, in the logarithm.
    rates = [
        rounded(low * (high / low) ** ((2 * n + 1) / (2 * RATES_OF_LENGTH)))
        for n in range(RATES_OF_LENGTH)
    ]
    baseline = _baseline(plan)
    return [
        plan.member(baseline, {"lr": lr, "steps": steps}, options.tuning, protocol)
        for lr in rates
    ]


def _best_of_length(history: History, members: list[Sae]) -> pd.Series:
    """Return R^2 and MS of the baseline at one length, at its rate of highest R^2."""
    trials = score_trials(history, members)
    ended_well = trials["status"] == "ok"
    is_scored = trials[["r2", "l0", "firing", MS]].notna().all(axis=1)
    scores = trials.loc[ended_well & is_scored, ["r2", MS]]
    if scores.empty:
        raise UserError(
            f"{history.plan.cell}: the baseline diverged at every learning rate: "
            "lower `lr` of protocol fair"
        )
    return scores.loc[scores["r2"].idxmax()]


def _baseline(plan: Plan) -> str:
    """Return the first tuned method that is compared with no other one."""
    compared_with_none = [
        method for method in plan.tuned if plan.methods[method].against is None
    ]
    return compared_with_none[0]
