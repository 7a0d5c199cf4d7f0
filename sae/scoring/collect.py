"""Join what all banks of an experiment gave into its tidy tables, lambda chosen."""

from pathlib import Path

import pandas as pd

from sae.core import files
from sae.scoring.selection import select

KEY = ["dataset", "backbone", "k", "regularizer", "lambda", "mask", "seed", "split"]


def collect(folders, references, out):
    """Write `out`/metrics.parquet and .csv, curves.parquet and latents.parquet.

    Rows are in the order of the banks; within a cell, as trained, the mask ablation after it. The CSV holds the same
    numbers with all their digits.

    Args:
        folders: one a bank, with what `sae.scoring.score` and `sae.scoring.evaluate` wrote.
        references: what `sae.scoring.evaluate.probe_embeddings` wrote, one a (dataset, backbone).
    """
    banks = [_bank(Path(folder)) for folder in folders]
    metrics = select(pd.concat([rows for rows, _, _ in banks], ignore_index=True))
    found = [files.read_json(file, "probe of embeddings") for file in references]
    raw = {(r["dataset"], r["backbone"]): r["top1"] for r in found}
    probed = metrics["probe_top1"].notna() if "probe_top1" in metrics else pd.Series(False, metrics.index)
    cells = zip(metrics["dataset"], metrics["backbone"], strict=True)
    metrics["probe_top1_raw"] = pd.Series([raw[cell] for cell in cells], metrics.index, dtype=float).where(probed)
    first = [*KEY, "status", "selected", "selection"]
    metrics = metrics[first + [column for column in metrics.columns if column not in first]]
    out = Path(out)
    _parquet(metrics, out / "metrics.parquet")
    with files.atomic_file(out / "metrics.csv") as temporary:
        metrics.to_csv(temporary, index=False)
    curves = pd.concat([curves for _, curves, _ in banks], ignore_index=True)
    _parquet(curves[[*KEY, "curve", "x", "y"]], out / "curves.parquet")
    _parquet(pd.concat([latents for _, _, latents in banks], ignore_index=True), out / "latents.parquet")


def _bank(folder):
    scores, curves, extras, ablation, probe, latents = (
        files.read_parquet(folder / f"{name}.parquet")
        for name in ("scores", "curves", "extras", "ablation", "probe", "latents")
    )
    rows = scores.merge(extras, on=KEY, how="left", validate="one_to_one")
    rows = pd.concat([rows, ablation], ignore_index=True) if len(ablation) else rows
    curves = pd.concat([curves, probe], ignore_index=True) if len(probe) else curves
    first = [*KEY, "latent"]
    return rows, curves, latents[first + [c for c in latents.columns if c not in first]]


def _parquet(table, path):
    with files.atomic_file(path) as temporary:
        table.to_parquet(temporary, index=False)
