"""What a row of scores is called, and tables of rows as parquet files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sae.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

CELL = ["dataset", "backbone", "k"]
KEY = [*CELL, "method", "trial", "seed", "split"]
ABOUT = [
    "protocol",
    "objective",
    "penalty",
    "mask",
]  # What describes every SAE, beside its swept options.
# What no metric may call a score, beside what describes an SAE: columns that joining and reports add.
RESERVED: dict[str, tuple[str, ...]] = {
    "scalars": ("selected", "selection", "probe_top1_raw", "source", "fallback"),
    "curves": (),
    "latents": (*KEY, "latent", "selected"),
}


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names in `rows`, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def swept_options(metrics: pd.DataFrame) -> list[str]:
    """Return the columns of tidy metrics that hold swept options, such as `lambda`.

    They stand between what describes every SAE and its status.
    """
    names = list(metrics)
    return names[names.index(ABOUT[-1]) + 1 : names.index("status")]


def table(rows: list[dict[str, Any]], first: Iterable[str] = KEY) -> pa.Table:
    """Rows as a table with the columns `first` and then all others; what a row lacks is null, and integers stay so."""
    names = list(dict.fromkeys([*first, *columns(rows)]))
    return pa.table(
        {
            name: pa.array([row.get(name) for row in rows], from_pandas=False)
            for name in names
        }
    )


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """All rows of several tables; a column that one lacks is null there."""
    return pa.concat_tables(list(tables), promote_options="permissive").combine_chunks()


def claim(
    owners: dict[str, str],
    metric: str,
    names: Iterable[str],
    reserved: Collection[str] = (),
) -> None:
    """Note in `owners`, {name: metric}, that a metric gives these columns or curves.

    Raises:
        UserError: another metric gives one of them, or its name is a reserved one.
    """
    for name in names:
        if name in reserved:
            raise UserError(
                f"metric {metric} gives {name!r}, a name that is reserved for another column; rename it"
            )
        if owners.setdefault(name, metric) != metric:
            raise UserError(
                f"the metrics {owners[name]} and {metric} both give {name!r}; rename it in one of them"
            )


def owners_of(what: pa.Table) -> dict[str, str]:
    """{column or curve: the metric that gave it}, as far as the table says it."""
    return json.loads((what.schema.metadata or {}).get(b"metrics", "{}"))
