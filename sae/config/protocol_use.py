"""What a protocol is told of an experiment that uses it, before any job starts.

A protocol's file may have a function `config_problems(use, options)` that yields what
is wrong. `use` is a :class:`ProtocolUse`, `options` are the protocol's own, of which
each is right alone. The key of a problem is that of an option, or one below it; "" is
the protocol itself.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sae.bank.plan import Method
from sae.core.errors import Problem


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
        check_values: Yields what is wrong with values that the protocol tries for a
            method's options, given the key where they stand, below the protocol's; the
            method's name; {option: values, or {k8: values, ...}}; and, as `excluded`,
            options that the protocol does not try for one method alone.
    """

    written_options: Mapping[str, Any]
    datasets: Sequence[str]
    known_datasets: Collection[str]
    budgets: Sequence[int]
    known_budgets: Collection[int]
    recipe_name: str
    recipe: Mapping[str, Any]
    recipe_by_dataset: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Method]
    check_values: Callable[..., Iterable[Problem]]
