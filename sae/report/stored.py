"""A leaderboard as a file for later runs: `tables/leaderboard.json`; `join` and `cells` of an experiment's `fair`.

A run *joins* a leaderboard in the cells that both have: its own method beside the stored ones. Or it counts the *cells*
of one as its own, so that a board may grow cell by cell, machine by machine. Where both have a cell, its methods are
united, if what both have there has the same scores to the last digit: so may a board grow method by method, and a
method that was mended be run again by itself. Of a method that is defined otherwise now, no stored row is taken.

It holds each candidate's scores by cell and seed, and all that decides whether other rows compare with them: the data
and weights of each cell by their fingerprints, the protocol with the code of its rule and the definition of the
baselines, and the code and options of every metric that gives a score. Rows of two machines may differ in bits of the
embeddings; so a method is compared with the baseline of its own run, and R*, the reconstruction that this baseline
sets, is stored and compared too.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sae.core import files
from sae.core.errors import UserError
from sae.report.names import Names
from sae.report.scores import RUN
from sae.scoring.selection import CELL

_NOT_OURS = (KeyError, TypeError, AttributeError)  # What reading another project's JSON raises.
_ROW = [*RUN, "method", "fallback", "undertrained"]


class Rows(NamedTuple):
    """The scores of one run: of candidates (`sae.report.fair.picked`) and of what nobody tuned; its names."""

    tuned: pd.DataFrame
    untuned: pd.DataFrame
    names: Names


class About(NamedTuple):
    """What decides whether the rows of two runs compare.

    Attributes:
        protocol: {what: anything that JSON can hold}.
        definitions: {method: what it is and how it is tuned, likewise}.
        metrics: {name: {code, options}}, of those that give a score.
        blocks: {dataset/backbone: {what: fingerprint}}.
        stars: {dataset/backbone/k, the baseline: R*}, text with a space between.
        tolerance: how far two R* may lie apart.
        sources: a {file, sha256, cells, without} for each leaderboard that was counted: its dataset/backbone/k, and the
            methods of which no row was taken, since they are others now.
        elsewhere: {method: part of its definition}, of those that this run lacks and config.yaml has; not stored.
        taken: {method: the counted file that its definition is of}; not stored.
    """

    protocol: dict[str, Any]
    definitions: dict[str, Any]
    metrics: dict[str, Any]
    blocks: dict[str, Any]
    stars: dict[str, float]
    tolerance: float
    sources: Sequence[dict[str, Any]] = ()
    elsewhere: Mapping[str, Any] = {}
    taken: Mapping[str, str] = {}


def write(rows: Rows, about: About, columns: list[str], out: Path) -> None:
    """Write a run's leaderboard for others to join.

    Args:
        columns: of the scores.
    """
    names = rows.names
    every = [*names.order(rows.tuned["method"]), *names.order(set(rows.untuned["method"]) - set(rows.tuned["method"]))]
    methods = {
        name: {"label": names.method(name), "against": names.against(name), "position": place}
        for place, name in enumerate(every)
    }
    kept_of = {name: of for name, of in about._asdict().items() if name not in ("elsewhere", "taken")}
    content: dict[str, Any] = kept_of | {"methods": methods}
    for kind, table in (("tuned", rows.tuned), ("untuned", rows.untuned)):
        kept = table[[c for c in (*_ROW, *columns) if c in table]].astype(object)
        content[kind] = kept.where(kept.notna(), None).to_dict("list")
    files.write_json(out, content)


def read(file: str | Path, about: About) -> tuple[Rows, str]:
    """The rows of a stored leaderboard in the cells of this run, and in words how near its R* are.

    Raises:
        UserError: the file is no such leaderboard, or what decides on its scores is not the same here.
    """
    stored = _content(file)
    try:
        _may_join(file, stored, about, about.blocks)
        off = {cell: abs(stored["stars"][cell] - star) for cell, star in about.stars.items()}
        furthest = max(off, key=lambda cell: off[cell])
        if off[furthest] > about.tolerance:
            raise UserError(
                f"{file} cannot be joined: R* of {furthest} is {stored['stars'][furthest]:.4f} there and "
                f"{about.stars[furthest]:.4f} here, further apart than the tolerance of {about.tolerance:g}"
            )
        cells = {name.partition(" ")[0] for name in about.stars}
        changed = _changed(stored, about)
        tuned, untuned = (_table(stored[kind], cells) for kind in ("tuned", "untuned"))
        gone = sorted((changed & set(tuned["method"])) - about.definitions.keys())
        names = Names({"methods": stored["methods"]})
        tuned, untuned = (table[~table["method"].isin(gone)] for table in (tuned, untuned))
        rows = Rows(tuned, untuned, names)
    except _NOT_OURS as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None
    said = f"R* of the stored run and of this one differ by at most {off[furthest]:.4f}."
    return rows, said + (f" Left out, since they are other methods now: {', '.join(gone)}." if gone else "")


def add_cells(file: str | Path, own: Rows, about: About) -> tuple[Rows, About]:
    """The rows of this run and of a stored leaderboard of other cells, or of other methods; what both are about.

    Rows are put in the order of their cells, so that it does not matter which run counts which. Imported SAEs are shown
    in the cells of this run alone.

    Raises:
        UserError: the file is no such leaderboard, what decides on its scores is not the same here, it has another
            definition of a method than another file, or other scores where both have a method in a cell.
    """
    stored = _content(file)
    try:
        _may_count(file, stored, about)
        theirs, changed = stored["definitions"], _changed(stored, about)
        cells, tables, without = _cells(stored["stars"]), [], set()
        for kind, here in (("tuned", own.tuned), ("untuned", own.untuned)):
            there = _table(stored[kind], cells)
            there = there[there["method"].isin(theirs)]
            without |= changed & set(there["method"])
            there = there[~there["method"].isin(changed)]
            _same_rows(file, there, here)
            has = set(_keys(here))
            new = np.array([key not in has for key in _keys(there)], dtype=bool)
            both = [table for table in (here, there[new]) if len(table)]
            order = [*CELL, "seed"]
            tables.append(pd.concat(both).sort_values(order, kind="stable", ignore_index=True) if both else here)
        source = {"file": str(file), "sha256": files.sha256(file), "cells": sorted(cells), "without": sorted(without)}
        before = [of | {"without": sorted(without | {*of["without"]})} for of in _sources(stored)]
        sources = {of["sha256"]: of for of in (*before, source, *about.sources)}
        taken = {name: str(file) for name in theirs.keys() - about.definitions.keys() - changed}
        about = about._replace(
            definitions={name: of for name, of in theirs.items() if name in taken} | about.definitions,
            blocks=stored["blocks"] | about.blocks,
            stars=stored["stars"] | about.stars,
            sources=list(sources.values())[::-1],
            taken=taken | dict(about.taken),
        )
        names = own.names.beside(stored["methods"])
    except _NOT_OURS as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None
    return Rows(tables[0], tables[1], names), about


def check(file: str | Path, about: About, blocks: Collection[str] | None = None) -> None:
    """What can be said of a stored leaderboard before anything is made: all but data, weights and R*.

    Args:
        about: of a run to come; of its stars the names, and no blocks.
        blocks: the names of its blocks, if it is to join; without them its cells are to be counted.

    Raises:
        UserError: as for :func:`read` and :func:`add_cells`.
    """
    stored = _content(file)
    try:
        _may_count(file, stored, about) if blocks is None else _may_join(file, stored, about, blocks)
    except _NOT_OURS as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None


def cell_names(rows: pd.DataFrame) -> list[str]:
    """dataset/backbone/k of each row."""
    return ["/".join(map(str, key)) for key in rows[CELL].itertuples(index=False)]


def _content(file: str | Path) -> dict[str, Any]:
    return files.read_json(file, "stored leaderboard", "take a whole file of this version of the project")


def _may_join(file: str | Path, stored: dict[str, Any], about: About, blocks: Collection[str]) -> None:
    wrong = _differences(stored, about)
    gone = [name for name in blocks if name not in stored["blocks"]]
    wrong += [f"{name}: it is not there; leave this dataset or backbone out" for name in gone]
    lacking = sorted(about.stars.keys() - stored["stars"].keys()) if not gone else []
    wrong += [f"{name}: it is not there; leave this k out" for name in lacking]
    if wrong:
        raise UserError(
            f"{file} cannot be joined. Not the same as here: {_first(wrong)}. Compare under the same protocol, "
            "metrics, data and backbones, or leave `join` out"
        )


def _may_count(file: str | Path, stored: dict[str, Any], about: About) -> None:
    if "definitions" not in stored and "stars" in stored:
        raise UserError(f"{file} does not say what its methods are: it is of an earlier version. Run it again")
    wrong, there, here = _differences(stored, about), stored["metrics"], about.metrics
    wrong += [f"metric {name}: it is not there" for name in sorted(here.keys() - there.keys())]
    wrong += [f"metric {name}: it is not here" for name in sorted(there.keys() - here.keys())]
    bases = [name for name in _baselines(stored) if name in about.definitions]
    wrong += [f"method {n}: its {p}" for n in bases for p in _parts(stored["definitions"][n], about.definitions[n])]
    wrong += [
        f"method {name}: it is another one in {about.taken[name]}"
        for name in sorted(_changed(stored, about) & about.taken.keys())
    ]
    if about.blocks:
        wrong += _elsewhere(stored["blocks"], about.blocks)
    if wrong:
        raise UserError(
            f"{file} cannot be counted. Not the same as here: {_first(wrong)}. Run both with the same protocol, "
            "metrics, data and judges, or leave it out of `cells`"
        )


def _same_rows(file: str | Path, there: pd.DataFrame, here: pd.DataFrame) -> None:
    """Raise unless what both have, of a method in a cell, has the same scores."""
    columns = [column for column in there if column in here]

    def rows_of(table: pd.DataFrame, key: tuple[str, str]) -> pd.DataFrame:
        own = np.array([other == key for other in _keys(table)], dtype=bool)
        return table.loc[own, columns].sort_values("seed", ignore_index=True).astype(object)

    for cell, method in sorted(set(_keys(there)) & set(_keys(here))):
        if not rows_of(there, (cell, method)).equals(rows_of(here, (cell, method))):
            raise UserError(
                f"{file} cannot be counted: this run, or another file of `cells`, has {cell} too, and other scores of "
                f"{method} there. Leave this cell out of one of them, or `join` the file instead"
            )


def _keys(table: pd.DataFrame) -> list[tuple[str, str]]:
    """(dataset/backbone/k, method) of each row."""
    return list(zip(cell_names(table), table["method"], strict=True))


def _baselines(stored: dict[str, Any]) -> list[str]:
    """The stored methods that others are compared with, themselves with none."""
    others = {of["against"] for of in stored["methods"].values()}
    known = stored["definitions"]
    return sorted(n for n, of in stored["methods"].items() if of["against"] is None and n in others and n in known)


def _changed(stored: dict[str, Any], about: About) -> set[str]:
    """The stored methods that are defined otherwise here, or are compared with one that is: a tie has its numbers."""
    found = set()
    for name, there in stored["definitions"].items():
        if name in about.definitions:
            differs = there != about.definitions[name]
        else:
            differs = any(there.get(part) != of for part, of in about.elsewhere.get(name, {}).items())
        if differs:
            found.add(name)
    against = {name: of["against"] for name, of in stored["methods"].items()}
    while more := {name for name, other in against.items() if other in found} - found:
        found |= more
    return found


def _sources(stored: dict[str, Any]) -> list[dict[str, Any]]:
    """What a stored leaderboard counted itself; an earlier version wrote it by cell."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell, of in stored.get("counted", {}).items():
        found.setdefault((of["file"], of["sha256"]), []).append(cell)
    earlier = [{"file": f, "sha256": digest, "cells": cells, "without": []} for (f, digest), cells in found.items()]
    return [*stored.get("sources", []), *earlier]


def _cells(stars: Iterable[str]) -> set[str]:
    return {name.partition(" ")[0] for name in stars}


def _first(wrong: list[str]) -> str:
    return "; ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")


def _parts(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """The keys of which two dicts do not say the same."""
    return [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]


def _differences(stored: dict[str, Any], about: About) -> list[str]:
    """In what the scores of two runs do not compare."""
    found = [f"protocol: {key}" for key in _parts(stored["protocol"], about.protocol)]
    # A metric that one of the two lacks gives no score in its rows.
    for name in sorted(stored["metrics"].keys() & about.metrics.keys()):
        there, here = stored["metrics"][name], about.metrics[name]
        found += [f"metric {name}: its {part}" for part in here if there[part] != here[part]]
    for name, here in about.blocks.items():
        there = stored["blocks"].get(name)
        found += [f"{name}: its {part}" for part in here if there and there[part] != here[part]]
    return found


def _elsewhere(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """In what two runs differ that share no block: weights by backbone, images and steps by dataset, who judges."""
    found = []
    for place, parts in ((0, ("images", "most steps")), (1, ("weights",))):
        for part in parts:
            there, here = ({name.split("/")[place]: of[part] for name, of in b.items()} for b in (theirs, ours))
            alike = sorted((there.keys() & here.keys()) - {n.split("/")[place] for n in theirs.keys() & ours.keys()})
            found += [f"{name}: its {part}" for name in alike if there[name] != here[name]]
    one, other = ({name.split("/")[1] for name in blocks} for blocks in (theirs, ours))
    found += [f"backbone {name}: it is in one of the two alone; name it under `judges`" for name in sorted(one ^ other)]
    finds = [{of["most steps"] is None for of in blocks.values()} for blocks in (theirs, ours)]
    return found + (["whether steps are found (most_steps)"] if finds[0] != finds[1] else [])


def _table(columns: dict[str, list[Any]], cells: set[str]) -> pd.DataFrame:
    """Stored rows of some cells."""
    table = pd.DataFrame(columns)
    table = table.astype({c: float for c in table if c not in _ROW})
    return table[_of_cells(table, cells)]


def _of_cells(table: pd.DataFrame, cells: Collection[str]) -> pd.Series:
    return pd.Series([name in cells for name in cell_names(table)], table.index, dtype=bool)
