"""What `make run` prints at the end."""

import shutil

from conftest import ROOT
from sae_workflow import run


def test_it_prints_claims_and_where_the_results_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x").mkdir(parents=True)
    shutil.copy(ROOT / "docs/study/claims.csv", tmp_path / "results/x/claims.csv")
    run.show("x")
    printed = capsys.readouterr().out
    assert "Reg. 1 raises mean MS" in printed and "results/x/report/index.html" in printed
