"""Detection at equal R^2, as if latents fired as often as the baseline's: `python bench/frequency.py results/rivals`.

Rare latents are easier to find, so that a method whose latents are rarer may owe them its mean. Of the vertices that
weigh in fronts.csv, read with fresh seeds on test: the mean AUC in each band of frequency minus the baseline's there,
weighted by how many of the baseline's latents lie in the band (`reweighted`), and how many of the method's do.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from sae.core import files
from sae.scoring.metrics.detection import BANDS

TRIAL = ["dataset", "backbone", "k", "method", "trial"]


def main() -> None:
    """Print the means over cells, and write them where `--out` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, help="folder of a run that has protocol fair"
    )
    parser.add_argument("--out", type=Path, help="a CSV")
    a = parser.parse_args()
    latents, metrics = (
        files.read_parquet(a.results / f"{name}.parquet")
        for name in ("latents", "metrics")
    )
    images = metrics[metrics["split"] == "test"].groupby("dataset")["n_images"].max()
    fresh = latents[
        (latents["split"] == "test")
        & (latents["seed"] > 2)
        & latents["detection"].notna()
    ]
    band = np.searchsorted(BANDS, fresh["n_active"] / fresh["dataset"].map(images))
    seeds = (
        fresh.assign(band=band)
        .groupby([*TRIAL, "seed", "band"])["detection"]
        .agg(["mean", "size"])
    )
    saes = seeds.index.droplevel("band").unique()
    every = [(*sae, band) for sae in saes for band in range(len(BANDS))]
    seeds = seeds.reindex(
        pd.MultiIndex.from_tuples(every, names=seeds.index.names)
    ).fillna({"size": 0})
    trials = seeds.groupby([*TRIAL, "band"]).mean().reset_index()

    def side(cell: tuple, method: str, vertices: str) -> pd.DataFrame:
        parts = []
        for vertex in vertices.split("; "):
            trial, weight = vertex.rsplit(": ", 1)
            rows = trials[
                (trials[TRIAL] == [*cell, method, trial]).all(axis=1)
            ].set_index("band")
            parts.append(rows[["mean", "size"]].assign(w=float(weight)))
        every = pd.concat(parts)
        every["known"] = every["w"] * every["mean"].notna()
        weighted = every[["mean", "size"]].mul(every["w"], axis=0).groupby("band").sum()
        return weighted.assign(
            mean=weighted["mean"] / every.groupby("band")["known"].sum()
        )

    found, fronts = [], pd.read_csv(a.results / "tables/fronts.csv")
    fronts = fronts[
        (fronts["score"] == "detection_alive")
        & (fronts["width"] == fronts["width"].iloc[0])
    ]
    for row in fronts[fronts["status"] == "ok"].itertuples():
        cell = (row.dataset, row.backbone, row.k)
        own, base = (
            side(cell, row.method, row.vertices),
            side(cell, row.baseline, row.baseline_vertices),
        )
        both = own.merge(base, on="band", suffixes=("", "_baseline"))
        gain = both["mean"] - both["mean_baseline"]
        line = {"method": row.method, "effect": row.effect}
        known = gain.notna()
        line |= {
            "reweighted": np.average(gain[known], weights=both["size_baseline"][known])
        }
        line |= {f"gain up to {BANDS[band]:.0%}": value for band, value in gain.items()}
        found.append(
            line
            | {
                f"latents up to {BANDS[band]:.0%}": size
                for band, size in own["size"].items()
            }
        )
    table = (
        pd.DataFrame(found)
        .groupby("method", sort=False)
        .mean()
        .sort_values("reweighted")
        .round(3)
    )
    print(table.to_string())
    if a.out:
        files.write_text(a.out, table.to_csv(lineterminator="\n"))


if __name__ == "__main__":
    main()
