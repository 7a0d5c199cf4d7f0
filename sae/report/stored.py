"""A leaderboard as a file for later runs: `tables/leaderboard.json`; `join` and `cells` of an experiment's `fair`.

A run *joins* a leaderboard in the cells that both have: its own method beside the stored ones. Or it counts the *cells*
of one as its own: the same methods elsewhere, so that a board may grow cell by cell, machine by machine.

It holds each candidate's scores by cell and seed, and all that decides whether other rows compare with them: the data
and weights of each cell by their fingerprints, the protocol with the code of its rule and the definition of the
baselines, and the code and options of every metric that gives a score. Rows of two machines differ in bits of the
embeddings; so a method is compared with the baseline of its own run, and R*, the reconstruction that this baseline
sets, is stored and compared too.
"""

from pathlib import Path
from typing import Any, NamedTuple

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
    """

    protocol: dict[str, Any]
    definitions: dict[str, Any]
    metrics: dict[str, Any]
    blocks: dict[str, Any]
    stars: dict[str, float]
    tolerance: float


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
        if wrong := [*_differences(stored, about), *_lacking(stored, about)]:
            raise UserError(
                f"{file} cannot be joined. Not the same as here: {_first(wrong)}. Compare under the same "
                "protocol, metrics, data and backbones, or leave `join` out"
            )
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
    """The rows of this run and of a stored leaderboard of the same methods in other cells; what both are about.

    Raises:
        UserError: the file is no such leaderboard, has a cell of this run, or what decides on its scores or what a
            method is is not the same here.
    """
    stored = _content(file)
    try:
        if "definitions" not in stored:
            raise UserError(f"{file} does not say what its methods are: it is of an earlier version. Run it again")
        wrong = _differences(stored, about)
        for kind, theirs, ours in (
            ("metric", stored["metrics"], about.metrics),
            ("method", stored["definitions"], about.definitions),
        ):
            wrong += [f"{kind} {name}: one of the two lacks it" for name in sorted(theirs.keys() ^ ours.keys())]
        alike = sorted(stored["definitions"].keys() & about.definitions.keys())
        wrong += [f"method {name}" for name in alike if stored["definitions"][name] != about.definitions[name]]
        if wrong:
            raise UserError(
                f"the cells of {file} cannot be counted here. Not the same as here: {_first(wrong)}. Run both with the "
                "same methods, protocol, metrics and judges, or leave it out of `cells`"
            )
        cells = {name.partition(" ")[0] for name in stored["stars"]}
        if both := sorted(cells & {name.partition(" ")[0] for name in about.stars}):
            raise UserError(f"the cells of {file} cannot be counted here: another run has {_first(both)} too")
        tables = [
            pd.concat([here, _table(stored[kind], cells)], ignore_index=True)
            for kind, here in (("tuned", own.tuned), ("untuned", own.untuned))
        ]
        blocks, stars = stored["blocks"] | about.blocks, stored["stars"] | about.stars
    except _NOT_OURS as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None
    return own._replace(tuned=tables[0], untuned=tables[1]), about._replace(blocks=blocks, stars=stars)


def cell_names(rows: pd.DataFrame) -> list[str]:
    """dataset/backbone/k of each row."""
    return ["/".join(map(str, key)) for key in rows[CELL].itertuples(index=False)]


def _content(file: str | Path) -> dict[str, Any]:
    return files.read_json(file, "stored leaderboard", "take a whole file of this version of the project")


def _first(wrong: list[str]) -> str:
    return "; ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")


def _differences(stored: dict[str, Any], about: About) -> list[str]:
    """In what the scores of two runs do not compare."""
    theirs, ours = stored["protocol"], about.protocol
    found = [f"protocol: {key}" for key in sorted(theirs.keys() ^ ours.keys())]
    found += [f"protocol: {key}" for key in sorted(theirs.keys() & ours.keys()) if theirs[key] != ours[key]]
    # A metric that one of the two lacks gives no score in its rows.
    for name in sorted(stored["metrics"].keys() & about.metrics.keys()):
        there, here = stored["metrics"][name], about.metrics[name]
        found += [f"metric {name}: its {part}" for part in here if there[part] != here[part]]
    for name, here in about.blocks.items():
        there = stored["blocks"].get(name)
        found += [f"{name}: its {part}" for part in here if there and there[part] != here[part]]
    return found


def _lacking(stored: dict[str, Any], about: About) -> list[str]:
    """What this run has and a stored one has not, in which it would join it."""
    gone = [name for name in about.blocks if name not in stored["blocks"]]
    if gone:
        return [f"{name}: it is not there; leave this dataset or backbone out" for name in gone]
    return [
        f"{name}: it is not there; leave this k out" for name in sorted(about.stars.keys() - stored["stars"].keys())
    ]


def _table(columns: dict[str, list[Any]], cells: set[str]) -> pd.DataFrame:
    """Stored rows of some cells."""
    table = pd.DataFrame(columns)
    table = table.astype({c: float for c in table if c not in _ROW})
    return table[pd.Series([name in cells for name in cell_names(table)], table.index, dtype=bool)]
