"""Join what all banks of an experiment gave into its tidy tables."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from sae.core import files
from sae.core.paths import STAGES
from sae.scoring import rows
from sae.scoring.rows import KEY
from sae.scoring.selection import mark


def collect(folders: Iterable[Path], references: Iterable[Path], out: Path) -> None:
    """Write `out`/metrics.parquet and .csv, curves.parquet, latents.parquet and selection.parquet.

    Rows are in the order of the banks; within a bank as trained, the `at` methods last. The CSV holds the same numbers
    with all their digits.

    Args:
        folders: one a bank, with selection.parquet and a folder for each stage that was run (`sae.scoring.stage`).
        references: what `sae.scoring.metrics.probe.probe_embeddings` wrote, one a (dataset, backbone).
    """
    folders, out = [Path(folder) for folder in folders], Path(out)
    selection = rows.joined(rows.read(folder / "selection.parquet") for folder in folders)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    about: list[str] = []
    for table in filter(len, map(rows.read, _of_stages(folders, "metrics"))):
        names = table.column_names
        about += [name for name in names[: names.index("status") + 1] if name not in about]
        for row in table.to_pylist():
            # Null is what another stage may have; not a number is a score.
            given = {name: value for name, value in row.items() if value is not None}
            found.setdefault(tuple(row[name] for name in KEY), dict.fromkeys(names[: len(KEY) + 3])).update(given)
    swept = [name for name in about if name not in [*KEY, "objective", "penalty", "mask", "status"]]
    metrics = mark(pd.DataFrame(list(found.values())), selection.to_pandas())
    metrics["lambda"] = metrics["lambda"].astype(float) if "lambda" in metrics else float("nan")
    first = [*KEY, "objective", "penalty", "mask", *swept, "status", "selected", "selection"]
    metrics = metrics.reindex(columns=[*first, *(c for c in metrics.columns if c not in first)])
    raw = {(r["dataset"], r["backbone"]): r["top1"] for r in (files.read_json(f, "probe") for f in references)}
    if "probe_top1" in metrics:
        cells = zip(metrics["dataset"], metrics["backbone"], strict=True)
        of_embeddings = pd.Series([raw[cell] for cell in cells], metrics.index, dtype=float)
        metrics["probe_top1_raw"] = of_embeddings.where(metrics["probe_top1"].notna())
    rows.write(pa.Table.from_pandas(metrics, preserve_index=False).replace_schema_metadata(), out / "metrics.parquet")
    with files.atomic_file(out / "metrics.csv") as temporary:
        metrics.to_csv(temporary, index=False)
    rows.write(selection, out / "selection.parquet")
    for name in ("curves", "latents"):
        rows.write(rows.joined(map(rows.read, _of_stages(folders, name))), out / f"{name}.parquet")


def _of_stages(folders: list[Path], table: str) -> list[Path]:
    paths = [folder / stage / f"{table}.parquet" for folder in folders for stage in STAGES]
    return [path for path in paths if path.exists()]
