"""What `make run` prints at the end."""

import pandas as pd
from conftest import ROOT
from sae_workflow import run


def test_it_prints_claims_and_where_the_results_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x").mkdir(parents=True)
    claims = pd.read_csv(ROOT / "docs/study/claims.csv").assign(detection=0.021, controls="emoji: raw")
    claims.to_csv(tmp_path / "results/x/claims.csv", index=False)
    run.show("x")
    printed = capsys.readouterr().out
    assert "holds ?" in printed and "Reg. 1 raises mean MS" in printed and "results/x/report/index.html" in printed
