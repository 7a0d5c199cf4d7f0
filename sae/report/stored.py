"""A leaderboard as a file that later runs can join: `tables/leaderboard.json`, and `join` of an experiment's `fair`.

It holds each candidate's scores by cell and seed, and all that decides whether other rows compare with them: the data
and weights of each cell by their fingerprints, the protocol, and the code and options of every metric. Rows of two
machines differ in bits of the embeddings; so a method is compared with the baseline of its own run, and R*, the
reconstruction that this baseline sets, is stored and compared too.
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


def write(rows: Rows, about: dict[str, Any], stars: dict[str, float], columns: list[str], out: Path) -> None:
    """Write a run's leaderboard for others to join.

    Args:
        about: {protocol, metrics: {name: {code, options}}, blocks: {dataset/backbone: fingerprints}}.
        stars: {cell: R*}.
        columns: of the scores.
    """
    names = rows.names
    every = [*names.order(rows.tuned["method"]), *names.order(set(rows.untuned["method"]) - set(rows.tuned["method"]))]
    methods = {
        name: {"label": names.method(name), "against": names.against(name), "position": place}
        for place, name in enumerate(every)
    }
    content = about | {"r_star": stars, "methods": methods}
    for kind, table in (("tuned", rows.tuned), ("untuned", rows.untuned)):
        kept = table[[c for c in (*_ROW, *columns) if c in table]].astype(object)
        content[kind] = kept.where(kept.notna(), None).to_dict("list")
    files.write_json(out, content)


def read(file: str | Path, about: dict[str, Any], stars: dict[str, float]) -> tuple[Rows, str]:
    """The rows of a stored leaderboard in the cells of this run, and in words how near its R* are.

    Args:
        about, stars: of this run, as for :func:`write`.

    Raises:
        UserError: the file is no such leaderboard, or what decides on its scores is not the same here.
    """
    stored = files.read_json(file, "stored leaderboard", "take a whole file of this version of the project")
    try:
        theirs, blocks = stored["protocol"], stored["blocks"]
        wrong = [f"protocol: {key}" for key in sorted({*theirs, *about["protocol"]}) if _differ(theirs, about, key)]
        for name, here in about["metrics"].items():
            there = stored["metrics"].get(name)
            wrong += [f"metric {name}: its {part}" for part in here if there is None or there[part] != here[part]]
        for name, here in about["blocks"].items():
            there = blocks.get(name)
            wrong += [f"{name}: its {part}" for part in here if there is None or there[part] != here[part]]
        if wrong:
            raise UserError(
                f"{file} cannot be joined: not the same as here is {'; '.join(wrong[:4])}"
                f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}. Compare under the same protocol, metrics, "
                "data and backbones, or leave `join` out"
            )
        lacking = sorted(stars.keys() - stored["r_star"].keys())
        if lacking:
            raise UserError(f"{file} cannot be joined: it has no cell {lacking[0]}")
        off = max(abs(stored["r_star"][cell] - star) for cell, star in stars.items())
        tuned, untuned = (_table(stored[kind], stars) for kind in ("tuned", "untuned"))
        rows = Rows(tuned, untuned, Names({"methods": stored["methods"]}))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no leaderboard of this project ({error!r})") from None
    return rows, f"R* of the stored run and of this one differ by at most {off:.4f}."


def cell_names(rows: pd.DataFrame) -> list[str]:
    """dataset/backbone/k of each row."""
    return ["/".join(map(str, key)) for key in rows[CELL].itertuples(index=False)]


def _table(columns: dict[str, list[Any]], stars: dict[str, float]) -> pd.DataFrame:
    """Stored rows of the cells that `stars` has."""
    table = pd.DataFrame(columns)
    table = table.astype({c: float for c in table if c not in _ROW})
    return table[pd.Series([name in stars for name in cell_names(table)], table.index, dtype=bool)]


def _differ(theirs: dict[str, Any], about: dict[str, Any], key: str) -> bool:
    ours = about["protocol"]
    return (key in theirs) != (key in ours) or theirs.get(key) != ours.get(key)
