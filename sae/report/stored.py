"""A leaderboard as a file that later runs can join: `tables/leaderboard.json`, and `join` of an experiment's `fair`.

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
        metrics: {name: {code, options}}, of those that give a score.
        blocks: {dataset/backbone: {what: fingerprint}}.
        stars: {dataset/backbone/k, the baseline: R*}, text with a space between.
        tolerance: how far two R* may lie apart.
    """

    protocol: dict[str, Any]
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
    stored = files.read_json(file, "stored leaderboard", "take a whole file of this version of the project")
    try:
        if wrong := _differences(stored, about):
            more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
            raise UserError(
                f"{file} cannot be joined. Not the same as here: {'; '.join(wrong[:4])}{more}. Compare under the same "
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
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None
    return rows, f"R* of the stored run and of this one differ by at most {off[furthest]:.4f}."


def cell_names(rows: pd.DataFrame) -> list[str]:
    """dataset/backbone/k of each row."""
    return ["/".join(map(str, key)) for key in rows[CELL].itertuples(index=False)]


def _differences(stored: dict[str, Any], about: About) -> list[str]:
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
        found += [] if there else [f"{name}: it is not there; leave this dataset or backbone out"]
    gone = sorted(name for name in about.stars.keys() - stored["stars"].keys())
    return found + [f"{name}: it is not there; leave this k out" for name in gone if not found]


def _table(columns: dict[str, list[Any]], cells: set[str]) -> pd.DataFrame:
    """Stored rows of some cells."""
    table = pd.DataFrame(columns)
    table = table.astype({c: float for c in table if c not in _ROW})
    return table[pd.Series([name in cells for name in cell_names(table)], table.index, dtype=bool)]
