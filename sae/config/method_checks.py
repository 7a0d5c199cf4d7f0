"""Check what a method needs in an experiment, in which it is trained at each k."""

import itertools

from sae.config.methods import LINKS
from sae.config.models import RecipeEntry
from sae.config.named_experiment import NamedExperiment
from sae.config.problems import Problems
from sae.config.sweeps import PENALTY_OPTIONS


def check_method(experiment: NamedExperiment, name: str, problems: Problems) -> None:
    """Check that an experiment has what a method needs, and can train its trials.

    Args:
        experiment: All that it names is there.
        name: One of its methods.
        problems: Where it is noted what is wrong.
    """
    _check_linked_methods(experiment, name, problems)
    _check_recipe(experiment, name, problems)
    for k in experiment.spec.every_k:
        _check_options_of_at(experiment, name, k, problems)
    _check_lambda(experiment, name, problems)
    for dataset in experiment.spec.datasets:
        for k in experiment.spec.k_of(dataset):
            _check_at_most_m(experiment, name, dataset, k, problems)
    _check_import_belongs(experiment, name, problems)


def _check_linked_methods(
    experiment: NamedExperiment, name: str, problems: Problems
) -> None:
    """Check that an experiment has the methods that a method is `at` and `against`."""
    for link in LINKS:
        linked = getattr(experiment.methods[name], link)
        if linked is not None and linked not in experiment.methods:
            problems.add(
                f"{experiment.key}.methods",
                f"{name} is {link} {linked}, which the experiment lacks; add {linked}",
            )


def _check_recipe(experiment: NamedExperiment, name: str, problems: Problems) -> None:
    """Check options that are right alone, and may not go together in a recipe."""
    method = experiment.methods[name]
    set_or_swept = {
        *method.recipe,
        *method.sweep,
        *experiment.sweep_said_here(name),
    }
    # Most datasets have the same recipe, of the same key.
    recipes = {
        experiment.recipe_key(dataset): experiment.recipe(dataset)
        for dataset in experiment.spec.datasets
    }
    for recipe_key, recipe in recipes.items():
        problems.validate(RecipeEntry, {**recipe, **method.recipe}, f"methods.{name}")
        says_epochs_alone = "epochs" in set_or_swept and "steps" not in set_or_swept
        if recipe["steps"] and says_epochs_alone:
            problems.add(
                f"{experiment.key}.methods",
                f"{recipe_key} counts steps, so that epochs of {name} would change "
                "nothing; give it steps",
            )


def _check_options_of_at(
    experiment: NamedExperiment, name: str, k: int, problems: Problems
) -> None:
    method = experiment.methods[name]
    options = {*RecipeEntry.model_fields, *method.options}
    if method.penalty:
        options.update(PENALTY_OPTIONS)
    for option in sorted(experiment.values_tried(name, k).keys() - options):
        problems.add(
            f"{experiment.key}.methods",
            f"{name} is at {method.at}, which sweeps {option}; {name} has no such "
            "option",
        )


def _check_lambda(experiment: NamedExperiment, name: str, problems: Problems) -> None:
    """Check that the weight of a penalty is set, or swept at some k."""
    method = experiment.methods[name]
    if not method.penalty or method.lam is not None:
        return
    trained_at = method.at or name
    swept_options = {
        *experiment.config.methods[trained_at].sweep,
        *experiment.sweep_said_here(trained_at),
    }
    if "lambda" not in swept_options:
        problems.add(
            f"{experiment.key}.methods",
            f"{name} has the penalty {method.penalty}, but no lambda; set or sweep it",
        )


def _check_at_most_m(
    experiment: NamedExperiment,
    name: str,
    dataset: str,
    k: int,
    problems: Problems,
) -> None:
    """Check that k and auxk_k are at most m, in a method's trials on a dataset."""
    method_recipe = experiment.methods[name].recipe
    values_tried = experiment.values_tried(name, k)
    recipe = {**experiment.recipe(dataset), **method_recipe}
    smallest_m = min(values_tried.get("m", [recipe["m"]]))
    largest_auxk_k = max(values_tried.get("auxk_k", [recipe["auxk_k"]]))

    # Who says an option: the recipe, or nearer the method, or the experiment's sweep.
    places = (
        experiment.recipe_key(dataset),
        f"methods.{name}",
        f"{experiment.key}.sweep.{name}",
    )

    def nearness(option: str) -> int:
        if option in experiment.sweep_said_here(name):
            return 2
        return int(option in method_recipe or option in values_tried)

    m_key = places[nearness("m")]
    # Where who says m is nearer, they are the ones to change auxk_k, too.
    auxk_k_key = f"{places[max(nearness('m'), nearness('auxk_k'))]}.auxk_k"
    numbers = (
        ("k", k, experiment.k_key(dataset)),
        ("auxk_k", largest_auxk_k, auxk_k_key),
    )
    for option, value, key in numbers:
        if value > smallest_m:
            problems.add(
                key,
                f"{option} = {value} is larger than m = {smallest_m} of {m_key}; "
                f"allowed: 1 to {smallest_m}",
            )


def _check_import_belongs(
    experiment: NamedExperiment, name: str, problems: Problems
) -> None:
    """Check that an imported SAE is scored in some cell of an experiment."""
    imported = experiment.methods[name].imported
    if imported is None:
        return
    spec = experiment.spec
    for dataset, backbone in itertools.product(spec.datasets, spec.backbones):
        if any(imported.belongs_to(dataset, backbone, k) for k in spec.k_of(dataset)):
            return
    problems.add(
        f"{experiment.key}.methods",
        f"{name} belongs to a dataset, backbone or k that is not here; leave it out",
    )
