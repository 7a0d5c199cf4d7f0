"""Join what all banks of an experiment gave into its tidy tables."""

import itertools
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
    """Write `out`/metrics.parquet and .csv, curves.parquet, latents.parquet, selection.parquet and made_by.json.

    Rows are in the order of the banks; within a bank as trained, the `at` methods last. The CSV holds the same numbers
    with all their digits. A latent has one row, whatever the stages that scored it; `selected` is that of its SAE.

    Args:
        folders: one a bank, with selection.parquet and a folder for each stage (`sae.scoring.stage`).
        stages: those to join; what an earlier run left of others is passed over.
        references: what `sae.scoring.metrics.probe.probe_embeddings` wrote, one a (dataset, backbone).
        out: the folder to write into.
        activations: manifests of embeddings, one a (dataset, backbone).
        settings: for made_by.json, what gives the rows their meaning (`sae.comparison.board.MadeBy`).

    Raises:
        UserError: a file is missing or damaged, or two metrics gave a score of one name.
    """
    selection = rows.joined(
        files.read_table(folder / "selection.parquet") for folder in folders
    )
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    about, owners = list[str](), dict[str, str]()
    for table in filter(len, itertools.chain(*_read(folders, stages, "metrics"))):
        names = table.column_names
        about += [
            name for name in names[: names.index("status") + 1] if name not in about
        ]
        owners |= rows.owners_of(table)
        for row in table.to_pylist():
            # Null: another stage may give it. NaN: a score that is not defined.
            given = {name: value for name, value in row.items() if value is not None}
            new = dict.fromkeys(names[: len(KEY) + len(ABOUT)])
            found.setdefault(tuple(row[name] for name in KEY), new).update(given)
    swept = [name for name in about if name not in [*KEY, *ABOUT, "status"]]
    metrics = mark(pd.DataFrame(list(found.values())), selection.to_pandas())
    metrics["lambda"] = (
        metrics["lambda"].astype(float) if "lambda" in metrics else float("nan")
    )
    first = [*KEY, *ABOUT, *swept, "status", "selected", "selection"]
    metrics = metrics.reindex(
        columns=[*first, *(c for c in metrics.columns if c not in first)]
    )
    raw = {
        (r["dataset"], r["backbone"]): r["top1"]
        for r in (files.read_json(f, "probe") for f in references)
    }
    if "probe_top1" in metrics:
        cells = zip(metrics["dataset"], metrics["backbone"], strict=True)
        of_embeddings = pd.Series(
            [raw[cell] for cell in cells], metrics.index, dtype=float
        )
        metrics["probe_top1_raw"] = of_embeddings.where(metrics["probe_top1"].notna())
    table = pa.Table.from_pandas(
        metrics, preserve_index=False
    ).replace_schema_metadata()
    files.write_parquet(out / "metrics.parquet", table)
    with files.atomic_file(out / "metrics.csv") as temporary:
        metrics.to_csv(temporary, index=False)
    files.write_sums(out / "metrics.sums.json", [out / "metrics.csv"])
    made_by = {"columns": owners, "cells": dict(map(_cell, activations))}
    files.write_json(out / "made_by.json", (settings or {}) | made_by)
    files.write_parquet(out / "selection.parquet", selection)
    for name in ("curves", "latents"):
        banks = [
            _marked(_by_latent(rows.joined(tables)), metrics)
            for tables in _read(folders, stages, name)
        ]
        files.write_parquet(
            out / f"{name}.parquet", rows.joined(banks).replace_schema_metadata()
        )


def _cell(manifest: Path) -> tuple[str, dict[str, Any]]:
    """A (dataset, backbone) in words, and what its embeddings are of."""
    about = files.read_json(manifest, "manifest of activations")
    made_of = {kind: about[kind]["fingerprint"] for kind in ("dataset", "backbone")}
    return " / ".join(about[kind]["name"] for kind in made_of), made_of


def _read(
    folders: Sequence[Path], stages: Sequence[str], name: str
) -> Iterator[list[pa.Table]]:
    """A table of each stage, one bank after the other."""
    owners: dict[str, str] = {}
    for folder in folders:
        tables = [
            files.read_table(folder / stage / f"{name}.parquet") for stage in stages
        ]
        for given, metric in itertools.chain(
            *(rows.owners_of(table).items() for table in tables)
        ):
            rows.claim(owners, metric, [given])
        yield tables


def _by_latent(table: pa.Table) -> pa.Table:
    """One row per SAE, split and latent: beside each other what several stages gave of it; other tables as they are."""
    if "latent" not in table.column_names:
        return table
    by = table.select([*KEY, "latent"]).to_pandas()
    row = by.groupby(list(by), sort=False).ngroup().to_numpy(np.int64)
    joined = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        there = column.is_valid().to_numpy()
        source = np.full(row.max(initial=-1) + 1, -1)
        source[row[there]] = np.flatnonzero(there)
        joined[name] = column.take(pa.array(source, mask=source < 0))
    return pa.table(joined)


def _marked(table: pa.Table, metrics: pd.DataFrame) -> pa.Table:
    """With the column `selected`, that `metrics` has of the same SAE."""
    selected = pd.Series(
        metrics["selected"].to_numpy(), pd.MultiIndex.from_frame(metrics[KEY])
    )
    of_row = selected.reindex(pd.MultiIndex.from_frame(table.select(KEY).to_pandas()))
    return table.append_column("selected", pa.array(of_row.to_numpy(), pa.bool_()))
