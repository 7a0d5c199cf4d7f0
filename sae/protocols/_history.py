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

from sae.bank.plan import Member, Plan, named

if TYPE_CHECKING:
    import pandas as pd

_Outcome = TypeVar("_Outcome")
# The SAEs of each round, and what comes of all rounds in the end.
Rounds = Generator[list[Member], None, _Outcome]


class Sizes(NamedTuple):
    """Counts of the SAEs that a protocol trains in a cell, at most.

    Attributes:
        trials: How many are known beforehand.
        after: How many it chooses, given scores.
        by_method: {method: how many of both}.
        judged: How many are judged.
        most_steps: The steps of the longest training, where the protocol decides on it.
    """

    trials: int
    after: int
    by_method: dict[str, int]
    judged: int
    most_steps: int | None = None


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
    trained: dict[str, Member]
    validation: pd.DataFrame

    def has(self, members: Iterable[Member]) -> bool:
        """Say whether all of some SAEs were trained."""
        return named(members).keys() <= self.trained.keys()

    def rows_of(self, members: Iterable[Member]) -> pd.DataFrame:
        """Return the rows of `validation` of some SAEs, as far as they were trained."""
        member_keys = {table_key(member) for member in members}
        row_keys = zip(
            self.validation["method"],
            self.validation["trial"],
            self.validation["seed"],
            strict=True,
        )
        is_of_members = np.array([key in member_keys for key in row_keys], dtype=bool)
        return self.validation.loc[is_of_members]

    def of(self, members: Iterable[Member]) -> pd.DataFrame:
        """Call :meth:`rows_of` by the name that it had before."""
        warnings.warn("History.of is rows_of now", FutureWarning, stacklevel=2)
        return self.rows_of(members)


@dataclass(frozen=True)
class Choice:
    """A protocol's answer: what it chose of its SAEs, and what it says of them.

    Attributes:
        rows: Rows of selection.parquet, {column: value}, without the cell and the
            protocol: method, seed, trial, role, status, and columns of the protocol's
            own.
        judged: The SAEs that get every score, as :func:`table_key` names them.
        facts: What the protocol found out about the cell.
    """

    rows: list[dict[str, Any]]
    judged: set[tuple[str, str, int]]
    facts: dict[str, Any] = field(default_factory=dict)


def asked(rounds: Rounds[Any], history: History) -> list[Member]:
    """Return the SAEs of all rounds up to the first that was not trained whole."""
    members: list[Member] = []
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


def table_key(member: Member) -> tuple[str, str, int]:
    """Return what names an SAE in a cell's tables: (method, trial's name, seed)."""
    return member.method, member.name, member.settings.seed
