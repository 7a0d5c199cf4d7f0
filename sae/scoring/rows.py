"""What a row of scores is called, and tables of rows as parquet files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sae.core import files
from sae.core.errors import UserError
from sae.scoring import old_names

if TYPE_CHECKING:
    import pandas as pd

CELL = ["dataset", "backbone", "k"]
KEY = [*CELL, "method", "trial", "seed", "split"]
# What describes every SAE, beside its swept options. `swept` names the options that its
# trial sets, separated by spaces. Their columns do not tell: they hold the recipe's
# value where a trial leaves an option out.
ABOUT = ["protocol", "swept", "objective", "penalty", "mask"]
# What no metric may call a score, beside what describes an SAE: columns that joining
# and reports add. By table, as `sae.scoring.rowstore.MetricScores` names them.
RESERVED: dict[str, tuple[str, ...]] = {
    "scalars": ("selected", "selection", "probe_top1_raw", "source", "fallback"),
    "curves": (),
    "latents": (*KEY, "latent", "selected"),
}


def read_metrics(file: Path) -> pd.DataFrame:
    """Read the tidy metrics of an experiment, metrics.parquet or metrics.csv.

    Raises:
        UserError: the file is missing or was altered, or it has scores under names of
            before (`sae.scoring.old_names`).
    """
    if file.suffix == ".csv":
        import pandas as pd  # Takes half a second.

        metrics = pd.read_csv(file)
    else:
        metrics = files.read_parquet(file)

    # A metric of one's own may give scores of these names. Without a record of which
    # metric gave which column, none has.
    metric_by_column = {}
    record = file.with_name("made_by.json")
    if record.exists():
        metric_by_column = files.read_json(record).get("columns", {})
    own_names = [
        name
        for name, metric in metric_by_column.items()
        if metric not in old_names.METRICS
    ]
    old_names.refuse(set(metrics) - set(own_names), file, file.parent.name)
    return metrics


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names in `rows`, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def swept_options(metrics: pd.DataFrame) -> list[str]:
    """Return the columns of tidy metrics that hold swept options, such as `lambda`.

    They stand between what describes every SAE and its status.
    """
    names = list(metrics)
    return names[names.index(ABOUT[-1]) + 1 : names.index("status")]


def table(rows: list[dict[str, Any]], first: Iterable[str] = KEY) -> pa.Table:
    """Make a table of rows.

    Args:
        rows: {column: value}. What a row lacks is null, apart from NaN, a score that is
            not defined. Integers stay integers beside nulls, unlike in pandas.
        first: the columns that come first, even if no row has them. The others follow
            in the order in which they first come.
    """
    names = list(dict.fromkeys([*first, *columns(rows)]))
    arrays = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            arrays[name] = pa.array(values, from_pandas=False)
        except pa.ArrowException as error:
            raise UserError(
                f"column {name!r} holds values of different kinds, such as a number "
                f"for one SAE or split and a text for another: {error}"
            ) from None
    return pa.table(arrays)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Return all rows of several tables; a column that a table lacks is null there."""
    return pa.concat_tables(list(tables), promote_options="permissive").combine_chunks()


def claim(
    owners: dict[str, str],
    metric: str,
    names: Iterable[str],
    reserved: Collection[str] = (),
) -> None:
    """Note which columns or curves a metric gives.

    Args:
        owners: {column or curve: the metric that gives it}; gets the new ones.
        metric: the metric.
        names: what it gives.
        reserved: names that no metric may give.

    Raises:
        UserError: another metric gives one of them, or its name is a reserved one.
    """
    for name in names:
        if name in reserved:
            raise UserError(
                f"metric {metric} gives {name!r}, a name that is reserved for another "
                "column; rename it"
            )
        owner = owners.setdefault(name, metric)
        if owner != metric:
            raise UserError(
                f"the metrics {owner} and {metric} both give {name!r}; rename it in "
                "one of them"
            )


def owners_of(table: pa.Table) -> dict[str, str]:
    """Return {column or curve: the metric that gave it}, as far as a table says it."""
    metadata = table.schema.metadata or {}
    return json.loads(metadata.get(b"metrics", "{}"))
