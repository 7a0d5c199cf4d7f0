"""What `make run` prints at the end."""

import shutil
from pathlib import Path

import pytest
from sae_workflow import run

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(("experiment", "tuned"), [("study", False), ("fair", True)])
def test_without_tuning_it_says_where_tuned_numbers_are(experiment, tuned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x").mkdir(parents=True)
    shutil.copy(DOCS / experiment / "claims.csv", tmp_path / "results/x/claims.csv")
    run.show("x")
    printed = capsys.readouterr().out
    assert "Reg. 1 raises mean MS" in printed and "results/x/report/index.html" in printed
    assert ("docs/fair/README.md" in printed) != tuned
