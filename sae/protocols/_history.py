"""What a protocol is told, and what it answers.

A protocol may be written as rounds: a function that yields the SAEs of one round after
the other, goes on once they are trained, and returns its choice. :func:`asked` and
:func:`outcome` make its `next` and `choose` of that.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from sae.bank.plan import Plan
from sae.bank.sae import Sae

if TYPE_CHECKING:
    import pandas as pd

_Outcome = TypeVar("_Outcome")
# The SAEs of each round, and what comes of all rounds in the end.
Rounds = Generator[list[Sae], None, _Outcome]


class Sizes(NamedTuple):
    """Counts of the SAEs that a protocol trains in a cell, at most.

    Attributes:
        trials: How many are known beforehand.
        after: How many are known once there are scores.
        by_method: {method: how many of both}.
        chosen: How many get every score.
    """

    trials: int
    after: int
    by_method: dict[str, int]
    chosen: int


@dataclass(frozen=True)
class History:
    """The SAEs that were trained for a protocol in a cell, with their scores.

    Attributes:
        plan: What the cell trains.
        options: The protocol's own.
        trained: {path: SAE}, in the order in which they were asked for.
        validation: A row for each SAE in that order, with the columns method, trial
            (its name), seed, the swept options, status, m, and what the protocol's
            `METRICS` give on the validation split; NaN where an SAE diverged.
    """

    plan: Plan
    options: Any
    trained: dict[str, Sae]
    validation: pd.DataFrame

    def has(self, saes: Iterable[Sae]) -> bool:
        """Say whether all of some SAEs were trained."""
        return all(sae.path in self.trained for sae in saes)

    def rows_of(self, saes: Iterable[Sae]) -> pd.DataFrame:
        """Return the rows of `validation` of some SAEs, as far as they were trained."""
        keys = {sae.table_key for sae in saes}
        row_keys = zip(
            self.validation["method"],
            self.validation["trial"],
            self.validation["seed"],
            strict=True,
        )
        is_asked_for = np.array([key in keys for key in row_keys], dtype=bool)
        return self.validation.loc[is_asked_for]

    def of(self, saes: Iterable[Sae]) -> pd.DataFrame:
        """Call :meth:`rows_of` by the name that it had before."""
        warnings.warn("History.of is rows_of now", FutureWarning, stacklevel=2)
        return self.rows_of(saes)


@dataclass(frozen=True)
class Choice:
    """A protocol's answer: what it chose of its SAEs, and what it says of them.

    Attributes:
        rows: Rows of selection.parquet, {column: value}, without the cell and the
            protocol: method, seed, trial, role, status, and columns of the protocol's
            own.
        chosen: The SAEs that get every score, as `Sae.table_key` names them.
        facts: What the protocol found out about the cell.
    """

    rows: list[dict[str, Any]]
    chosen: set[tuple[str, str, int]]
    facts: dict[str, Any] = field(default_factory=dict)


def asked(rounds: Rounds[Any], history: History) -> list[Sae]:
    """Return the SAEs of all rounds up to the first that was not trained whole."""
    members: list[Sae] = []
    for of_round in rounds:
        members += of_round
        if not history.has(of_round):
            break
    return members


def outcome(rounds: Rounds[_Outcome]) -> _Outcome:
    """Return what comes of rounds of which all SAEs were trained."""
    while True:
        try:
            next(rounds)
        except StopIteration as end:
            return end.value
