"""Write out `extends`: an entry takes over what it does not say from another entry.

Both are of the same section. What is written out here was not checked yet: of a value
of the wrong type nothing is made, since the types of a config refuse it afterwards.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sae.config.problems import Problems

SECTIONS = ("experiments", "methods", "training", "datasets", "backbones")
# Entries in a row, each of which `extends` the next; each takes some of Python's stack.
LONGEST_CHAIN = 50
# Keys that no entry takes over.
_NOT_INHERITED = ("extends", "label", "description", "colour", "at")
# Keys of an experiment, or of the options of a protocol, whose value is {method: ...}.
_KEYS_BY_METHOD = ("sweep", "ranges", "own_values", "trials")
# What is written of an entry: {key: value}.
Words = dict[str, Any]


def lay_over(inherited: Words, own_words: Words) -> Words:
    """Lay what an entry says over what it may take over.

    An experiment that names its methods takes over what is said of these alone.
    """
    methods = own_words.get("methods")
    if isinstance(methods, list):
        inherited = _about_methods(inherited, methods)
    return {**inherited, **own_words}


def _about_methods(words: Any, methods: list[Any]) -> Any:
    """Return what an experiment or protocol says, without what is of other methods."""
    if not isinstance(words, dict):
        return words
    remaining = dict(words)
    for key in _KEYS_BY_METHOD:
        by_method = words.get(key)
        if isinstance(by_method, dict):
            remaining[key] = {
                name: of_method
                for name, of_method in by_method.items()
                if name in methods
            }
    protocols = words.get("protocols")
    if isinstance(protocols, dict):
        remaining["protocols"] = {
            name: _about_methods(options, methods)
            for name, options in protocols.items()
        }
    return remaining


def write_out_entries(
    entries: Words, lay_over: Callable[[Words, Words], Words] = lay_over
) -> Words:
    """Return a section whose entries say all that they take over.

    None of them says `extends` any more.

    Args:
        entries: The section as it is written; its links are right
            (:func:`check_links`).
        lay_over: Makes one mapping of what an entry may take over, and what it says.
    """

    @functools.cache
    def write_out(name: str) -> Any:
        own_words = entries[name]
        if not isinstance(own_words, dict):
            return own_words
        inherited = {}
        if own_words.get("extends") in entries:
            inherited = {
                key: value
                for key, value in write_out(own_words["extends"]).items()
                if key not in _NOT_INHERITED
            }
        words = lay_over(inherited, own_words)
        return {key: value for key, value in words.items() if key != "extends"}

    return {name: write_out(name) for name in entries}


def check_links(
    section: str, link_key: str, links: Mapping[str, Any], problems: Problems
) -> None:
    """Check that the links between entries name entries, and have an end.

    Args:
        section: Of the entries.
        link_key: The key that names another entry: extends, at or against.
        links: {entry: the entry that it names, or None}.
        problems: Where a link is noted that names no entry, leads back to its entry, or
            through too many others.
    """
    known_links = {}
    for name, linked in links.items():
        key = f"{section}.{name}.{link_key}"
        if linked is not None and problems.check_names(key, [linked], links):
            known_links[name] = linked

    for name in known_links:
        chain = [name]
        following = known_links[name]
        while (
            following in known_links
            and following not in chain
            and len(chain) <= LONGEST_CHAIN
        ):
            chain.append(following)
            following = known_links[following]
        if following == name:
            circle = " -> ".join([*chain, name])
            problems.add(f"{section}.{name}.{link_key}", f"{circle} is a circle")
        elif len(chain) > LONGEST_CHAIN:
            # The line names no entry, so that it is there once.
            problems.add(
                section,
                f"`{link_key}` leads through more than {LONGEST_CHAIN} of them in a "
                "row; shorten the way",
            )


def write_out_sections(raw: Words, problems: Problems) -> Words:
    """Return a config whose entries say all that they take over, but for its methods.

    Methods take over by rules of their own (`sae.config.methods`).

    Args:
        raw: The config as it was read.
        problems: Gets to know which entry a key comes from.

    Raises:
        UserError: a link is not right.
    """
    sections = {
        section: raw[section]
        for section in SECTIONS
        if isinstance(raw.get(section), dict)
    }
    parents = {}
    for section, entries in sections.items():
        links = {
            name: entry.get("extends")
            for name, entry in entries.items()
            if isinstance(entry, dict)
        }
        check_links(section, "extends", links, problems)
        for name, parent in links.items():
            if parent:
                parents[f"{section}.{name}"] = f"{section}.{parent}"
    problems.raise_all()
    problems.parents = parents

    complete = {}
    for section, entries in sections.items():
        if section == "methods":
            continue
        complete[section] = write_out_entries(entries)
        for name, words in complete[section].items():
            for key, origin in _origins_of_keys(entries, name, words).items():
                problems.origins[f"{section}.{name}.{key}"] = origin

    if "experiments" in complete:
        as_written = sections["experiments"]
        complete["experiments"] = {
            name: _without_absent_cells(words, as_written[name])
            for name, words in complete["experiments"].items()
        }
    return {**raw, **complete}


def experiment_written_out(experiments: Words, name: str) -> Any:
    """Write out what an experiment says, without what it takes over in vain.

    Args:
        experiments: All experiments of a config, as they were written.
        name: One of them.

    Returns:
        Its words, which need no other experiment.
    """
    return _without_absent_cells(
        write_out_entries(experiments)[name], experiments[name]
    )


def _origins_of_keys(entries: Words, name: str, words: Any) -> dict[str, str]:
    """Return {key that an entry takes over: the entry that writes it}."""
    if not isinstance(words, dict):
        return {}
    origins = {}
    for key in words:
        origin = name
        while key not in entries[origin]:
            origin = entries[origin]["extends"]
        if origin != name:
            origins[key] = origin
    return origins


def _without_absent_cells(words: Any, own_words: Any) -> Any:
    """Leave out what was taken over of a k, dataset or backbone that is not here."""
    # Grids of an option stay if none of them is of a k of this experiment: which are
    # missing is then for the checks to say.
    if not isinstance(words, dict):
        return words
    if not all(
        isinstance(words.get(key), list) for key in ("datasets", "backbones", "k")
    ):
        return words
    every_k = _every_k(words)
    remaining = dict(words)

    if "sweep" not in own_words and isinstance(words.get("sweep"), dict):
        names_of_k = {f"k{k}" for k in every_k}
        remaining["sweep"] = {
            method: _sweep_at_k(sweep, names_of_k)
            for method, sweep in words["sweep"].items()
        }
    if "gallery" not in own_words and isinstance(words.get("gallery"), dict):
        values_here = {
            "dataset": words["datasets"],
            "backbone": words["backbones"],
            "k": every_k,
        }
        remaining["gallery"] = {
            part: value
            for part, value in words["gallery"].items()
            if part not in values_here or value in values_here[part]
        }
    if "judges" not in own_words and isinstance(words.get("judges"), list):
        remaining["judges"] = [
            name for name in words["judges"] if name not in words["backbones"]
        ]
    return remaining


def _every_k(words: Words) -> list[Any]:
    by_dataset = words.get("by_dataset")
    if not isinstance(by_dataset, dict):
        return words["k"]
    every_k: list[Any] = []
    for dataset in words["datasets"]:
        differences = by_dataset.get(dataset) if isinstance(dataset, str) else None
        budgets = differences.get("k") if isinstance(differences, dict) else None
        every_k += budgets if isinstance(budgets, list) else words["k"]
    return every_k


def _sweep_at_k(sweep: Any, names_of_k: set[str]) -> Any:
    """Return the grids of a method's sweep, those by k only of some k."""
    if not isinstance(sweep, dict):
        return sweep
    remaining = {}
    for option, grid in sweep.items():
        remaining[option] = grid
        if isinstance(grid, dict):
            at_k = {name: grid[name] for name in grid if name in names_of_k}
            remaining[option] = at_k or grid
    return remaining
