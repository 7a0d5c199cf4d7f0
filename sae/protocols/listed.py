"""Trials that the config lists, beside those of other protocols, for fronts; nothing is chosen of them."""

from typing import Any

from pydantic import Field

from sae.bank.plan import Member, Plan
from sae.core.options import Options as Base
from sae.protocols._history import Choice, History, Sizes

VERSION = 1
METRICS = ()
NAME = "listed"


class Options(Base):
    """What an experiment lists."""

    trials: dict[str, list[dict[str, Any]]] = Field({})
    """{method: its trials}, {option: value} each; every one is trained with every seed."""


def next(history: History) -> list[Member]:
    """All of them."""
    plan, trials = history.plan, history.options.trials
    return [
        plan.member(m, trial, seed, NAME)
        for m in trials
        for trial in trials[m]
        for seed in plan.seeds
    ]


def choose(history: History) -> Choice:
    """Nothing."""
    return Choice([], set())


def at_most(plan: Plan, options: Options) -> Sizes:
    """All of them."""
    of = {
        method: len(trials) * len(plan.seeds)
        for method, trials in options.trials.items()
    }
    return Sizes(sum(of.values()), 0, of, 0)
