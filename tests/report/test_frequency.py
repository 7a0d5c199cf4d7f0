"""bench/frequency.py beside means worked out by hand."""

import subprocess
import sys

import pandas as pd
from conftest import ROOT

from sae.core import files


def test_a_gain_is_weighted_by_how_often_the_baseline_fires(tmp_path):
    """The baseline has three rare latents and a frequent one, the method two and two."""
    cell = {"dataset": "d", "backbone": "b", "k": 4, "trial": "default", "split": "test"}
    aucs = {"topk": [(5, 0.6), (5, 0.6), (5, 0.9), (500, 0.5)], "mine": [(5, 0.8), (5, 0.9), (500, 0.4), (500, 0.5)]}
    rows = [
        cell | {"method": method, "seed": seed, "n_active": fires, "detection": auc}
        for method, latents in aucs.items()
        for seed in (3, 4)
        for fires, auc in latents
    ]
    files.write_parquet(tmp_path / "latents.parquet", pd.DataFrame(rows))
    files.write_parquet(tmp_path / "metrics.parquet", pd.DataFrame([cell | {"n_images": 1000}]))
    front = cell | {"method": "mine", "baseline": "topk", "score": "detection_alive", "width": 0.01, "status": "ok"}
    front |= {"effect": 0.0, "vertices": "default: 1.000", "baseline_vertices": "default: 1.000"}
    files.write_text(tmp_path / "tables/fronts.csv", pd.DataFrame([front]).to_csv(index=False))
    command = [sys.executable, "bench/frequency.py", tmp_path, "--out", tmp_path / "out.csv"]
    subprocess.run(command, cwd=ROOT, check=True)
    found = pd.read_csv(tmp_path / "out.csv").iloc[0]
    assert found["gain up to 1%"] == 0.15 and found["gain up to 100%"] == -0.05
    assert found["reweighted"] == 0.1  # (3 x .15 - 1 x .05) / 4
    assert found["latents up to 1%"] == found["latents up to 100%"] == 2
