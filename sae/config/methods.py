"""The methods of a config with what they take over from others, and all sweeps, checked."""

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from sae.config.extends import check, written_out
from sae.config.models import Config, Method, Sweep, Trained, extended
from sae.config.problems import Problems
from sae.core import paths, registry
from sae.core.options import describe_problem
from sae.training.recipe import rounded

KINDS = ("objective", "penalty")
OF_A_PENALTY = {"lambda", "mask"}
OF_A_BANK = {"input_norm", "unit_variance"}
IMPORTED = "imported"
_OF_AN_IMPORT = "an SAE that was made elsewhere is not trained: leave it out"
_OF_IMPORTED = {"import", "label", "colour", "sweep"}
_OF_A_CONTROL = "a control is not tuned, and compared with nothing: leave it out"
_SWEPT = {"lambda", *Trained.model_fields} - {
    *Method.model_fields,
    *OF_A_BANK,
    "log_every",
}


def resolve(
    config: Config, raw: dict[str, dict[str, Any]], problems: Problems
) -> Config:
    """The config with its methods complete, its sweeps in order; `raw` is the section `methods`."""
    before = len(problems.found)
    for name, method in config.methods.items():
        for kind in KINDS:
            if entry := getattr(method, kind):
                problems.tried(
                    f"methods.{name}.{kind}",
                    functools.partial(extended, Trained),
                    kind,
                    entry,
                )
    problems.end(before)
    words = written_out(raw, _laid_over)
    found = {name: _complete(name, raw[name], words[name], problems) for name in raw}
    problems.end(before)
    methods = {name: method for name, method in found.items() if method}
    for link in ("at", "against"):
        check(
            "methods",
            link,
            {name: getattr(method, link) for name, method in methods.items()},
            problems,
        )
    for name, method in methods.items():
        _check_links(methods, name, problems)
        for word in ("at", "against", "sweep"):
            if method.control and getattr(method, word):
                problems.add(f"methods.{name}.{word}", _OF_A_CONTROL)
        if method.imported:
            formats = ("auto", *registry.names("importer"))
            for part, allowed in (
                ("dataset", config.datasets),
                ("backbone", config.backbones),
                ("format", formats),
            ):
                if named := getattr(method.imported, part):
                    problems.known(f"methods.{name}.import.{part}", [named], allowed)
    experiments = {}
    for e, spec in config.experiments.items():
        known = {name: grids for name, grids in spec.sweep.items() if name in methods}
        for name in sorted(
            n for n in known if methods[n].control or methods[n].imported
        ):
            problems.add(
                f"experiments.{e}.sweep.{name}",
                _OF_A_CONTROL if methods[name].control else _OF_AN_IMPORT,
            )
        swept = {
            n: checked(f"experiments.{e}.sweep.{n}", grids, methods[n], problems)
            for n, grids in known.items()
        }
        experiments[e] = spec.model_copy(update={"sweep": spec.sweep | swept})
        for name in spec.methods:
            if name in methods and (base := methods[name].at) in methods:
                own, its = words[name], words[base]
                swept_there = {*methods[base].sweep, *swept.get(base, {})}
                for option in sorted(
                    o for o in swept_there & own.keys() if own[o] != its.get(o)
                ):
                    text = f"{name} is trained at the {option} that is chosen for {base} (swept in {e}): leave it out"
                    problems.add(f"methods.{name}.{option}", text)
    return config.model_copy(update={"methods": methods, "experiments": experiments})


def _check_links(methods: dict[str, Method], name: str, problems: Problems) -> None:
    """Whom a method is `at` or `against` must be trained, and have trials of its own."""
    for link in ("at", "against"):
        named = getattr(methods[name], link)
        other = methods.get(named)
        if other and not other.tuned:
            at = other.at and f"itself trained at the choice of {other.at}"
            what = at or ("a control" if other.control else "imported")
            problems.add(
                f"methods.{name}.{link}",
                f"{named} is {what}: name a method with trials of its own",
            )


def _laid_over(inherited: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A method's own keys, over the inherited keys that still apply."""
    sweep = own.get("sweep", {})
    # What this method sets or sweeps itself, and the options of an entry that it replaces.
    gone = {*own, *sweep} | ({"against"} if own.get("control") else set())
    for kind in KINDS:
        if (before := inherited.get(kind)) and own.get(kind, before) != before:
            gone |= set(registry.head(kind, before).options.model_fields)
            gone |= OF_A_PENALTY if kind == "penalty" and own[kind] is None else set()
    stays = own.get("at") or own.get("control", inherited.get("control"))
    swept = (
        {}
        if stays
        else {
            n: grid for n, grid in inherited.get("sweep", {}).items() if n not in gone
        }
    )
    return (
        {n: value for n, value in inherited.items() if n not in gone}
        | own
        | {"sweep": swept | sweep}
    )


def _complete(
    name: str, own: dict[str, Any], words: dict[str, Any], problems: Problems
) -> Method | None:
    """A method with all that it takes over; None where that is not right."""
    key = f"methods.{name}"
    if words.get("import"):
        words = _of_an_import(name, own, words, problems)
    elif words.get("objective") == IMPORTED:
        problems.add(f"{key}.objective", "write `import: PATH` instead, the SAE's file")
    model: type[Method] = Trained
    for kind in KINDS:
        if entry := words.get(kind):
            wider = problems.tried(
                f"{key}.{kind}", functools.partial(extended, model), kind, entry
            )
            if not wider:
                return None
            model = wider
        elif kind == "objective":
            problems.add(f"{key}.objective", "this key is required")
    for options, text in (
        (own.get("sweep", {}), "it is swept as well; leave one of the two out"),
        (
            OF_A_BANK,
            "all methods of a bank see the same inputs: set it in the recipe, in `training`",
        ),
        (
            () if words.get("penalty") else OF_A_PENALTY,
            "this method has no penalty that it could belong to",
        ),
    ):
        for option in sorted(own.keys() & options):
            problems.add(f"{key}.{option}", text)
    if words.get("penalty"):
        words = words | {"mask": words.get("mask") or "batch_active"}
    # An option of an entry need not have a value of its own where it is swept: then it has the first.
    places, first = {}, {}
    for option in words["sweep"].keys() & (
        model.model_fields.keys() - Trained.model_fields
    ):
        grid = words["sweep"][option]
        k, values = next(iter(grid.items())) if isinstance(grid, dict) else ("", grid)
        places[option], first[option] = (
            ".".join(filter(None, ("sweep", option, k, "0"))),
            values[0],
        )
    built = problems.build(model, words | first, key, places)
    return built and built.model_copy(
        update={"sweep": checked(f"{key}.sweep", built.sweep, built, problems)}
    )


def _of_an_import(
    name: str, own: dict[str, Any], words: dict[str, Any], problems: Problems
) -> dict[str, Any]:
    """The words of a method that is not trained, as one of the objective `imported`."""
    key = f"methods.{name}"
    if own.get("extends"):
        problems.add(
            f"{key}.extends",
            "an SAE that was made elsewhere takes over nothing: leave it out",
        )
        problems.end()
    for option in sorted(words.keys() - _OF_IMPORTED) + (
        ["sweep"] if words["sweep"] else []
    ):
        problems.add(f"{key}.{option}", _OF_AN_IMPORT)
    return words | {"objective": IMPORTED, "file": paths.IMPORTED.format(method=name)}


def checked(
    key: str,
    sweep: Mapping[str, Any],
    method: Method,
    problems: Problems,
    taken: Collection[str] = (),
) -> Sweep:
    """The values of options that a method tries, as they are trained, in ascending order; not those of `taken`."""
    if method.at and sweep:
        problems.add(key, f"its trial is that of {method.at}: leave it out")
    allowed = (
        {*_SWEPT, *method.options}
        - (set() if method.penalty else OF_A_PENALTY)
        - {*taken}
    )
    if not problems.known(key, sweep, allowed):
        return {}
    return {
        option: {
            k: _grid(f"{key}.{option}.{k}", option, values, method, problems)
            for k, values in grid.items()
        }
        if isinstance(grid, dict)
        else _grid(f"{key}.{option}", option, grid, method, problems)
        for option, grid in sweep.items()
    }


def _grid(
    key: str, option: str, values: list, method: Method, problems: Problems
) -> list:
    """The values of one of them."""
    found: dict[str, Any] = {}
    words = method.model_dump(by_alias=True, exclude_unset=True)
    for i, value in enumerate(values):
        try:
            trained = (
                type(method)
                .model_validate(words | {option: value})
                .model_dump(by_alias=True)[option]
            )
        except ValidationError as error:
            problems.add(f"{key}.{i}", describe_problem(error.errors()[0]))
            continue
        text = (
            paths.value_in_path(trained)
            if isinstance(trained, str | int | float)
            else ""
        )
        if not re.fullmatch("[A-Za-z0-9_.+-]+", text):
            problems.add(
                f"{key}.{i}", f"{value!r} cannot stand in a path, so it cannot be swept"
            )
            continue
        if text in found:
            problems.add(
                key,
                f"two values are both written {text} in paths; leave one out, or part them more",
            )
        found[text] = rounded(trained)
    return sorted(found.values(), key=lambda value: (isinstance(value, str), value))
