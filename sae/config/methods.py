"""Complete the methods of a config with what they take over, and check their sweeps.

A method of config.yaml says how it differs from the one that it `extends`. Its *words*
are the mapping {key: value} that is written of it. Here they become a `MethodEntry` of a
class that has all options of its objective, its penalty and the recipe as typed fields
(`sae.config.models.method_class_with`).

- `at: B`: it has one trial, with the option values that were chosen for B.
- `against: B`: B is the method that it is compared with.
- `control`: it shows what a score is worth. It is not tuned.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from sae.bank.plan import INPUT_OPTIONS
from sae.config.extends import Words, check_links, write_out_entries
from sae.config.models import (
    Config,
    Experiment,
    MethodEntry,
    TypedMethod,
    method_class_with,
)
from sae.config.problems import Problems
from sae.config.sweeps import PENALTY_OPTIONS, check_sweep
from sae.core import paths, registry

# Keys of a method that name an entry, whose options are then keys of the method.
KINDS = ("objective", "penalty")
# Keys of a method that name another method.
LINKS = ("at", "against")
# The objective of a method whose SAE was made elsewhere.
IMPORTED = "imported"
_KEYS_OF_IMPORTED = {"import", "label", "colour", "sweep"}
_IMPORTED_IS_NOT_TRAINED = "an SAE that was made elsewhere is not trained: leave it out"
_CONTROL_IS_NOT_TUNED = (
    "a control is not tuned, and compared with nothing: leave it out"
)


def complete_methods(
    config: Config, written_methods: dict[str, Words], problems: Problems
) -> Config:
    """Return a config whose methods are complete, and all sweeps in ascending order.

    Args:
        config: Its datasets and backbones are complete, its methods as they are
            written.
        written_methods: The section `methods` as it was read.
        problems: Where it is noted what is wrong.

    Raises:
        UserError: a method cannot be completed.
    """
    # What is wrong with other sections by now stops nothing here: it is reported with
    # what is wrong with methods.
    problems_before = len(problems)
    for name, method in config.methods.items():
        _check_entries(name, method, problems)
    problems.raise_all(if_more_than=problems_before)

    # Circles of `extends` were refused before, by `write_out_sections`.
    words_by_method = write_out_entries(written_methods, _lay_over)
    methods = {}
    for name, own_words in written_methods.items():
        complete = _complete_method(name, own_words, words_by_method[name], problems)
        if complete is not None:
            methods[name] = complete
    problems.raise_all(if_more_than=problems_before)

    for link in LINKS:
        links = {name: getattr(method, link) for name, method in methods.items()}
        check_links("methods", link, links, problems)
    for name, method in methods.items():
        _check_linked_methods(name, methods, problems)
        _check_control(name, method, problems)
        _check_import(name, method, config, problems)

    experiments = {}
    for name, experiment in config.experiments.items():
        sweep = _check_sweep_of_experiment(name, experiment, methods, problems)
        experiments[name] = experiment.model_copy(
            update={"sweep": {**experiment.sweep, **sweep}}
        )
        for method_name in experiment.methods:
            _check_leaves_options_to_at(
                method_name, name, sweep, methods, words_by_method, problems
            )
    return config.model_copy(update={"methods": methods, "experiments": experiments})


def _check_entries(name: str, method: MethodEntry, problems: Problems) -> None:
    for kind in KINDS:
        entry = getattr(method, kind)
        if entry:
            _read_class(f"methods.{name}.{kind}", TypedMethod, kind, entry, problems)


def _read_class(
    key: str, method_class: type[MethodEntry], kind: str, entry: str, problems: Problems
) -> type[MethodEntry] | None:
    """Return a class of methods with the options of an entry among its fields."""
    make_class = functools.partial(method_class_with, method_class)
    return problems.read_entry(key, make_class, kind, entry)


def _lay_over(inherited: Words, own_words: Words) -> Words:
    """Lay what a method says over what it takes over, as far as that still applies."""
    own_sweep = own_words.get("sweep", {})
    replaced = {*own_words, *own_sweep}
    # A control is compared with nothing. (`at` is never taken over.)
    if own_words.get("control"):
        replaced.add("against")

    # The options of an entry go with the entry. Those that any penalty has go where the
    # method is left without one.
    for kind in KINDS:
        inherited_entry = inherited.get(kind)
        entry = own_words.get(kind, inherited_entry)
        if not inherited_entry or entry == inherited_entry:
            continue
        replaced.update(registry.head(kind, inherited_entry).options.model_fields)
        if kind == "penalty" and entry is None:
            replaced.update(PENALTY_OPTIONS)

    # A control, and a method that is `at` another one, have one trial. Being a control
    # is taken over, `at` is not.
    inherited_sweep: Words = {}
    is_control = own_words.get("control", inherited.get("control"))
    if not own_words.get("at") and not is_control:
        inherited_sweep = inherited.get("sweep", {})

    words = {**_without(inherited, replaced), **own_words}
    words["sweep"] = {**_without(inherited_sweep, replaced), **own_sweep}
    return words


def _without(words: Words, keys: set[str]) -> Words:
    return {key: value for key, value in words.items() if key not in keys}


def _complete_method(
    name: str, own_words: Words, words: Words, problems: Problems
) -> MethodEntry | None:
    key = f"methods.{name}"
    if words.get("import"):
        words = _words_of_import(name, own_words, words, problems)
    elif words.get("objective") == IMPORTED:
        problems.add(f"{key}.objective", "write `import: PATH` instead, the SAE's file")

    # The class gets the options of the objective, then those of the penalty.
    method_class = TypedMethod
    if not words.get("objective"):
        problems.add(f"{key}.objective", "this key is required")
    for kind in KINDS:
        if words.get(kind):
            extended_class = _read_class(
                f"{key}.{kind}", method_class, kind, words[kind], problems
            )
            if extended_class is None:
                return None
            method_class = extended_class

    has_penalty = bool(words.get("penalty"))
    _check_own_keys(key, own_words, has_penalty, problems)
    if has_penalty:
        # The field itself has no default: without a penalty there is no mask.
        words = {**words, "mask": words.get("mask") or "batch_active"}
    first_values, key_of_option = _first_swept_values(words["sweep"], method_class)
    method = problems.validate(
        method_class, {**words, **first_values}, key, key_of_option
    )
    if method is None:
        return None
    sweep = check_sweep(f"{key}.sweep", method.sweep, method, problems)
    return method.model_copy(update={"sweep": sweep})


def _words_of_import(
    name: str, own_words: Words, words: Words, problems: Problems
) -> Words:
    """Return the words of a method whose SAE was made elsewhere, made complete."""
    key = f"methods.{name}"
    if own_words.get("extends"):
        problems.add(
            f"{key}.extends",
            "an SAE that was made elsewhere takes over nothing: leave it out",
        )
        # What it took over would be told as wrong, key by key.
        problems.raise_all()
    for option in sorted(words.keys() - _KEYS_OF_IMPORTED):
        problems.add(f"{key}.{option}", _IMPORTED_IS_NOT_TRAINED)
    if words["sweep"]:
        problems.add(f"{key}.sweep", _IMPORTED_IS_NOT_TRAINED)
    file = paths.IMPORTED.format(method=name)
    return {**words, "objective": IMPORTED, "file": file}


def _check_own_keys(
    key: str, own_words: Words, has_penalty: bool, problems: Problems
) -> None:
    for option in sorted(own_words.keys() & own_words.get("sweep", {})):
        problems.add(f"{key}.{option}", "it is swept as well; leave one of the two out")
    for option in sorted(own_words.keys() & set(INPUT_OPTIONS)):
        problems.add(
            f"{key}.{option}",
            "all methods of a bank see the same inputs: set it in the recipe, in "
            "`training`",
        )
    if has_penalty:
        return
    for option in sorted(own_words.keys() & PENALTY_OPTIONS):
        problems.add(
            f"{key}.{option}", "this method has no penalty that it could belong to"
        )


def _first_swept_values(
    sweep: Words, method_class: type[MethodEntry]
) -> tuple[Words, dict[str, str]]:
    """Return {option of an entry: the first value swept}, and {option: its key}."""
    first_values = {}
    key_of_option = {}
    options_of_entries = method_class.model_fields.keys() - TypedMethod.model_fields
    for option in sweep.keys() & options_of_entries:
        grid = sweep[option]
        grid_key = f"sweep.{option}"
        if isinstance(grid, dict):
            first_k = next(iter(grid))
            grid = grid[first_k]
            grid_key = f"{grid_key}.{first_k}"
        # No grid is empty, by its type in `sae.config.models`.
        first_values[option] = grid[0]
        key_of_option[option] = f"{grid_key}.0"
    return first_values, key_of_option


def _check_linked_methods(
    name: str, methods: Mapping[str, MethodEntry], problems: Problems
) -> None:
    """Check that what a method is `at` or `against` has trials of its own."""
    for link in LINKS:
        linked_name = getattr(methods[name], link)
        linked = methods.get(linked_name)
        if linked is None or linked.tuned:
            continue
        if linked.at:
            reason = f"itself trained at the choice of {linked.at}"
        elif linked.control:
            reason = "a control"
        else:
            reason = "imported"
        problems.add(
            f"methods.{name}.{link}",
            f"{linked_name} is {reason}: name a method with trials of its own",
        )


def _check_control(name: str, method: MethodEntry, problems: Problems) -> None:
    if not method.control:
        return
    for key in (*LINKS, "sweep"):
        if getattr(method, key):
            problems.add(f"methods.{name}.{key}", _CONTROL_IS_NOT_TUNED)


def _check_import(
    name: str, method: MethodEntry, config: Config, problems: Problems
) -> None:
    if method.imported is None:
        return
    names_by_key: dict[str, Iterable[str]] = {
        "dataset": config.datasets,
        "backbone": config.backbones,
        "format": ("auto", *registry.names("importer")),
    }
    for key, allowed in names_by_key.items():
        value = getattr(method.imported, key)
        if value:
            problems.check_names(f"methods.{name}.import.{key}", [value], allowed)


def _check_sweep_of_experiment(
    name: str,
    experiment: Experiment,
    methods: Mapping[str, MethodEntry],
    problems: Problems,
) -> dict[str, Any]:
    key = f"experiments.{name}.sweep"
    sweep_by_method = {
        method_name: sweep
        for method_name, sweep in experiment.sweep.items()
        if method_name in methods
    }
    for method_name in sorted(sweep_by_method):
        method = methods[method_name]
        if method.control:
            problems.add(f"{key}.{method_name}", _CONTROL_IS_NOT_TUNED)
        elif method.imported:
            problems.add(f"{key}.{method_name}", _IMPORTED_IS_NOT_TRAINED)
    return {
        method_name: check_sweep(
            f"{key}.{method_name}", sweep, methods[method_name], problems
        )
        for method_name, sweep in sweep_by_method.items()
    }


def _check_leaves_options_to_at(
    name: str,
    experiment_name: str,
    sweep_of_experiment: Mapping[str, Any],
    methods: Mapping[str, MethodEntry],
    words_by_method: Mapping[str, Words],
    problems: Problems,
) -> None:
    """Check that a method leaves the options alone that another one chooses for it."""
    if name not in methods or methods[name].at not in methods:
        return
    at = methods[name].at
    assert at is not None
    words = words_by_method[name]
    swept_options = {*methods[at].sweep, *sweep_of_experiment.get(at, {})}
    for option in sorted(swept_options & words.keys()):
        # The same value may be taken over by both.
        if words[option] != words_by_method[at].get(option):
            problems.add(
                f"methods.{name}.{option}",
                f"{name} is trained at the {option} that is chosen for {at} (swept in "
                f"{experiment_name}): leave it out",
            )
