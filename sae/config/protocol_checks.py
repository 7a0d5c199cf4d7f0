"""Ask the protocols of an experiment what is wrong with it, before any job starts."""

import functools
from collections.abc import Collection, Mapping
from typing import Any

from sae.config.entries import head_of
from sae.config.models import Entry, Method
from sae.config.named_experiment import NamedExperiment
from sae.config.problems import Problems
from sae.config.protocol_use import ProtocolUse
from sae.config.swept_values import check_sweep
from sae.core import registry
from sae.core.errors import Problem


def check_some_protocol_chooses(
    experiment: NamedExperiment, problems: Problems
) -> None:
    """Check that not all protocols of an experiment leave the choice to others."""
    names = list(experiment.spec.protocols)
    if any(_chooses(name) for name in names):
        return
    choose = "chooses" if len(names) == 1 else "choose"
    problems.add(
        f"{experiment.key}.protocols",
        f"{' and '.join(names)} {choose} nothing; add paper or fair",
    )


def _chooses(protocol: str) -> bool:
    return head_of("protocol", protocol).constants.get("CHOOSES", True)


def check_protocol(
    experiment: NamedExperiment, name: str, options: Entry, problems: Problems
) -> None:
    """Check what a protocol needs of an experiment, as the protocol's file says it.

    Args:
        experiment: All that it names is there.
        name: The protocol.
        options: Its options, an experiment's laid over those of the config.
        problems: Where it is noted what is wrong.
    """
    if "config_problems" not in head_of("protocol", name).defined_names:
        return
    use = _describe_use(experiment, name)
    key = f"{experiment.key}.protocols.{name}"
    for problem in registry.load("protocol", name).config_problems(use, options):
        whole_key = f"{key}.{problem.key}" if problem.key else key
        problems.add(whole_key, problem.text)


def _describe_use(experiment: NamedExperiment, protocol: str) -> ProtocolUse:
    spec = experiment.spec
    return ProtocolUse(
        written_options=spec.protocols[protocol],
        datasets=spec.datasets,
        known_datasets=experiment.config.datasets.keys(),
        budgets=spec.every_k,
        known_budgets={
            k
            for any_experiment in experiment.config.experiments.values()
            for k in any_experiment.every_k
        },
        recipe_name=spec.training,
        recipe=experiment.common_recipe.model_dump(),
        recipe_by_dataset={
            dataset: differences.recipe
            for dataset, differences in spec.by_dataset.items()
        },
        methods=experiment.tuned_methods,
        check_values=functools.partial(_problems_of_values, experiment.tuned_methods),
    )


def _problems_of_values(
    methods: Mapping[str, Method],
    key: str,
    method: str,
    values: Mapping[str, Any],
    excluded: Collection[str] = (),
) -> list[Problem]:
    """Check values as a `sae.config.protocol_use.ValueCheck`, given the methods."""
    problems = Problems()
    check_sweep(key, values, methods[method], problems, excluded=excluded)
    return list(problems)
