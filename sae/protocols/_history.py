"""What a protocol is told, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae.bank.plan import Member, Plan, named

if TYPE_CHECKING:
    import pandas as pd


class Sizes(NamedTuple):
    """How many SAEs a protocol trains in a cell: those that are known beforehand, and those that it chooses, at most.

    Attributes:
        trials, after: counts.
        by_method: {method: how many of both}.
        judged: how many are judged, at most.
        most_steps: of the longest training, where the protocol decides on it.
    """

    trials: int
    after: int
    by_method: dict[str, int]
    judged: int
    most_steps: int | None = None


@dataclass(frozen=True)
class History:
    """What was trained for a protocol in a cell.

    Attributes:
        plan: of the cell.
        options: the protocol's own.
        trained: {path: SAE}, in the order in which they were asked for.
        validation: a row per SAE in that order: method, trial (its name), seed, the swept options, status, m, and what
            the protocol's `METRICS` give on the validation split, NaN where an SAE diverged.
    """

    plan: Plan
    options: Any
    trained: dict[str, Member]
    validation: pd.DataFrame

    def has(self, members: Iterable[Member]) -> bool:
        """Whether all of these were trained."""
        return named(members).keys() <= self.trained.keys()

    def of(self, members: Iterable[Member]) -> pd.DataFrame:
        """The rows of these, as far as they were trained."""
        wanted = {(m.method, m.name, m.settings.seed) for m in members}
        keys = zip(
            *(self.validation[name] for name in ("method", "trial", "seed")),
            strict=True,
        )
        return self.validation.loc[
            np.array([key in wanted for key in keys], dtype=bool)
        ]


@dataclass(frozen=True)
class Choice:
    """What a protocol chose.

    Attributes:
        rows: of selection.parquet, without the cell and the protocol: method, seed, trial, role, status, ...
        judged: the SAEs that get every score: (method, trial's name, seed).
        facts: what it found out of the cell.
    """

    rows: list[dict[str, Any]]
    judged: set[tuple[str, str, int]]
    facts: dict[str, Any] = field(default_factory=dict)
