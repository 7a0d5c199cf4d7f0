"""The paper's four tables, from the tidy metrics: rows, differences from the baseline, and what was published."""

import itertools
from collections.abc import Iterable
from math import nan
from typing import NamedTuple

import pandas as pd

from sae.comparison import published
from sae.comparison.methods import Methods
from sae.comparison.scores import RUN, SCORES, Score, diverged, values
from sae.scoring.selection import chosen

DEAD_LIMIT = 0.05
CELL = ["encoder", "data", "k"]
EFFECTS = [
    "column",
    "method",
    "against",
    "mean",
    "low",
    "high",
    "up",
    "cells",
    "published",
]
_OF_ABLATION = "_no_mask"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        score: of `SCORES`.
        of: whose: the row's own; in a table of pairs also the ablation's ('_no_mask'), or what it adds ('_added').
    """

    score: str
    of: str = ""

    @property
    def about(self) -> Score:
        """Its score."""
        return SCORES[self.score]

    @property
    def heading(self) -> str:
        """What stands above it."""
        return self.about.heading + self.of

    def values(self, runs: pd.DataFrame) -> pd.Series:
        """Its values by run."""
        if not self.of:
            return self.about.of(runs)
        of_ablation = values(runs, self.about.column + _OF_ABLATION)
        return (
            of_ablation
            if self.of == _OF_ABLATION
            else of_ablation - self.about.of(runs)
        )


class Table(NamedTuple):
    """One of the paper's tables: its columns; those that are no difference between methods here; whether of pairs.

    A row of a table of pairs is a method and its ablation.
    """

    columns: tuple[Column, ...]
    beside: tuple[str, ...] = ()
    of_pairs: bool = False

    @property
    def compared(self) -> list[Column]:
        """The columns in which methods are compared."""
        added = [c for c in self.columns if c.of == "_added"]
        return added or [
            c for c in self.columns if c.about.better and c.score not in self.beside
        ]


def _columns(names: str) -> tuple[Column, ...]:
    return tuple(map(Column, names.split()))


_MS = (
    "ms_all ms_median ms ms_median_alive ms_across ms_independent ms_independent_across"
)
_PURITY = "purity_raw purity_weighted purity purity_weighted_null purity_min10 purity_coarse purity_coarse_null"
_PROBE = "probe_auc probe_auc_above_1 probe_top1 probe_top1_raw probe_edges probe_unconverged"
_ABLATED = [
    ("dead", ""),
    ("dead", _OF_ABLATION),
    ("dead", "_added"),
    ("dead_train", "_added"),
    ("ms", ""),
]
_ABLATED += [(name, "_added") for name in ("ms", "ms_across", "ms_all", "r2")]
TABLES = {
    1: Table(_columns(f"r2 {_MS} dead dead_train floor n_k_over_m")),
    2: Table(_columns(f"r2 {_PURITY}"), beside=("r2",)),
    3: Table(_columns(f"r2 {_PROBE}"), beside=("r2",)),
    4: Table(tuple(Column(name, of) for name, of in _ABLATED), of_pairs=True),
}


def measured(number: int, metrics: pd.DataFrame, names: Methods) -> pd.DataFrame:
    """The rows of table `number` on the test split, means over seeds.

    Returns:
        A row per backbone (`encoder`), dataset (`data`), k and method; in a table of pairs a row per such method and
        `ablation`. Then the table's columns, `lambda`, `trial`, `mark`, `seeds`. Names are ids.
    """
    spec, by = TABLES[number], ["backbone", "dataset", "k"]
    lost, out = diverged(metrics, [*by, "method"]), []
    for place, cell in chosen(metrics, "test", names.compared).groupby(by, sort=False):
        for key, runs in _rows(spec, cell, metrics, names):
            row = dict(zip(CELL, place, strict=True)) | key
            row |= {
                column.heading: column.values(runs).mean() for column in spec.columns
            }
            row["lambda"] = " ".join(
                format(v, "g") for v in sorted(values(runs, "lambda").dropna().unique())
            )
            row["trial"] = " ".join(sorted(runs["trial"].unique()))
            row["mark"] = _marks(runs, lost.get((*place, key["method"])), names)
            out.append(row | {"seeds": len(runs)})
    keys = [*CELL, "method", *(["ablation"] if spec.of_pairs else [])]
    return pd.DataFrame(
        out,
        columns=[
            *keys,
            *(c.heading for c in spec.columns),
            "lambda",
            "trial",
            "mark",
            "seeds",
        ],
    )


def _rows(
    spec: Table, cell: pd.DataFrame, metrics: pd.DataFrame, names: Methods
) -> Iterable[tuple[dict[str, str], pd.DataFrame]]:
    """What identifies a row within a cell, and its runs."""
    if not spec.of_pairs:
        for method in names.order(cell["method"]):
            yield {"method": method}, cell[cell["method"] == method]
        return
    for base, method in names.pairs:
        rows = metrics[(metrics["method"] == method) & (metrics["split"] == "test")]
        # Where the base fell back on another method there is nothing to ablate.
        own = cell[(cell["method"] == base) & ~cell["fallback"]]
        runs = own.merge(rows, on=RUN, suffixes=("", _OF_ABLATION))
        if len(runs):
            yield {"method": base, "ablation": method}, runs


def _marks(runs: pd.DataFrame, lost: str | None, names: Methods) -> str:
    """What is said of a row: of its runs, and of how many of the SAEs among which was chosen diverged."""
    counts = {
        ">": (runs["selection"] == "edge").sum(),
        "=": (runs["selection"] == "fallback").sum(),
    }
    marks = [
        mark if n == len(runs) else f"{mark}{n}/{len(runs)}"
        for mark, n in counts.items()
        if n
    ]
    badly = (values(runs, "dead_train") >= DEAD_LIMIT * runs["m"]).any()
    marks += ["!"] if badly and runs["method"].iloc[0] in names.baselines else []
    marks += [f"x{lost.replace(' of ', '/')}"] if lost else []
    return " ".join(marks)


def beside_published(
    number: int, table: pd.DataFrame, tables: pd.DataFrame
) -> pd.DataFrame:
    """`table` with `{column}_published` and `{column}_difference` where the paper has that very cell.

    Args:
        table: what :func:`measured` returned.
        tables: what `sae.comparison.published.read` returned.
    """
    out, theirs = table.copy(), tables.set_index(published.KEY)
    for column in TABLES[number].columns:
        metric = column.about.column
        if (
            column.about.minus is not None
            or column.of == "_added"
            or metric not in theirs
        ):
            continue
        known, method = (
            theirs[metric].to_dict(),
            out["ablation" if column.of else "method"],
        )
        found = pd.Series(
            [
                known.get(key, nan)
                for key in zip(*(out[c] for c in CELL), method, strict=True)
            ],
            out.index,
        )
        if found.notna().any():
            out[f"{column.heading}_published"] = found
            out[f"{column.heading}_difference"] = out[column.heading] - found
    return out


def effects(
    number: int, table: pd.DataFrame, tables: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Each method's effect over the cells of :func:`measured`: its difference from the method that it is `against`.

    In a table of pairs, what the ablation adds to its base.

    Returns:
        Columns `EFFECTS`: `column` is a heading, `mean`, `low` and `high` are over cells, `up` says in how many of
        `cells` it is above 0, `published` what the paper has, in words. Empty where no method is compared.
    """
    spec, rows = TABLES[number], []
    for (method, other), column in itertools.product(
        _compared(spec, table, names), spec.compared
    ):
        if spec.of_pairs:
            differences = table[
                (table["method"] == other) & (table["ablation"] == method)
            ][column.heading]
        else:
            of = (
                table[table["method"] == name].set_index(CELL)[column.heading]
                for name in (method, other)
            )
            differences = next(of) - next(of)
        differences = differences.dropna()
        row = {
            "column": column.heading,
            "method": method,
            "against": other,
            "cells": len(differences),
        }
        row |= {
            name: getattr(differences, of)()
            for name, of in (("mean", "mean"), ("low", "min"), ("high", "max"))
        }
        raw = column.about.minus is None
        of_paper = (
            published.effect(tables, method, column.about.column, other) if raw else "-"
        )
        rows.append(row | {"up": int((differences > 0).sum()), "published": of_paper})
    return pd.DataFrame(rows, columns=EFFECTS)


def _compared(
    spec: Table, table: pd.DataFrame, names: Methods
) -> list[tuple[str, str]]:
    """(method, the method whose numbers are subtracted)."""
    there = set(table["ablation" if spec.of_pairs else "method"])
    pairs = (
        [(method, base) for base, method in names.pairs]
        if spec.of_pairs
        else list(names.compared.items())
    )
    return [
        (m, other)
        for m, other in pairs
        if m in there and other is not None and (spec.of_pairs or other in there)
    ]
