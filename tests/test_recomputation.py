"""What docs/protocol.md recomputes with pandas is what the table of effects says."""

import re

import pandas as pd
import pytest
from conftest import ROOT

from sae.bank.plan import Method
from sae.comparison.effects import effects
from sae.comparison.methods import Methods

CELL = {"dataset": "emoji", "backbone": "dinov2_vit_s14_fast", "k": 8}
NAMES = Methods(methods={"topk": Method(), "reg1": Method(against="topk")})


def write_results(folder):
    """Write rows of two methods with two trials each, and their table of effects."""
    metrics = []
    selection = []
    for number, method in enumerate(NAMES.methods):
        for trial in ("plain", "better"):
            is_chosen = trial == "better"
            selection.append(
                CELL
                | {"method": method, "protocol": "tuned", "trial": trial, "bar": 0.8}
                | {
                    "role": "chosen" if is_chosen else "candidate",
                    "status": "chosen" if is_chosen else "not chosen",
                    "r2": 0.8,
                    "seeds": "3 4" if is_chosen else None,
                    "fresh": True if is_chosen else None,
                }
            )
            for seed in (0, 3, 4) if is_chosen else (0,):
                for split in ("val", "test"):
                    is_scored = seed != 0 and split == "test"
                    detection = 0.6 + 0.02 * number + 0.005 * seed
                    metrics.append(
                        CELL
                        | {"method": method, "trial": trial, "seed": seed}
                        | {"split": split, "status": "ok", "protocol": "tuned"}
                        # What validation, or the seed of the tuning, says is wrong.
                        | {"detection": detection if is_scored else 0.1 * number}
                    )
    elsewhere = [row | {"k": 32, "detection": 0.9} for row in metrics]
    metrics = pd.DataFrame([*metrics, *elsewhere])
    of_other_k = [row | {"k": 32} for row in selection]
    # Protocol `paper` chose an SAE, too.
    of_paper = [row | {"protocol": "paper", "seeds": None} for row in selection]
    selection = pd.DataFrame([*selection, *of_other_k, *of_paper])

    (folder / "tables").mkdir(parents=True)
    metrics.to_parquet(folder / "metrics.parquet")
    selection.to_parquet(folder / "selection.parquet")
    table = effects(metrics, selection, NAMES)
    table.to_csv(folder / "tables/comparison_cells.csv", index=False)


def test_the_code_of_the_page_recomputes_an_effect(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/protocol.md").read_text()
    code = re.search(
        r"<!-- run by tests/test_recomputation.py -->\n```python\n(.*?)```", page, re.S
    )[1]
    write_results(tmp_path / "results/demo")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    printed = [float(line.split(": ")[1]) for line in lines]
    assert printed == pytest.approx([0.02, 0.02])
