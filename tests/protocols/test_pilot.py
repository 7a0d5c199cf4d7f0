"""bench/pilot.py: whether the ranges of `fair` fit its baseline."""

import subprocess
import sys

import pandas as pd
from conftest import ROOT


def test_a_cell_fits_where_four_trials_count_and_the_best_rate_lies_inside(tmp_path):
    lr, r2 = [0.001, 0.002, 0.004, 0.008, 0.009], [0.80, 0.85, 0.84, 0.86, 0.87]
    dead = {
        "inside": [0, 10, 0, 5, 50],
        "edge": [0, 10, 0, 0, 0],
        "few": [0, 11, 0, 5, 50],
    }  # Of 100.
    for backbone, of in dead.items():
        cell = {
            "dataset": "digits",
            "backbone": backbone,
            "k": 8,
            "seed": 0,
            "status": "ok",
            "steps": 500,
            "m": 100,
        }
        names = [f"auxk_alpha1-lr{rate}" for rate in lr]
        rows = pd.DataFrame(
            cell | {"trial": names, "lr": lr, "r2": r2, "dead_train": of, "l0": 8.0}
        )
        rows = rows.assign(encoder_scale=0.1, auxk_alpha=1.0, ms_mean_alive=0.5)
        length = rows.head(1).assign(trial="lr0.1-steps500", lr=0.1, auxk_alpha=None)
        folder = tmp_path / "scores/digits" / backbone / "k8"
        folder.mkdir(parents=True)
        pd.concat([rows, rows.assign(seed=3, r2=1.0), length]).to_parquet(
            folder / "validation.parquet"
        )
    command = [
        sys.executable,
        "bench/pilot.py",
        tmp_path,
        "--out",
        tmp_path / "trials.csv",
    ]
    said = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    cells = {
        line.split("|")[2].strip(): line
        for line in said.splitlines()
        if "digits" in line
    }
    assert {name: line.split("|")[5].strip() for name, line in cells.items()} == {
        "inside": "4/5",
        "edge": "5/5",
        "few": "3/5",
    }
    assert {name: line.split("|")[-2].strip() for name, line in cells.items()} == {
        "inside": "True",
        "edge": "False",
        "few": "False",
    }
    assert "0.008 " in cells["inside"] and "do not fit" in said
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 15
