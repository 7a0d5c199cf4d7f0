"""Join the scores of all banks of an experiment into its one tidy table, lambda chosen."""

from pathlib import Path

import pandas as pd

from sae import files
from sae.selection import select

KEY = ["dataset", "backbone", "k", "regularizer", "lambda", "mask", "seed", "split"]


def collect(score_files, curve_files, out):
    """Write `out`/metrics.parquet and .csv from the banks' score files, and `out`/curves.parquet from their curves.

    Rows are in the order of the banks; within a cell, as trained. The CSV holds the same numbers with all their digits.
    """
    metrics = select(pd.concat([pd.read_parquet(file) for file in score_files], ignore_index=True))
    first = [*KEY, "status", "selected", "selection"]
    metrics = metrics[first + [column for column in metrics.columns if column not in first]]
    with files.atomic_file(Path(out) / "metrics.parquet") as temporary:
        metrics.to_parquet(temporary, index=False)
    with files.atomic_file(Path(out) / "metrics.csv") as temporary:
        metrics.to_csv(temporary, index=False)
    curves = pd.concat([pd.read_parquet(file) for file in curve_files], ignore_index=True)
    with files.atomic_file(Path(out) / "curves.parquet") as temporary:
        curves[[*KEY, "curve", "x", "y"]].to_parquet(temporary, index=False)
