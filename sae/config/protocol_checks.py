"""Ask the protocols of an experiment what is wrong with it, before any job starts."""

from collections.abc import Collection, Mapping
from typing import Any

from sae.config.entries import head_of
from sae.config.models import Entry
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
    if any(head_of("protocol", name).constants.get("CHOOSES", True) for name in names):
        return
    choose = "chooses" if len(names) == 1 else "choose"
    problems.add(
        f"{experiment.key}.protocols",
        f"{' and '.join(names)} {choose} nothing; add paper or fair",
    )


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
    protocol_key = f"{experiment.key}.protocols.{name}"
    spec = experiment.spec

    def check_values(
        key: str,
        method: str,
        values: Mapping[str, Any],
        excluded: Collection[str] = (),
    ) -> list[Problem]:
        problems_of_values = Problems()
        check_sweep(
            key,
            values,
            experiment.tuned_methods[method],
            problems_of_values,
            excluded=excluded,
        )
        return list(problems_of_values)

    use = ProtocolUse(
        written_options=spec.protocols[name],
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
        check_values=check_values,
    )
    for problem in registry.load("protocol", name).config_problems(use, options):
        whole_key = f"{protocol_key}.{problem.key}" if problem.key else protocol_key
        problems.add(whole_key, problem.text)
