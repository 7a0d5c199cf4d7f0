"""bench/frequency.py beside means worked out by hand."""

import subprocess
import sys

import pandas as pd
from conftest import ROOT

from sae.core import files


def test_a_gain_is_weighted_by_how_often_the_baseline_fires(tmp_path):
    """The baseline has three rare latents and a frequent one; the method's second vertex has rare ones alone."""
    cell = {"dataset": "d", "backbone": "b", "k": 4, "split": "test"}
    rare, frequent = 5, 500  # of 1,000 images
    saes = {
        ("topk", "t"): [(rare, 0.6), (rare, 0.6), (rare, 0.9), (frequent, 0.5)],
        ("mine", "t"): [(rare, 0.8), (rare, 0.9), (frequent, 0.4), (frequent, 0.5)],
        ("mine", "u"): [(rare, 0.45)] * 4,
    }
    rows = [
        cell
        | {
            "method": method,
            "trial": trial,
            "seed": seed,
            "n_active": fires,
            "detection": auc,
        }
        for (method, trial), latents in saes.items()
        for seed in (3, 4)
        for fires, auc in latents
    ]
    files.write_parquet(tmp_path / "latents.parquet", pd.DataFrame(rows))
    files.write_parquet(
        tmp_path / "metrics.parquet", pd.DataFrame([cell | {"n_images": 1000}])
    )
    front = cell | {
        "method": "mine",
        "baseline": "topk",
        "score": "detection_alive",
        "width": 0.01,
        "status": "ok",
    }
    front |= {
        "effect": 0.0,
        "vertices": "t: 0.750; u: 0.250",
        "baseline_vertices": "t: 1.000",
    }
    files.write_text(
        tmp_path / "tables/fronts.csv", pd.DataFrame([front]).to_csv(index=False)
    )
    command = [
        sys.executable,
        "bench/frequency.py",
        tmp_path,
        "--out",
        tmp_path / "out.csv",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    found = pd.read_csv(tmp_path / "out.csv").iloc[0]
    assert found["gain up to 1%"] == 0.05  # .75 x .85 + .25 x .45 - .7
    assert (
        found["gain up to 100%"] == -0.05
    )  # of the first vertex, which alone has such latents
    assert found["reweighted"] == 0.025  # (3 x .05 - 1 x .05) / 4
    assert (found["latents up to 1%"], found["latents up to 100%"]) == (2.5, 1.5)
