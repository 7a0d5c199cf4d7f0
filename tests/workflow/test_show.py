"""What `make run` prints at the end, and how `make show` shows a site."""

import pandas as pd
from conftest import ROOT
from sae_workflow import run, show


def test_it_prints_claims_and_where_the_results_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x").mkdir(parents=True)
    claims = pd.read_csv(ROOT / "docs/study/claims.csv").assign(detection=0.021, controls="emoji: raw")
    claims.to_csv(tmp_path / "results/x/claims.csv", index=False)
    run.show("x")
    printed = capsys.readouterr().out
    assert "holds ?" in printed and "Reg. 1 raises mean MS" in printed and "results/x/report/index.html" in printed


def test_a_site_is_opened_or_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert show.show("x") == 1 and "make run EXPERIMENT=x writes it" in capsys.readouterr().err
    page = tmp_path / "results/x/report/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert show.show("x") == 0 and not opened and "results/x/report/index.html" in capsys.readouterr().out
    monkeypatch.setenv("DISPLAY", ":0")
    assert show.show("x") == 0 and opened == [page.as_uri()] and capsys.readouterr().out == ""
