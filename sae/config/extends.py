"""`extends`: what an entry does not say itself, it takes over from another one of its section."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sae.config.problems import Problems

SECTIONS = ("experiments", "methods", "training", "datasets", "backbones")
LONGEST = 50  # entries in a row, each of which `extends` the next; each takes some room of Python's stack
_OF_ITS_OWN = ("extends", "label", "description", "colour", "at")
Words = dict[str, Any]


def laid_over(inherited: Words, own: Words) -> Words:
    """All that an entry says. An experiment that names its methods takes over what is said of these alone."""
    methods = own.get("methods")
    return (
        _of_methods(inherited, methods) if isinstance(methods, list) else inherited
    ) | own


def _of_methods(words: Any, methods: list[Any]) -> Any:
    """What an experiment, or one of its protocols, says, without what is of other methods."""
    if not isinstance(words, dict):
        return words  # Which the types of a config refuse.
    found = dict(words)
    for key in ("protocols", "sweep", "ranges", "own_values", "trials"):
        if isinstance(said := words.get(key), dict):
            of_protocols = {name: _of_methods(of, methods) for name, of in said.items()}
            found[key] = (
                of_protocols
                if key == "protocols"
                else {n: of for n, of in said.items() if n in methods}
            )
    return found


def written_out(
    entries: Words, lay_over: Callable[[Words, Words], Words] = laid_over
) -> Words:
    """A section whose entries say all that they take over, and `extends` no more; its links are right (:func:`check`).

    Args:
        lay_over: makes one mapping of the words that an entry may take over, and of its own.
    """

    @functools.cache
    def words(name: str) -> Any:
        own = entries[name]
        if not isinstance(own, dict):
            return own  # Which the types of a config refuse.
        inherited = words(own["extends"]) if own.get("extends") in entries else {}
        inherited = {
            key: value for key, value in inherited.items() if key not in _OF_ITS_OWN
        }
        return {
            key: value
            for key, value in lay_over(inherited, own).items()
            if key != "extends"
        }

    return {name: words(name) for name in entries}


def check(
    section: str, word: str, links: Mapping[str, Any], problems: Problems
) -> None:
    """Each of `links`, {entry: the one that its `word` names}, must be known, and not lead back or through too many."""
    known = {
        name: named
        for name, named in links.items()
        if named is not None
        and problems.known(f"{section}.{name}.{word}", [named], links)
    }
    for name, following in known.items():
        chain = [name]
        while following in known and following not in chain and len(chain) <= LONGEST:
            chain, following = [*chain, following], known[following]
        if following == name:
            problems.add(
                f"{section}.{name}.{word}", f"{' -> '.join([*chain, name])} is a circle"
            )
        elif len(chain) > LONGEST:  # Once for all: the line names none.
            problems.add(
                section,
                f"`{word}` leads through more than {LONGEST} of them in a row; shorten the way",
            )


def resolved(raw: Words, problems: Problems) -> Words:
    """A config as it was read, written out but for its methods, which take over by rules of their own.

    Raises:
        UserError: a link is not right.
    """
    sections = {s: raw[s] for s in SECTIONS if isinstance(raw.get(s), dict)}
    parents: dict[str, str] = {}
    for section, entries in sections.items():
        links = {
            name: entry.get("extends")
            for name, entry in entries.items()
            if isinstance(entry, dict)
        }
        check(section, "extends", links, problems)
        parents |= {
            f"{section}.{name}": f"{section}.{link}"
            for name, link in links.items()
            if link
        }
    problems.end()
    problems.parents = parents
    written = {
        section: written_out(entries)
        for section, entries in sections.items()
        if section != "methods"
    }
    for section, entries in sections.items():
        for name, entry in written.get(section, {}).items():
            for key, origin in _inherited_keys(entries, name, entry).items():
                problems.origins[f"{section}.{name}.{key}"] = origin
    if "experiments" in written:
        written["experiments"] = {
            name: _without_what_is_not_there(words, entries_own)
            for (name, words), entries_own in zip(
                written["experiments"].items(),
                sections["experiments"].values(),
                strict=True,
            )
        }
    return raw | written


def experiment_written_out(experiments: Words, name: str) -> Any:
    """Write out what an experiment says, without what it takes over in vain.

    Args:
        experiments: All experiments of a config, as they were written.
        name: One of them.

    Returns:
        Its words, which need no other experiment.
    """
    return _without_what_is_not_there(written_out(experiments)[name], experiments[name])


def _inherited_keys(entries: Words, name: str, written: Any) -> dict[str, str]:
    """{key that an entry takes over: the entry that writes it}."""
    origins = {}
    for key in written if isinstance(written, dict) else ():
        origin = name
        while key not in entries[origin]:
            origin = entries[origin]["extends"]
        if origin != name:
            origins[key] = origin
    return origins


def _without_what_is_not_there(words: Any, own: Any) -> Any:
    """An experiment without what it took over about a k, dataset or backbone of others.

    Grids of an option stay if none of them is of a k of this experiment: which are
    missing is then for the checks to say.

    Args:
        words: all that the experiment says.
        own: what it writes itself.
    """
    lists: dict[str, list[Any]] = {"datasets": [], "backbones": [], "k": []}
    if not isinstance(words, dict):
        return words  # Which the types of a config refuse.
    for key in lists:
        if not isinstance(words.get(key), list):
            return words
        lists[key] = words[key]
    kept = dict(words)

    if "sweep" not in own and isinstance(words.get("sweep"), dict):
        names_of_k = {f"k{k}" for k in _every_k(words)}
        kept["sweep"] = {
            method: {
                option: _grids_of(grid, names_of_k) for option, grid in grids.items()
            }
            if isinstance(grids, dict)
            else grids
            for method, grids in words["sweep"].items()
        }
    if "gallery" not in own and isinstance(words.get("gallery"), dict):
        shown_of = {
            "dataset": lists["datasets"],
            "backbone": lists["backbones"],
            "k": _every_k(words),
        }
        kept["gallery"] = {
            part: value
            for part, value in words["gallery"].items()
            if value in shown_of.get(part, [value])
        }
    if "judges" not in own and isinstance(words.get("judges"), list):
        kept["judges"] = [
            name for name in words["judges"] if name not in lists["backbones"]
        ]
    return kept


def _every_k(words: Words) -> list[Any]:
    """Every k of an experiment's datasets, some of which may have their own."""
    by_dataset = words.get("by_dataset")
    if not isinstance(by_dataset, dict):
        return words["k"]
    every_k: list[Any] = []
    for dataset in words["datasets"]:
        of_dataset = by_dataset.get(dataset) if isinstance(dataset, str) else None
        budgets = of_dataset.get("k") if isinstance(of_dataset, dict) else None
        every_k += budgets if isinstance(budgets, list) else words["k"]
    return every_k


def _grids_of(grid: Any, names_of_k: set[str]) -> Any:
    """The grids of an option that are of one of some k, such as {"k8"}."""
    if not isinstance(grid, dict):
        return grid
    return {k: grid[k] for k in grid if k in names_of_k} or grid
