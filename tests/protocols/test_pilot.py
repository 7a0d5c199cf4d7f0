"""bench/pilot.py: whether the ranges of `fair` fit its baseline, and its lengths."""

import subprocess
import sys

import pandas as pd
from conftest import ROOT

RATES = [0.001, 0.002, 0.004, 0.008, 0.009]
# The last rate is the best: whether it is feasible decides where the best one lies.
R2 = [0.80, 0.85, 0.84, 0.86, 0.87]
# Of 100 latents; a trial with more than 10 is not feasible.
DEAD_BY_BACKBONE = {
    "inside": [0, 10, 0, 5, 50],
    "edge": [0, 10, 0, 0, 0],
    "few": [0, 11, 0, 5, 50],
}


def write_validation(results, backbone, dead):
    """Write validation.parquet of a cell whose trials have these dead latents.

    Beside the trials there are SAEs of a fresh seed, and one of the lengths' round.
    """
    trials = pd.DataFrame(
        {
            "dataset": "digits",
            "backbone": backbone,
            "k": 8,
            "seed": 0,
            "status": "ok",
            "steps": 500,
            "m": 100,
            "trial": [f"auxk_alpha1-lr{rate}" for rate in RATES],
            "swept": "auxk_alpha lr",
            "lr": RATES,
            "r2": R2,
            "dead_train": dead,
            "l0": 8.0,
            "encoder_scale": 0.1,
            "auxk_alpha": 1.0,
            "ms_mean_alive": 0.5,
        }
    )
    of_fresh_seed = trials.assign(seed=3, r2=1.0)
    of_a_length = trials.head(1).assign(
        trial="lr0.1-steps500", swept="lr steps", lr=0.1, auxk_alpha=None
    )
    folder = results / "scores/digits" / backbone / "k8"
    folder.mkdir(parents=True)
    rows = pd.concat([trials, of_fresh_seed, of_a_length])
    rows.to_parquet(folder / "validation.parquet")


def test_a_cell_fits_where_four_trials_count_and_the_best_rate_lies_inside(tmp_path):
    for backbone, dead in DEAD_BY_BACKBONE.items():
        write_validation(tmp_path, backbone, dead)
    table_file = tmp_path / "trials.csv"
    command = [sys.executable, "bench/pilot.py", tmp_path, "--out", table_file]
    printed = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout

    columns_by_backbone = {}
    for line in printed.splitlines():
        if "digits" in line:
            columns = [column.strip() for column in line.split("|")]
            columns_by_backbone[columns[2]] = columns
    feasible_counts = {name: row[5] for name, row in columns_by_backbone.items()}
    assert feasible_counts == {"inside": "4/5", "edge": "5/5", "few": "3/5"}
    fits = {name: row[-2] for name, row in columns_by_backbone.items()}
    assert fits == {"inside": "True", "edge": "False", "few": "False"}
    assert "0.008" in columns_by_backbone["inside"]
    assert "do not fit" in printed
    assert len(pd.read_csv(table_file)) == 15


def write_lengths(results, dataset, backbone, r2_by_steps, chosen, *, undertrained):
    """Write what protocol `fair` leaves of a cell whose baseline tried some lengths."""
    rows = []
    for steps, r2 in r2_by_steps.items():
        for lr, lost in ((0.001, 0.01), (0.003, 0.0), (0.008, -0.05)):
            scores = {"r2": r2 - lost, "ms_mean_alive": 0.5 + steps / 1e5}
            # A length that diverged says nothing, however high it stands.
            status = "diverged" if lr == 0.008 else "ok"
            trial = {"trial": f"lr{lr}-steps{steps}", "lr": lr, "steps": steps}
            trial["swept"] = "lr steps"
            rows.append({**trial, "status": status, "protocol": "fair", **scores})
    listed = {"trial": "auxk_alpha0.1-lr0.002", "swept": "auxk_alpha lr"}
    scores = {"steps": chosen, "r2": 0.99}
    rows.append({**listed, **scores, "status": "ok", "protocol": "fair"})
    cell = {"dataset": dataset, "backbone": backbone, "k": 8, "method": "topk"}
    folder = results / "scores" / dataset / backbone / "k8"
    folder.mkdir(parents=True)
    pd.DataFrame(rows).assign(**cell, seed=0).to_parquet(folder / "validation.parquet")
    facts = {"steps": [None, chosen], "undertrained": [None, undertrained]}
    selection = pd.DataFrame({"protocol": ["paper", "fair"], **facts}).assign(**cell)
    selection.to_parquet(folder / "selection.parquet")


def test_a_dataset_has_the_most_steps_that_a_cell_asks_for(tmp_path):
    settled = {1000: 0.80, 2000: 0.82, 4000: 0.8205}
    write_lengths(tmp_path, "digits", "a", settled, 4000, undertrained=False)
    longer = settled | {4000: 0.84, 8000: 0.86}
    write_lengths(tmp_path, "digits", "b", longer, 8000, undertrained=True)
    write_lengths(tmp_path, "letters", "a", settled, 4000, undertrained=False)
    table_file = tmp_path / "lengths.csv"
    command = [sys.executable, "bench/pilot.py", tmp_path, "--steps"]
    printed = subprocess.run(
        [*command, "--out", table_file],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert "digits: 8000 steps, the largest of 2 cells" in printed
    assert "letters: 4000 steps, the largest of 1 cells" in printed
    lengths = pd.read_csv(table_file).set_index(["dataset", "backbone", "steps"])
    assert len(lengths) == 3 + 4 + 3
    # At the rate of highest R^2, of those that did not diverge.
    assert (lengths["lr"] == 0.003).all()
    gained = lengths["r2 gained"]
    assert round(gained["digits", "a", 4000], 5) == 0.0005
    assert round(gained["digits", "b", 8000], 5) == 0.02
    assert gained.isna().sum() == 3
    assert "True" in printed and "False" in printed
