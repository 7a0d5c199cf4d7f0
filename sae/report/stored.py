"""A leaderboard as a file for later runs: `tables/leaderboard.json`; `join` and `cells` of an experiment's `fair`.

A run *joins* a leaderboard in the cells that both have: its own method beside the stored ones. Or it counts the *cells*
of one as its own, so that a board may grow cell by cell, machine by machine. Where both have a cell, its methods are
united, if the baselines there have the same scores to the last digit: so may a board grow method by method, and a
method that was mended be run again by itself. Of a method that is defined otherwise now, no stored row is taken.

It holds each candidate's scores by cell and seed, and all that decides whether other rows compare with them: the data
and weights of each cell by their fingerprints, the protocol with the code of its rule and the definition of the
baselines, and the code and options of every metric that gives a score. Rows of two machines differ in bits of the
embeddings; so a method is compared with the baseline of its own run, and R*, the reconstruction that this baseline
sets, is stored and compared too.
"""

from collections.abc import Collection, Iterable, Sequence
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
            methods of which its rows were not taken.
    """

    protocol: dict[str, Any]
    definitions: dict[str, Any]
    metrics: dict[str, Any]
    blocks: dict[str, Any]
    stars: dict[str, float]
    tolerance: float
    sources: Sequence[dict[str, Any]] = ()


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
    content = about._asdict() | {"methods": methods}
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
        tuned, untuned = (_table(stored[kind], cells) for kind in ("tuned", "untuned"))
        rows = Rows(tuned, untuned, Names({"methods": stored["methods"]}))
    except _NOT_OURS as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None
    return rows, f"R* of the stored run and of this one differ by at most {off[furthest]:.4f}."


def add_cells(file: str | Path, own: Rows, about: About) -> tuple[Rows, About]:
    """The rows of this run and of a stored leaderboard of other cells, or of other methods; what both are about.

    Rows are put in the order of their cells, so that it does not matter which run counts which. A stored row is left
    out where this run has the method in the cell, and where the method is defined otherwise here.

    Raises:
        UserError: the file is no such leaderboard, what decides on its scores is not the same here, or it has a cell of
            this run with other scores of the baseline.
    """
    stored = _content(file)
    try:
        _may_count(file, stored, about)
        theirs, baselines = stored["definitions"], own.names.baselines
        changed = _changed(stored, about)
        cells = _cells(stored["stars"])
        tables, without = [], set(changed)
        for kind, here in (("tuned", own.tuned), ("untuned", own.untuned)):
            there = _table(stored[kind], cells)
            if kind == "tuned":
                _same_baselines(file, there, here, baselines)
            has = set(zip(cell_names(here), here["method"], strict=True))
            twice = np.array([key in has for key in zip(cell_names(there), there["method"], strict=True)], dtype=bool)
            without |= set(there["method"][twice]) - set(baselines)
            there = there[~there["method"].isin(changed) & ~twice]
            both = [table for table in (here, there) if len(table)]
            order = [*CELL, "seed"]
            tables.append(pd.concat(both).sort_values(order, kind="stable", ignore_index=True) if both else here)
        source = {"file": str(file), "sha256": files.sha256(file), "cells": sorted(cells), "without": sorted(without)}
        about = about._replace(
            definitions=theirs | about.definitions,
            blocks=stored["blocks"] | about.blocks,
            stars=stored["stars"] | about.stars,
            sources=[*about.sources, source, *_sources(stored)],
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
    bases = {of["against"] for of in stored["methods"].values()} & stored["definitions"].keys()
    for name in sorted(base for base in bases & about.definitions.keys() if not stored["methods"][base]["against"]):
        wrong += [f"method {name}: its {part}" for part in _parts(stored["definitions"][name], about.definitions[name])]
    if about.blocks:
        wrong += _elsewhere(stored["blocks"], about.blocks)
    if wrong:
        raise UserError(
            f"{file} cannot be counted. Not the same as here: {_first(wrong)}. Run both with the same protocol, "
            "metrics, data and judges, or leave it out of `cells`"
        )


def _same_baselines(file: str | Path, there: pd.DataFrame, here: pd.DataFrame, baselines: Collection[str]) -> None:
    """Raise unless the baselines have the same rows in the cells that both have."""
    shared = set(cell_names(there)) & set(cell_names(here))
    key = [*CELL, "method", "seed"]
    columns = [column for column in there if column in here and column != "trial"]
    one, other = (
        table[_of_cells(table, shared) & table["method"].isin(baselines)]
        .sort_values(key, ignore_index=True)[columns]
        .astype(object)
        for table in (there, here)
    )
    if not one.equals(other):
        raise UserError(
            f"{file} cannot be counted: this run, or another file of `cells`, has {_first(sorted(shared))} too, and "
            "not the same scores of the baseline there. Leave these cells out, or `join` it instead"
        )


def _changed(stored: dict[str, Any], about: About) -> set[str]:
    """The stored methods that are defined otherwise here, or are compared with one that is: a tie has its numbers."""
    theirs, against = stored["definitions"], {name: of["against"] for name, of in stored["methods"].items()}
    found = {name for name in theirs if about.definitions.get(name, theirs[name]) != theirs[name]}
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
