"""What a protocol is told of an experiment that uses it, before any job starts.

A protocol's file may have a function `config_problems(use, options)` that yields what
is wrong. `use` is a :class:`ProtocolUse`, `options` are the protocol's own, of which
each is right alone. The key of a problem is that of an option, or one below it; "" is
the protocol itself.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sae.core.errors import Problem


class TunedMethod(Protocol):
    """A method with trials of its own, complete with all that it takes over."""

    @property
    def against(self) -> str | None:
        """The method that it is compared with; None if it is a baseline."""

    @property
    def penalty(self) -> str | None:
        """The penalty that it trains with, if any."""

    @property
    def lam(self) -> float | None:
        """The weight of the penalty; None where each trial must say it."""

    @property
    def options(self) -> dict[str, Any]:
        """{option: value} of its objective and its penalty."""

    @property
    def recipe(self) -> dict[str, Any]:
        """{option: value} of the recipe, where it differs from the experiment's."""


class ValueCheck(Protocol):
    """A check of values that a protocol tries for a method's options."""

    def __call__(
        self,
        key: str,
        method: str,
        values: Mapping[str, Any],
        excluded: Collection[str] = (),
    ) -> Iterable[Problem]:
        """Return what is wrong with some values.

        Args:
            key: Where they stand, below the protocol's key.
            method: One of `ProtocolUse.methods`.
            values: {option: values, or {k8: values, ...}}.
            excluded: Options that the protocol does not try for one method alone.
        """


@dataclass(frozen=True)
class ProtocolUse:
    """An experiment that uses a protocol, as far as protocols read it.

    Attributes:
        written_options: {option: value} of the protocol, as the experiment says them.
        datasets: The experiment's.
        known_datasets: Those of the config. An experiment that takes over another one's
            options may have fewer datasets than these options name.
        budgets: Every k of the experiment's datasets.
        known_budgets: Every k of any experiment of the config, as of `known_datasets`.
        recipe_name: The recipe that trains its SAEs.
        recipe: {option: value} of that recipe.
        recipe_by_dataset: {dataset: {option: value}} of what differs for a dataset.
        methods: {name: method}, those of the experiment that have trials of their own.
        check_values: Checks values that the protocol tries.
    """

    written_options: Mapping[str, Any]
    datasets: Sequence[str]
    known_datasets: Collection[str]
    budgets: Sequence[int]
    known_budgets: Collection[int]
    recipe_name: str
    recipe: Mapping[str, Any]
    recipe_by_dataset: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, TunedMethod]
    check_values: ValueCheck
