"""Check what concerns several keys of an experiment."""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sae.config import entries
from sae.config.entries import head_of
from sae.config.method_checks import check_method
from sae.config.models import Config, RecipeEntry, method_of
from sae.config.named_experiment import NamedExperiment
from sae.config.problems import Problems
from sae.config.protocol_use import ProtocolUse
from sae.config.sweeps import check_grids, check_sweep
from sae.core import registry
from sae.core.errors import Problem
from sae.data.entries import Entry

GONE_PROTOCOLS = {
    "fair": "fair is gone: write `tuned: { points: ... }`, with `ranges` or `own_values` "
    "as they were; `most_steps`, `steps`, `refined`, `values`, `widths`, `l0` and "
    "`firing` fall away",
    "listed": "listed is gone: write its trials as "
    "`tuned: { trials: { METHOD: [{ OPTION: value }] } }`",
}
MOST_SAES = 1_000_000  # of an experiment; the largest so far had 2,000


def check_experiment(config: Config, name: str, problems: Problems) -> None:
    """Check what an experiment says, beside the form of each key.

    Args:
        config: Its entries and methods are complete.
        name: The experiment.
        problems: Where it is noted what is wrong.
    """
    experiment = NamedExperiment(config, name)
    if not _check_names(experiment, problems):
        return
    if not _check_by_dataset(experiment, problems):
        return

    _check_gallery(experiment, problems)
    for metric, overrides in experiment.spec.metrics.items():
        key = f"{experiment.key}.metrics.{metric}"
        _validate_overridden(config.metrics[metric], overrides, key, problems)
    for protocol, overrides in experiment.spec.protocols.items():
        key = f"{experiment.key}.protocols.{protocol}"
        options = _validate_overridden(
            config.protocols[protocol], overrides, key, problems
        )
        if options is not None:
            _check_protocol(experiment, protocol, options, problems)

    _check_backbones(experiment, problems)
    _check_backbones_of_metrics(experiment, problems)
    if all(method.control for method in experiment.methods.values()):
        problems.add(
            f"{experiment.key}.methods",
            "all of them are controls; add a method to compare them with",
        )
    check_grids(experiment, problems)
    for method in experiment.methods:
        check_method(experiment, method, problems)
    _check_size(experiment, problems)


def _check_names(experiment: NamedExperiment, problems: Problems) -> bool:
    """Return whether all is there that an experiment names; the gallery comes later."""
    spec = experiment.spec
    config = experiment.config
    names_and_allowed: dict[str, tuple[Iterable[str], Iterable[str]]] = {
        "datasets": (spec.datasets, config.datasets),
        "backbones": (spec.backbones, config.backbones),
        "methods": (spec.methods, config.methods),
        "metrics": (spec.metrics, config.metrics),
        "protocols": (spec.protocols, config.protocols),
        "judges": (spec.judges, config.backbones),
        "training": ([spec.training], config.training),
        "sweep": (spec.sweep, spec.methods),
    }
    gone_names = sorted(spec.protocols.keys() & GONE_PROTOCOLS.keys())
    for name in gone_names:
        problems.add(f"{experiment.key}.protocols", GONE_PROTOCOLS[name])
    if gone_names:
        return False
    all_known = True
    for section, (names, allowed) in names_and_allowed.items():
        key = f"{experiment.key}.{section}"
        if not problems.check_names(key, names, allowed):
            all_known = False
    return all_known


def _check_by_dataset(experiment: NamedExperiment, problems: Problems) -> bool:
    """Return whether the recipe's options that differ for a dataset are right."""
    spec = experiment.spec
    key = f"{experiment.key}.by_dataset"
    # An experiment that takes this over may have fewer datasets, so any may be named.
    if not problems.check_names(key, spec.by_dataset, experiment.config.datasets):
        return False
    common = experiment.common_recipe.model_dump()
    all_right = True
    for dataset, differences in spec.by_dataset.items():
        dataset_key = f"{key}.{dataset}"
        recipe = problems.validate(
            RecipeEntry, {**common, **differences.recipe}, dataset_key
        )
        if recipe is None:
            all_right = False
            continue
        if "extends" in differences.recipe:
            problems.add(
                f"{dataset_key}.extends",
                f"{recipe.extends!r} is not read: only entries extend others; write "
                "the options that differ",
            )
        if "epochs" in differences.recipe and recipe.steps is not None:
            problems.add(
                f"{dataset_key}.epochs",
                f"{recipe.epochs} is not read, since {recipe.steps} steps are said; "
                "write `steps` instead",
            )
    return all_right


def _check_gallery(experiment: NamedExperiment, problems: Problems) -> None:
    """Check that an experiment has the cell that its gallery shows, and its images."""
    spec = experiment.spec
    key = f"{experiment.key}.gallery"
    shown_dataset = experiment.config.shown_dataset(experiment.name)
    allowed_values: dict[str, list[Any]] = {
        "dataset": spec.datasets,
        "backbone": spec.backbones,
        "k": spec.k_of(shown_dataset) if shown_dataset else spec.every_k,
    }
    for part, value in spec.gallery.model_dump(exclude_none=True).items():
        problems.check_names(f"{key}.{part}", [value], allowed_values[part])
    name = spec.gallery.dataset
    if name in spec.datasets and not experiment.config.datasets[name].has_images:
        problems.add(
            f"{key}.dataset", f"{name} holds embeddings alone, without images to show"
        )


def _validate_overridden(
    entry: Entry, overrides: dict[str, Any], key: str, problems: Problems
) -> Entry | None:
    options = {**entry.model_dump(exclude_unset=True), **overrides}
    return problems.validate(type(entry), options, key)


def _check_protocol(
    experiment: NamedExperiment, name: str, options: Entry, problems: Problems
) -> None:
    """Check what a protocol needs of an experiment, as the protocol's file says it."""
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
        methods={
            name: method_of(entry) for name, entry in experiment.tuned_methods.items()
        },
        check_values=check_values,
    )
    for problem in registry.load("protocol", name).config_problems(use, options):
        whole_key = f"{protocol_key}.{problem.key}" if problem.key else protocol_key
        problems.add(whole_key, problem.text)


def _check_backbones(experiment: NamedExperiment, problems: Problems) -> None:
    """Check that backbones judge in one role, and go together with each dataset."""
    spec = experiment.spec
    for backbone_name in sorted(set(spec.judges) & set(spec.backbones)):
        problems.add(
            f"{experiment.key}.judges",
            f"{backbone_name} is one of `backbones`, which judge each other; leave it "
            "out here",
        )
    for dataset_name, backbone_name in itertools.product(spec.datasets, spec.embedding):
        dataset = experiment.config.datasets[dataset_name]
        backbone = experiment.config.backbones[backbone_name]
        if dataset.has_images != backbone.reads_images:
            problems.add(
                experiment.key,
                f"dataset {dataset_name} (type {dataset.type}) and backbone "
                f"{backbone_name} (loader {backbone.loader}) do not go together: a "
                "dataset without images needs a loader of given embeddings, and images "
                "another one",
            )


def _check_backbones_of_metrics(
    experiment: NamedExperiment, problems: Problems
) -> None:
    """Check the backbones that metrics read: no experiment has them, too."""
    spec = experiment.spec
    config = experiment.config
    for name, metric in config.metrics.items():
        backbones = entries.backbones_named(metric.constants)
        for backbone in backbones:
            if backbone not in config.backbones:
                problems.add(
                    f"metrics.{name}",
                    f"its file has {backbone!r} among READS, which is neither one of "
                    f"{', '.join(entries.READABLE)} nor a backbone of the config",
                )
        if metric.optional and name not in spec.metrics:
            continue
        for backbone in sorted(set(backbones) & set(spec.embedding)):
            problems.add(
                experiment.key,
                f"{backbone} is what the metric {name} sees, and judges nothing else: "
                "leave it out of `backbones` and `judges`",
            )


def _check_size(experiment: NamedExperiment, problems: Problems) -> None:
    spec = experiment.spec
    trial_count = 0
    for dataset in spec.datasets:
        for k in spec.k_of(dataset):
            for method in spec.methods:
                sweep = experiment.config.sweep(experiment.name, method, k)
                trial_count += math.prod(len(values) for values in sweep.values())
    sae_count = trial_count * len(spec.seeds) * len(spec.backbones)
    if sae_count > MOST_SAES:
        problems.add(
            experiment.key,
            f"it asks for {sae_count:,} SAEs; the most is {MOST_SAES:,}: sweep fewer "
            "values, or part it into several",
        )
