"""The paper's four tables, from tidy metrics.

:func:`measured` gives the rows of a table, :func:`effects` the differences between
methods over them, and :func:`beside_published` puts the paper's own numbers beside.
"""

from collections.abc import Iterator
from math import nan
from typing import Any, NamedTuple

import pandas as pd

from sae.comparison import published
from sae.comparison.methods import Methods
from sae.comparison.scores import RUN, SCORES, Score, diverged, values
from sae.scoring.selection import chosen_rows

# From this share of dead latents on a baseline is marked as badly trained.
DEAD_LIMIT = 0.05
CELL = ["encoder", "data", "k"]  # what identifies a cell in the paper's tables
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
# Whose score a column has in a table of pairs, if not the method's: that of its
# ablation, or what the ablation adds to the method's. Headings end in it.
OF_ABLATION = "_no_mask"
ADDED = "_added"


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        score: Its score, by the name in `SCORES`.
        suffix: Whose score it is: "" for the row's method, `OF_ABLATION` or `ADDED`.
    """

    score: str
    suffix: str = ""

    @property
    def about(self) -> Score:
        """The score, with its label and direction."""
        return SCORES[self.score]

    @property
    def heading(self) -> str:
        """The text above the column."""
        return self.about.heading + self.suffix

    def values(self, runs: pd.DataFrame) -> pd.Series:
        """Return the column's value for each run.

        Args:
            runs: Metrics of one method, a row for each run; those of its ablation in
                columns that end in `OF_ABLATION`.
        """
        if not self.suffix:
            return self.about.of(runs)
        of_ablation = values(runs, self.about.column + OF_ABLATION)
        if self.suffix == OF_ABLATION:
            return of_ablation
        return of_ablation - self.about.of(runs)


class Table(NamedTuple):
    """One of the paper's tables.

    Attributes:
        columns: Its columns.
        not_compared: The scores in which it compares no methods, although more or less
            of them is better.
        of_pairs: Whether a row is a pair, a method and its ablation.
    """

    columns: tuple[Column, ...]
    not_compared: tuple[str, ...] = ()
    of_pairs: bool = False

    @property
    def compared(self) -> list[Column]:
        """The columns in which methods are compared."""
        added = [column for column in self.columns if column.suffix == ADDED]
        if added:
            return added
        return [
            column
            for column in self.columns
            if column.about.better and column.score not in self.not_compared
        ]


def _columns(*scores: str) -> tuple[Column, ...]:
    return tuple(Column(score) for score in scores)


TABLES = {
    1: Table(
        _columns(
            "r2",
            "ms_all",
            "ms_median",
            "ms",
            "ms_median_alive",
            "ms_across",
            "ms_independent",
            "ms_independent_across",
            "dead",
            "dead_train",
            "floor",
            "n_k_over_m",
        )
    ),
    2: Table(
        _columns(
            "r2",
            "purity_raw",
            "purity_weighted",
            "purity",
            "purity_min10",
        ),
        not_compared=("r2",),
    ),
    3: Table(
        _columns(
            "r2",
            "probe_auc",
            "probe_auc_above_1",
            "probe_top1",
            "probe_top1_raw",
            "probe_edges",
            "probe_unconverged",
        ),
        not_compared=("r2",),
    ),
    4: Table(
        (
            Column("dead"),
            Column("dead", OF_ABLATION),
            Column("dead", ADDED),
            Column("dead_train", ADDED),
            Column("ms"),
            Column("ms", ADDED),
            Column("ms_across", ADDED),
            Column("ms_all", ADDED),
            Column("r2", ADDED),
        ),
        of_pairs=True,
    ),
}


def measured(number: int, metrics: pd.DataFrame, names: Methods) -> pd.DataFrame:
    """Return the rows of a table on the test split, means over seeds.

    Args:
        number: Of the table, from 1 to 4.
        metrics: Tidy metrics under protocol `paper`.
        names: The experiment's methods.

    Returns:
        A row for each backbone (`encoder`), dataset (`data`), k and method; in a table
        of pairs a row for each such method and its `ablation`. Then the table's
        columns, `lambda`, `trial`, `mark`, `seeds`. Names are ids.
    """
    spec = TABLES[number]
    cell_columns = ["backbone", "dataset", "k"]  # in the order of `CELL`
    diverged_saes = diverged(metrics, [*cell_columns, "method"])
    picked = chosen_rows(metrics, "test", names.compared)

    rows = []
    for cell, picked_in_cell in picked.groupby(cell_columns, sort=False):
        lines = _lines_of_cell(spec, picked_in_cell, metrics, names)
        for method, ablation, runs in lines:
            row: dict[str, Any] = dict(zip(CELL, cell, strict=True))
            row["method"] = method
            if ablation is not None:
                row["ablation"] = ablation
            for column in spec.columns:
                row[column.heading] = column.values(runs).mean()
            lambdas = sorted(values(runs, "lambda").dropna().unique())
            row["lambda"] = " ".join(format(value, "g") for value in lambdas)
            row["trial"] = " ".join(sorted(runs["trial"].unique()))
            diverged_here = diverged_saes.get((*cell, method))
            row["mark"] = _marks(runs, diverged_here, names)
            row["seeds"] = len(runs)
            rows.append(row)

    keys = [*CELL, "method"]
    if spec.of_pairs:
        keys.append("ablation")
    headings = [column.heading for column in spec.columns]
    return pd.DataFrame(
        rows, columns=[*keys, *headings, "lambda", "trial", "mark", "seeds"]
    )


def _lines_of_cell(
    spec: Table, picked: pd.DataFrame, metrics: pd.DataFrame, names: Methods
) -> Iterator[tuple[str, str | None, pd.DataFrame]]:
    """Yield each line's method, its ablation in a table of pairs, and its runs."""
    if not spec.of_pairs:
        for method in names.order(picked["method"]):
            yield method, None, picked[picked["method"] == method]
        return

    for base, ablation in names.pairs:
        is_ablation = metrics["method"] == ablation
        of_ablation = metrics[is_ablation & (metrics["split"] == "test")]
        # Where the base fell back on another method there is nothing to ablate.
        of_base = picked[(picked["method"] == base) & ~picked["fallback"]]
        runs = of_base.merge(of_ablation, on=RUN, suffixes=("", OF_ABLATION))
        if len(runs):
            yield base, ablation, runs


def _marks(runs: pd.DataFrame, diverged_saes: str | None, names: Methods) -> str:
    """Return what a reader must know of the runs of one method in one cell."""
    marks = []
    # Validation chose the edge of the sweep, or the method fell back on another one:
    # each with the number of seeds, if not of all.
    for mark, selection in ((">", "edge"), ("=", "fallback")):
        count = (runs["selection"] == selection).sum()
        if count == len(runs):
            marks.append(mark)
        elif count:
            marks.append(f"{mark}{count}/{len(runs)}")

    # A baseline that is badly trained.
    is_baseline = runs["method"].iloc[0] in names.baselines
    many_are_dead = values(runs, "dead_train") >= DEAD_LIMIT * runs["m"]
    if is_baseline and many_are_dead.any():
        marks.append("!")
    if diverged_saes is not None:
        marks.append(f"x{diverged_saes.replace(' of ', '/')}")
    return " ".join(marks)


def beside_published(
    number: int, table: pd.DataFrame, tables: pd.DataFrame
) -> pd.DataFrame:
    """Put the paper's numbers beside those of a table, where it has that very cell.

    Args:
        number: Of the table.
        table: What :func:`measured` returned.
        tables: What `sae.comparison.published.read` returned.

    Returns:
        The table with `{column}_published` and `{column}_difference`.
    """
    beside = table.copy()
    paper = tables.set_index(published.KEY)
    for column in TABLES[number].columns:
        metric = column.about.column
        is_reported = (
            column.about.minus is None and column.suffix != ADDED and metric in paper
        )
        if not is_reported:
            continue
        of_paper = paper[metric].to_dict()
        methods = beside["ablation" if column.suffix == OF_ABLATION else "method"]
        keys = zip(*(beside[name] for name in CELL), methods, strict=True)
        reported = pd.Series([of_paper.get(key, nan) for key in keys], beside.index)
        if reported.notna().any():
            heading = column.heading
            beside[f"{heading}_published"] = reported
            beside[f"{heading}_difference"] = beside[heading] - reported
    return beside


def effects(
    number: int, table: pd.DataFrame, tables: pd.DataFrame, names: Methods
) -> pd.DataFrame:
    """Return each method's effect over the cells of a table.

    An effect is the difference from the method that it is `against`; in a table of
    pairs, what the ablation adds to its base.

    Args:
        number: Of the table.
        table: What :func:`measured` returned.
        tables: What `sae.comparison.published.read` returned.
        names: The experiment's methods.

    Returns:
        Columns `EFFECTS`: `column` is a heading; `mean`, `low` and `high` are over
        cells; `up` says in how many of `cells` the effect is above 0; `published` is
        what the paper has, as text. Empty where no method is compared.
    """
    spec = TABLES[number]
    rows = []
    for method, against in _comparisons(spec, table, names):
        for column in spec.compared:
            differences = _cell_differences(
                spec, table, method, against, column.heading
            )
            published_effect = "-"
            if column.about.minus is None:
                published_effect = published.effect(
                    tables, method, column.about.column, against
                )
            rows.append(
                {
                    "column": column.heading,
                    "method": method,
                    "against": against,
                    "mean": differences.mean(),
                    "low": differences.min(),
                    "high": differences.max(),
                    "up": int((differences > 0).sum()),
                    "cells": len(differences),
                    "published": published_effect,
                }
            )
    return pd.DataFrame(rows, columns=EFFECTS)


def _comparisons(
    spec: Table, table: pd.DataFrame, names: Methods
) -> list[tuple[str, str]]:
    """Return (method, against) of what a table compares, if it has rows of both."""
    if spec.of_pairs:
        ablations = set(table["ablation"])
        return [
            (ablation, base) for base, ablation in names.pairs if ablation in ablations
        ]
    methods = set(table["method"])
    return [
        (method, against)
        for method, against in names.compared.items()
        if against is not None and method in methods and against in methods
    ]


def _cell_differences(
    spec: Table, table: pd.DataFrame, method: str, against: str, heading: str
) -> pd.Series:
    """Return what a method has more than what it is compared with, for each cell."""
    if spec.of_pairs:
        # The column itself holds what the ablation adds to its base.
        is_base = table["method"] == against
        is_ablation = table["ablation"] == method
        return table[is_base & is_ablation][heading].dropna()
    by_cell = table.set_index(CELL)
    of_method = by_cell[by_cell["method"] == method][heading]
    of_against = by_cell[by_cell["method"] == against][heading]
    return (of_method - of_against).dropna()
