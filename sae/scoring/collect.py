"""Join what all banks of an experiment gave into its tidy tables."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sae.core import files
from sae.scoring import rows
from sae.scoring.rows import ABOUT, KEY
from sae.scoring.selection import mark


def collect(
    folders: Sequence[Path],
    stages: Sequence[str],
    references: Iterable[Path],
    out: Path,
    *,
    activations: Sequence[Path] = (),
    settings: dict[str, Any] | None = None,
) -> None:
    """Write an experiment's tables into `out`.

    These are metrics.parquet and .csv, curves.parquet, latents.parquet,
    selection.parquet and made_by.json. Rows are in the order of the banks; within a
    bank as trained, the `at` methods last. The CSV holds the numbers of metrics.parquet
    with all their digits. A latent has one row, whatever the stages that scored it;
    `selected` is that of its SAE.

    Args:
        folders: one a bank, with selection.parquet and a folder for each stage
            (`sae.scoring.stage`).
        stages: those to join; what an earlier run left of others is passed over.
        references: what `sae.scoring.metrics.probe.probe_embeddings` wrote, one a
            (dataset, backbone).
        out: the folder to write into.
        activations: manifests of embeddings, one a (dataset, backbone).
        settings: for made_by.json, what gives the rows their meaning
            (`sae.comparison.leaderboard.MadeBy`).

    Raises:
        UserError: a file is missing or damaged, or two metrics gave a score of one
            name.
    """
    selection = rows.joined(
        files.read_table(folder / "selection.parquet") for folder in folders
    )
    metric_rows, swept, owners = _join_metrics(folders, stages)

    metrics = mark(pd.DataFrame(metric_rows), selection.to_pandas())
    metrics = _in_order(metrics, swept)
    top1_by_pair = _read_references(references)
    if "probe_top1" in metrics:
        pairs = zip(metrics["dataset"], metrics["backbone"], strict=True)
        top1 = [top1_by_pair[pair] for pair in pairs]
        reference = pd.Series(top1, metrics.index, dtype=float)
        is_probed = metrics["probe_top1"].notna()
        metrics["probe_top1_raw"] = reference.where(is_probed)

    table = pa.Table.from_pandas(metrics, preserve_index=False)
    files.write_parquet(out / "metrics.parquet", table.replace_schema_metadata())
    with files.atomic_file(out / "metrics.csv") as temporary:
        metrics.to_csv(temporary, index=False)
    files.write_sums(out / "metrics.sums.json", [out / "metrics.csv"])

    made_by = dict(settings or {})
    made_by["columns"] = owners
    # The key is older than the word: a cell has a k besides.
    made_by["cells"] = dict(_describe_pair(manifest) for manifest in activations)
    files.write_json(out / "made_by.json", made_by)

    files.write_parquet(out / "selection.parquet", selection)
    for name in ("curves", "latents"):
        tables_of_banks = []
        for tables_of_stages in _read_tables(folders, stages, name):
            table = rows.joined(tables_of_stages)
            if "latent" in table.column_names:
                table = _join_latents(table)
            tables_of_banks.append(_with_selected(table, metrics))
        table = rows.joined(tables_of_banks).replace_schema_metadata()
        files.write_parquet(out / f"{name}.parquet", table)


def _join_metrics(
    folders: Sequence[Path], stages: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str], dict[str, str]]:
    """Return rows, the names of swept options, and {column: its metric}."""
    row_by_key: dict[tuple[Any, ...], dict[str, Any]] = {}
    descriptive: list[str] = []
    owners: dict[str, str] = {}
    for tables_of_stages in _read_tables(folders, stages, "metrics"):
        for table in tables_of_stages:
            if not len(table):
                continue
            names = table.column_names
            for name in names[: names.index("status") + 1]:
                if name not in descriptive:
                    descriptive.append(name)
            owners.update(rows.owners_of(table))

            for row in table.to_pylist():
                key = tuple(row[name] for name in KEY)
                if key not in row_by_key:
                    row_by_key[key] = dict.fromkeys(names[: len(KEY) + len(ABOUT)])
                # Null: another stage may give it. NaN: a score that is not defined.
                scores = {n: value for n, value in row.items() if value is not None}
                row_by_key[key].update(scores)

    swept = [name for name in descriptive if name not in [*KEY, *ABOUT, "status"]]
    return list(row_by_key.values()), swept, owners


def _in_order(metrics: pd.DataFrame, swept: list[str]) -> pd.DataFrame:
    # The column is there always, as floats.
    if "lambda" in metrics:
        metrics["lambda"] = metrics["lambda"].astype(float)
    else:
        metrics["lambda"] = float("nan")
    first = [*KEY, *ABOUT, *swept, "status", "selected", "selection"]
    scores = [name for name in metrics.columns if name not in first]
    return metrics.reindex(columns=[*first, *scores])


def _read_references(
    references: Iterable[Path],
) -> dict[tuple[str, str], float | None]:
    """Return {(dataset, backbone): the top-1 of a probe on the embeddings}."""
    top1_by_pair = {}
    for file in references:
        reference = files.read_json(file, "probe")
        pair = (reference["dataset"], reference["backbone"])
        top1_by_pair[pair] = reference["top1"]
    return top1_by_pair


def _describe_pair(manifest_file: Path) -> tuple[str, dict[str, Any]]:
    """Return "dataset / backbone", and the fingerprints of both."""
    manifest = files.read_json(manifest_file, "manifest of activations")
    kinds = ("dataset", "backbone")
    name = " / ".join(manifest[kind]["name"] for kind in kinds)
    return name, {kind: manifest[kind]["fingerprint"] for kind in kinds}


def _read_tables(
    folders: Sequence[Path], stages: Sequence[str], name: str
) -> Iterator[list[pa.Table]]:
    """Yield, bank after bank, a table of each stage."""
    owners: dict[str, str] = {}
    for folder in folders:
        tables = [
            files.read_table(folder / stage / f"{name}.parquet") for stage in stages
        ]
        for table in tables:
            for column, metric in rows.owners_of(table).items():
                rows.claim(owners, metric, [column])
        yield tables


def _join_latents(table: pa.Table) -> pa.Table:
    """Join the rows that several stages give of each latent of an SAE and split."""
    key = table.select([*KEY, "latent"]).to_pandas()
    # (rows of table,) the row of the joined table that each goes into.
    target = key.groupby(list(key), sort=False).ngroup().to_numpy(np.int64)
    target_count = target.max(initial=-1) + 1

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        # A stage leaves the columns of another one null.
        has_value = column.is_valid().to_numpy()
        # (joined rows,) the row of `table` that holds the value; -1 where none does.
        source = np.full(target_count, -1)
        source[target[has_value]] = np.flatnonzero(has_value)
        columns[name] = column.take(pa.array(source, mask=source < 0))
    return pa.table(columns)


def _with_selected(table: pa.Table, metrics: pd.DataFrame) -> pa.Table:
    selected_by_key = pd.Series(
        metrics["selected"].to_numpy(), pd.MultiIndex.from_frame(metrics[KEY])
    )
    keys = pd.MultiIndex.from_frame(table.select(KEY).to_pandas())
    selected = selected_by_key.reindex(keys).to_numpy()
    return table.append_column("selected", pa.array(selected, pa.bool_()))
