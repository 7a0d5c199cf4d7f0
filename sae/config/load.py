"""Read config.yaml: what it may hold, then its methods, then what concerns several keys.

What is wrong is said before any job starts. There are three rounds of checks. The first that finds problems reports
them all, a line each; later rounds do not run.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from sae.config.entries import head_of
from sae.config.extends import resolved
from sae.config.methods import OF_A_PENALTY, checked, resolve
from sae.config.models import Config, Entry, RecipeEntry, entry_model
from sae.config.problems import Problems
from sae.core import paths, registry
from sae.core.errors import UserError
from sae.data.artifacts import names as artifact_names
from sae.data.entries import NAMED_BY

ENTRIES = (
    "dataset",
    "backbone",
    "metric",
    "protocol",
)  # kinds, each with a section of that name and an s
MEANT_OTHERWISE = (
    "all",
    "report",
    paths.RESULTS,
    "shared",
)  # which nobody reads as the name of one experiment
DEEPEST = 50  # levels; config.yaml has 8
MOST_SAES = 1_000_000  # of an experiment; the largest so far had 2,000


def read(path: str | Path) -> Config:
    """The config in a YAML file; see :func:`parse` and :func:`load`."""
    return load(parse(path))


def parse(path: str | Path) -> dict[str, Any]:
    """The content of a YAML or JSON file.

    Raises:
        UserError: it cannot be read, is neither, has a key twice in one mapping, or nests without end; with the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        try:
            content = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            _look_through(text)
            content = yaml.load(text, _Yaml)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{line} is not right: {getattr(error, 'problem', None) or error}"
        ) from None
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        # Bytes that are no text, a date that is none, a tag (`!!bool x`) on what it does not fit.
        raise UserError(
            f"{path} cannot be read: {type(error).__name__}: {error}"
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is not right: it holds {type(content).__name__}, expected keys and their values"
        )
    return content


# Ten times as fast as PyYAML's own, where that was built with it.
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml(_FAST):
    """YAML whose mappings have no key twice."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if line := first.get(key.value):
                    problem = f"the key {key.value!r} is there twice, first in line {line}; leave one out"
                    raise yaml.MarkedYAMLError(
                        problem=problem, problem_mark=key.start_mark
                    )
                first[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which must have no key twice."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("read as YAML, it is refused with the line")
    return found


def _look_through(text: str) -> None:
    """Refuse, before anything is made of it, what has no end in YAML, and its ways to say a thing once.

    Raises:
        yaml.MarkedYAMLError: with the line.
    """
    depth = 0
    event: Any
    for event in yaml.parse(text, _FAST):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        problem = (
            f"lists and mappings are nested more than {DEEPEST} deep; write it flatter"
            if depth > DEEPEST
            else ""
        )
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor} is not allowed here: write it out, or `extends: NAME` in an entry"
        elif isinstance(event, yaml.ScalarEvent) and event.value == "<<":
            problem = (
                "<< is not allowed here: write `extends: NAME` in an entry instead"
            )
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def load(
    raw: dict[str, Any],
    *,
    artifacts: Collection[str] | None = None,
    reserved: Collection[str] = (),
    files: Mapping[str, str] = {},
) -> Config:
    """Check a config as YAML gives it, and write out what its entries take over.

    Args:
        raw: the content of config.yaml. The entries in its folder `extensions` become known to this process.
        artifacts: the artifacts that there are; None: not checked.
        reserved: names that no experiment can take, beside the folders of results/.
        files: {key: the file that says it}, where it was read from several.

    Raises:
        UserError: one line for each problem, with the key, the value and what is allowed.
    """
    problems = Problems(files)
    _check_json("", raw, problems)
    problems.end()
    if isinstance(folder := raw.get("extensions"), str | None):
        registry.extend(folder)
    raw = resolved(raw, problems)
    written = problems.build(Config, raw)
    problems.end()
    assert written is not None
    for name in written.figures:
        problems.tried(f"figures.{name}", head_of, "figure", name)
    entries = {
        f"{kind}s": _entries(kind, written, raw, artifacts, problems)
        for kind in ENTRIES
    }
    entries["datasets"] = _with_concepts(entries["datasets"], artifacts, problems)
    config = resolve(written.model_copy(update=entries), raw["methods"], problems)
    problems.end()
    taken = paths.shared_folders().union(reserved, MEANT_OTHERWISE)
    for name in config.experiments:
        if name in taken:
            problems.add(
                f"experiments.{name}",
                "this name is taken by a rule, a folder or Snakemake; choose another",
            )
        _check_experiment(config, name, problems)
    problems.end()
    return config


def _entries(
    kind: str,
    written: Config,
    raw: dict[str, Any],
    artifacts: Collection[str] | None,
    problems: Problems,
) -> dict[str, Entry]:
    """A section, each of its values of the class of the entry that it names."""
    section, by = f"{kind}s", NAMED_BY.get(kind)
    found, of_entry = {}, functools.cache(entry_model)
    for name, value in getattr(written, section).items():
        key, entry = (
            (f"{section}.{name}.{by}", getattr(value, by))
            if by
            else (f"{section}.{name}", name)
        )
        model = problems.tried(key, of_entry, kind, entry)
        if model and (
            built := problems.build(
                model, raw[section][name] or {}, f"{section}.{name}"
            )
        ):
            found[name] = built
            if artifacts is not None:
                problems.known(
                    f"{section}.{name}.artifacts", artifact_names(built.spec), artifacts
                )
    return found


def _with_concepts(
    datasets: dict[str, Any], artifacts: Collection[str] | None, problems: Problems
) -> dict[str, Any]:
    """Return the datasets, each with its `concepts` by the model of their source."""
    complete = {}
    for name, dataset in datasets.items():
        key = f"datasets.{name}.concepts"
        written = dataset.concepts
        model = problems.tried(
            f"{key}.source", entry_model, "annotation", written.source
        )
        if model is None:
            continue
        built = problems.build(model, written.model_dump(exclude_unset=True), key)
        if built is None:
            continue
        if artifacts is not None:
            problems.known(f"{key}.artifacts", artifact_names(built.spec), artifacts)
        complete[name] = dataset.model_copy(update={"concepts": built})
    return complete


def _check_json(key: str, value: Any, problems: Problems) -> None:
    """What YAML can hold and a job's settings cannot."""
    if key.count(".") > DEEPEST:
        problems.add(
            key[:80] + "...", f"it is nested more than {DEEPEST} deep; write it flatter"
        )
    elif isinstance(value, dict | list):
        for name, inner in (
            value.items() if isinstance(value, dict) else enumerate(value)
        ):
            where = f"{key}.{name}" if key else str(name)
            if isinstance(value, list) or isinstance(name, str):
                _check_json(where, inner, problems)
            else:
                problems.add(
                    where,
                    f"YAML reads this key as {type(name).__name__}; put it in quotes",
                )
    elif isinstance(value, float) and not math.isfinite(value):
        problems.add(key, f"{value} is not allowed; it must be a finite number")
    elif (
        isinstance(value, str)
        and re.match(r"~\w*(/|$)", value)
        and not key.endswith((".label", ".description"))
    ):
        problems.add(key, f"{value}: ~ is not expanded; write the whole path")
    elif not isinstance(value, str | int | float | None):
        problems.add(
            key, f"YAML reads {value} as {type(value).__name__}; put it in quotes"
        )


def _check_experiment(config: Config, experiment: str, problems: Problems) -> None:
    spec, key = config.experiments[experiment], f"experiments.{experiment}"
    sections = ("datasets", "backbones", "methods", "metrics", "protocols")
    known = [
        problems.known(f"{key}.{s}", getattr(spec, s), getattr(config, s))
        for s in sections
    ]
    known.append(problems.known(f"{key}.judges", spec.judges, config.backbones))
    known.append(problems.known(f"{key}.training", [spec.training], config.training))
    known.append(problems.known(f"{key}.sweep", spec.sweep, spec.methods))
    cell = {"dataset": spec.datasets, "backbone": spec.backbones}
    for part, names in cell.items():
        name = getattr(spec.gallery, part)
        if name is not None:
            problems.known(f"{key}.gallery.{part}", [name], names)
    known.append(
        _check_by_dataset(config, experiment, problems) if all(known) else False
    )
    if not all(known):
        return
    if spec.gallery.k is not None:
        pictured = config.shown_dataset(experiment)
        budgets = spec.k_of(pictured) if pictured else spec.every_k
        problems.known(f"{key}.gallery.k", [spec.gallery.k], budgets)
    if [*spec.protocols] == ["listed"]:
        problems.add(f"{key}.protocols", "listed chooses nothing; add paper or fair")
    for section in ("metrics", "protocols"):
        for name, options in getattr(spec, section).items():
            entry = getattr(config, section)[name]
            given = entry.model_dump(exclude_unset=True) | options
            built = problems.build(type(entry), given, f"{key}.{section}.{name}")
            if built and (section, name) == ("protocols", "fair"):
                _check_fair(config, experiment, built, problems)
            if built and (section, name) == ("protocols", "listed"):
                _check_listed(config, experiment, built, problems)
    for b in sorted(set(spec.judges) & set(spec.backbones)):
        problems.add(
            f"{key}.judges",
            f"{b} is one of `backbones`, which judge each other; leave it out here",
        )
    for d, b in itertools.product(spec.datasets, spec.embedding):
        dataset, backbone = config.datasets[d], config.backbones[b]
        if dataset.has_images != backbone.reads_images:
            pair = f"dataset {d} (type {dataset.type}) and backbone {b} (loader {backbone.loader})"
            why = "a dataset without images needs a loader of given embeddings, and images another one"
            problems.add(key, f"{pair} do not go together: {why}")
    if (shown := spec.gallery.dataset) in spec.datasets and not config.datasets[
        shown
    ].has_images:
        problems.add(
            f"{key}.gallery.dataset",
            f"{shown} holds embeddings alone, without images to show",
        )
    if all(config.methods[name].control for name in spec.methods):
        problems.add(
            f"{key}.methods",
            "all of them are controls; add a method to compare them with",
        )
    _check_grids(config, experiment, problems)
    for name in spec.methods:
        _check_method(config, experiment, name, problems)
        imported = config.methods[name].imported
        cells = [
            (dataset, backbone, k)
            for dataset, backbone in itertools.product(spec.datasets, spec.backbones)
            for k in spec.k_of(dataset)
        ]
        if imported and not any(imported.belongs_to(*cell) for cell in cells):
            problems.add(
                f"{key}.methods",
                f"{name} belongs to a dataset, backbone or k that is not here; leave it out",
            )
    sweeps = [
        config.sweep(experiment, name, k)
        for dataset in spec.datasets
        for k in spec.k_of(dataset)
        for name in spec.methods
    ]
    trials = sum(math.prod(map(len, sweep.values())) for sweep in sweeps)
    saes = trials * len(spec.seeds) * len(spec.backbones)
    if saes > MOST_SAES:
        text = f"it asks for {saes:,} SAEs; the most is {MOST_SAES:,}: sweep fewer values, or part it into several"
        problems.add(key, text)


def _check_by_dataset(config: Config, experiment: str, problems: Problems) -> bool:
    """Check the options of the recipe that an experiment says of single datasets.

    Their own k are checked with the experiment's (:func:`_check_at_most_m`).
    """
    spec = config.experiments[experiment]
    key = f"experiments.{experiment}.by_dataset"
    # A part of an experiment has some of its datasets.
    if not problems.known(key, spec.by_dataset, config.datasets):
        return False
    common = config.training[spec.training].model_dump()
    recipes = [
        problems.build(RecipeEntry, common | differences.recipe, f"{key}.{dataset}")
        for dataset, differences in spec.by_dataset.items()
    ]
    return None not in recipes


def _check_fair(
    config: Config, experiment: str, tuning: Any, problems: Problems
) -> None:
    """Check what protocol `fair` needs beside a right form.

    It needs a baseline, a limit of steps for every dataset, and a range or values of
    every option of a method's own.
    """
    spec, key = (
        config.experiments[experiment],
        f"experiments.{experiment}.protocols.fair",
    )
    tuned = {name: m for name in spec.methods if (m := config.methods[name]).tuned}
    if all(method.against for method in tuned.values()):
        problems.add(
            key,
            "no method of this experiment is a baseline, compared with no other one; add one",
        )
    most_steps = tuning.most_steps or {}
    problems.known(
        f"{key}.most_steps", most_steps, config.datasets
    )  # a part of an experiment has some of its datasets
    for name in (
        sorted(set(spec.datasets) - most_steps.keys()) if tuning.most_steps else []
    ):
        problems.add(f"{key}.most_steps", f"no number of steps for {name}")
    says_steps = {
        dataset
        for dataset, overrides in spec.by_dataset.items()
        if overrides.recipe.get("steps")
    }
    if not most_steps and not says_steps >= set(spec.datasets):
        for name in sorted(n for n, m in tuned.items() if "steps" not in m.recipe):
            problems.add(
                f"{key}.most_steps",
                f"it must say how many steps {name} may train, which sets none of its "
                "own, and neither does by_dataset for each dataset",
            )
    for name, most in most_steps.items():
        if most < tuning.steps.first:
            problems.add(
                f"{key}.most_steps.{name}",
                f"{most} is less than steps.first, {tuning.steps.first}",
            )
    if config.training[spec.training].tied:
        problems.add(
            key,
            f"training.{spec.training} is tied: its encoder has no scale of its own to tune",
        )
    if isinstance(tuning.points, int):
        if tuning.own_values:
            text = "it is for points that are listed; list them, or write ranges"
            problems.add(f"{key}.own_values", text)
        _check_tuned_options(config, experiment, tuning.ranges, "range", problems)
    else:
        _check_grid(config, experiment, tuning, problems)
        _check_tuned_options(config, experiment, tuning.own_values, "list", problems)


# Of protocol `fair`: what it reads only where it draws points.
_OF_DRAWN_POINTS = (
    "encoder_scale",
    "auxk_alpha",
    "refined",
    "values",
    "design_seed",
    "ranges",
)


def _check_grid(
    config: Config, experiment: str, tuning: Any, problems: Problems
) -> None:
    """Check the points that protocol `fair` lists, and that it draws none beside."""
    spec = config.experiments[experiment]
    key = f"experiments.{experiment}.protocols.fair"
    unread = {*spec.protocols["fair"]} & {*_OF_DRAWN_POINTS}
    if tuning.ranges:
        unread.add("ranges")
    for name in sorted(unread):
        instead = "; write `own_values`" if name == "ranges" else "; leave it out"
        text = f"points are listed, so that none is drawn{instead}"
        problems.add(f"{key}.{name}", text)
    if tuning.own_values and all(point.alone for point in tuning.points):
        text = "all are `alone`, so that the methods of `own_values` have none; leave some so"
        problems.add(f"{key}.points", text)
    baselines = [
        config.methods[name]
        for name in spec.methods
        if config.methods[name].tuned and not config.methods[name].against
    ]
    for place, point in enumerate(tuning.points):
        values = {name: [value] for name, value in point.common.items()}
        for method in baselines:
            checked(f"{key}.points.{place}", values, method, problems)


def _check_tuned_options(
    config: Config,
    experiment: str,
    of_methods: Mapping[str, Mapping[str, Any]],
    form: str,
    problems: Problems,
) -> None:
    """Check what protocol `fair` says of methods' own options.

    Args:
        of_methods: {method: {option: values, or {k8: values, ...}}}.
        form: "range" where values are [lowest, highest], of `ranges`; "list" where they
            are what is tried, of `own_values`.
    """
    spec = config.experiments[experiment]
    key = f"experiments.{experiment}.protocols.fair"
    section = f"{key}.ranges" if form == "range" else f"{key}.own_values"
    tuned = {name: m for name in spec.methods if (m := config.methods[name]).tuned}
    names_of_k = [f"k{k}" for k in spec.every_k]
    problems.known(section, of_methods, tuned)
    for name, method in tuned.items():
        of_options = of_methods.get(name, {})
        method_key = f"{section}.{name}"
        usual = config.training[spec.training].model_dump() | method.options
        fractional = {
            option: values
            for option, values in of_options.items()
            if not isinstance(usual.get(option), int)
        }
        checked(
            method_key,
            fractional,
            method,
            problems,
            taken=("lr", "encoder_scale", "auxk_alpha", "steps"),
        )
        for option in sorted(of_options.keys() - fractional):
            problems.add(
                f"{method_key}.{option}",
                "a whole number, which is not tuned here; sweep it instead",
            )
        if method.penalty and method.lam is None and "lambda" not in of_options:
            problems.add(
                method_key,
                f"{name} has the penalty {method.penalty}, but no {form} of lambda",
            )
        for option, values in of_options.items():
            if not isinstance(values, dict):
                continue
            missing = [k for k in names_of_k if k not in values]
            if missing:
                text = f"no {form} for {', '.join(missing)}"
                problems.add(f"{method_key}.{option}", text)


def _check_listed(
    config: Config, experiment: str, tuning: Any, problems: Problems
) -> None:
    """What protocol `listed` needs: methods of the experiment, and trials that they can train at."""
    where = f"experiments.{experiment}.protocols.listed.trials"
    tuned = {
        name: m
        for name in config.experiments[experiment].methods
        if (m := config.methods[name]).tuned
    }
    problems.known(where, tuning.trials, tuned)
    for name in sorted(tuning.trials.keys() & tuned):
        for trial in tuning.trials[name]:
            checked(
                f"{where}.{name}",
                {option: [value] for option, value in trial.items()},
                tuned[name],
                problems,
            )
            if (
                tuned[name].penalty
                and tuned[name].lam is None
                and "lambda" not in trial
            ):
                problems.add(
                    f"{where}.{name}",
                    f"{name} has a penalty, so that each of its trials needs a lambda",
                )


def _check_grids(config: Config, experiment: str, problems: Problems) -> None:
    """Check that what an experiment sweeps by k has a grid for each of its k, and for no other."""
    spec, key = config.experiments[experiment], f"experiments.{experiment}"
    names_of_k = [f"k{k}" for k in spec.every_k]
    origin = problems.origin(f"{key}.sweep")
    # What the experiment took over, and lacks: {option: its k}.
    inherited_missing: dict[str, list[str]] = {}
    for name in spec.methods:
        of_method = config.methods[name].sweep
        of_experiment = spec.sweep.get(name, {})
        for option, grids in (of_method | of_experiment).items():
            if not isinstance(grids, dict):
                continue
            missing = [k for k in names_of_k if k not in grids]
            text = f"no grid for {', '.join(missing)} of experiment {experiment}"
            if option not in of_experiment:
                if missing:
                    line = _sweep_to_write(config, experiment)
                    advice = f"add it, or write `{line}` in {key}"
                    problems.add(f"methods.{name}.sweep.{option}", f"{text}; {advice}")
            elif origin is None:
                where = f"{key}.sweep.{name}.{option}"
                if missing:
                    problems.add(where, text)
                problems.known(where, grids, names_of_k)
            elif missing:
                inherited_missing[option] = missing

    if inherited_missing:
        lacking = " and ".join(
            f"{option} for {', '.join(missing)}"
            for option, missing in inherited_missing.items()
        )
        line = _sweep_to_write(config, experiment)
        problems.add(
            f"{key}.sweep",
            f"no grid of {lacking}; inherited from {origin}: write `{line}` here, with "
            "the values that you mean",
        )


def _sweep_to_write(config: Config, experiment: str) -> str:
    """The line of an experiment that sweeps what it sweeps now, and for every k of its own.

    Where a k has no grid, the line has that of the nearest one.
    """
    spec = config.experiments[experiment]
    sweep: dict[str, dict[str, Any]] = {}
    for name in spec.methods:
        of_method = config.methods[name].sweep
        of_experiment = spec.sweep.get(name, {})
        for option, grids in (of_method | of_experiment).items():
            if isinstance(grids, dict):
                distance = {
                    k: {other: abs(math.log(int(other[1:]) / k)) for other in grids}
                    for k in spec.every_k
                }
                nearest = {
                    k: min(distance[k], key=distance[k].__getitem__)
                    for k in spec.every_k
                }
                grids = {f"k{k}": [*grids[nearest[k]]] for k in spec.every_k}
            elif option not in of_experiment:
                continue  # The method itself says it.
            sweep.setdefault(name, {})[option] = grids
    text = yaml.safe_dump(
        {"sweep": sweep}, default_flow_style=True, sort_keys=False, width=math.inf
    )
    return text.strip()[1:-1]


def _check_method(
    config: Config, experiment: str, name: str, problems: Problems
) -> None:
    """What a method needs in an experiment: its partners, a grid for every k, a lambda, trials that it can train at."""
    spec, method, key = (
        config.experiments[experiment],
        config.methods[name],
        f"experiments.{experiment}",
    )
    for link, other in (("at", method.at), ("against", method.against)):
        if other is not None and other not in spec.methods:
            problems.add(
                f"{key}.methods",
                f"{name} is {link} {other}, which the experiment lacks; add {other}",
            )
    own = spec.sweep.get(name, {})
    # Of a k without a grid, :func:`_check_grids` says that there is none.
    lambda_is_swept = "lambda" in {
        *config.methods[method.at or name].sweep,
        *spec.sweep.get(method.at or name, {}),
    }
    said = {*method.recipe, *method.sweep, *own}
    recipes = _recipes(config, experiment)
    for common_key, common in recipes.items():
        problems.build(RecipeEntry, common | method.recipe, f"methods.{name}")
        if common["steps"] and "epochs" in said and "steps" not in said:
            text = (
                f"{common_key} counts steps, so that epochs of {name} would change "
                "nothing; give it steps"
            )
            problems.add(f"{key}.methods", text)
    for k in spec.every_k:
        trials = config.sweep(experiment, method.at or name, k)
        strange = trials.keys() - {
            *RecipeEntry.model_fields,
            *method.options,
            *(OF_A_PENALTY if method.penalty else ()),
        }
        for option in sorted(strange):
            text = f"{name} is at {method.at}, which sweeps {option}; {name} has no such option"
            problems.add(f"{key}.methods", text)
        if method.penalty and method.lam is None and not lambda_is_swept:
            problems.add(
                f"{key}.methods",
                f"{name} has the penalty {method.penalty}, but no lambda; set or sweep it",
            )
    for dataset in spec.datasets:
        for k in spec.k_of(dataset):
            _check_at_most_m(config, experiment, name, dataset, k, problems)


def _recipes(config: Config, experiment: str) -> dict[str, dict[str, Any]]:
    """Return the recipes of an experiment's datasets, by the key that says each."""
    return {
        _recipe_key(config, experiment, dataset): config.recipe(
            experiment, dataset
        ).model_dump()
        for dataset in config.experiments[experiment].datasets
    }


def _recipe_key(config: Config, experiment: str, dataset: str) -> str:
    """Return the key that says the recipe of an experiment's dataset."""
    spec = config.experiments[experiment]
    if dataset in spec.by_dataset and spec.by_dataset[dataset].recipe:
        return f"experiments.{experiment}.by_dataset.{dataset}"
    return f"training.{spec.training}"


def _k_key(config: Config, experiment: str, dataset: str) -> str:
    """Return the key that says the budgets k of an experiment's dataset."""
    spec = config.experiments[experiment]
    if dataset in spec.by_dataset and spec.by_dataset[dataset].k is not None:
        return f"experiments.{experiment}.by_dataset.{dataset}.k"
    return f"experiments.{experiment}.k"


def _check_at_most_m(
    config: Config,
    experiment: str,
    name: str,
    dataset: str,
    k: int,
    problems: Problems,
) -> None:
    """Check that k and auxk_k are at most m, in a method's trials on a dataset."""
    method = config.methods[name]
    common_key = _recipe_key(config, experiment, dataset)
    common = config.recipe(experiment, dataset).model_dump()
    swept_here = config.experiments[experiment].sweep.get(name, {})
    trials = config.sweep(experiment, method.at or name, k)
    recipe = common | method.recipe
    m = min(trials.get("m", [recipe["m"]]))
    auxk_k = max(trials.get("auxk_k", [recipe["auxk_k"]]))

    set_here = {*method.recipe, *trials}
    swept = f"experiments.{experiment}.sweep.{name}"
    of_m = (
        swept
        if "m" in swept_here
        else f"methods.{name}"
        if "m" in set_here
        else common_key
    )
    of_auxk_k = f"methods.{name}" if {"m", "auxk_k"} & set_here else of_m
    auxk_k_key = next(
        (f"{swept}.{option}" for option in ("auxk_k", "m") if option in swept_here),
        f"{of_auxk_k}.auxk_k",
    )
    k_key = _k_key(config, experiment, dataset)
    for option, value, key in (("k", k, k_key), ("auxk_k", auxk_k, auxk_k_key)):
        if value > m:
            problems.add(
                key,
                f"{option} = {value} is larger than m = {m} of {of_m}; "
                f"allowed: 1 to {m}",
            )
