"""Trials that the config lists, beside those of other protocols, for fronts.

Nothing is chosen of them.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from sae.bank.plan import Plan
from sae.bank.sae import Sae
from sae.config.protocol_use import ProtocolUse
from sae.core.errors import Problem
from sae.core.options import Options as Base
from sae.protocols._history import Choice, History, Sizes
from sae.protocols._lists import trial_problems

VERSION = 1
METRICS = ()
CHOOSES = False
NAME = "listed"


class Options(Base):
    """The trials that an experiment lists."""

    trials: dict[str, list[dict[str, Any]]] = Field(
        {},
        description="{method: its trials}, {option: value} each; "
        "every one is trained with every seed.",
    )


def next(history: History) -> list[Sae]:
    """Return every listed trial with every seed."""
    return [
        history.plan.member(method, trial, seed, NAME)
        for method, trials in history.options.trials.items()
        for trial in trials
        for seed in history.plan.seeds
    ]


def choose(history: History) -> Choice:
    """Choose nothing."""
    return Choice([], set())


def at_most(plan: Plan, options: Options) -> Sizes:
    """Count the SAEs; all are known beforehand, and none is chosen."""
    sae_counts = {
        method: len(trials) * len(plan.seeds)
        for method, trials in options.trials.items()
    }
    return Sizes(
        trials=sum(sae_counts.values()), after=0, by_method=sae_counts, chosen=0
    )


def config_problems(use: ProtocolUse, options: Options) -> Iterator[Problem]:
    """Yield what is wrong with the trials of an experiment."""
    yield from trial_problems(use, options.trials)
