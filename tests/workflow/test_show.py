"""How `make show` shows a site, and which cell `make run` makes first."""

import shutil

import pytest
from conftest import ROOT
from sae_workflow import run, show

from sae.core.errors import UserError


def test_a_site_is_opened_or_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr(
        "webbrowser.open", lambda address: opened.append(address) or True
    )
    shutil.copy(ROOT / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="no experiment 'x'"):
        show.show("x")
    (tmp_path / "mine.yaml").write_text("experiments: {x: {extends: smoke}}")
    with pytest.raises(UserError, match="make run EXPERIMENT=x writes them"):
        show.show("x", "mine.yaml")
    page = tmp_path / "results/x/report/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    show.show("x")
    assert not opened
    assert "results/x/report/index.html" in capsys.readouterr().out
    monkeypatch.setenv("DISPLAY", ":0")
    show.show("x")
    assert opened == [page.as_uri()] and capsys.readouterr().out == ""


def test_the_first_cell_is_made_first(monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = "results/smoke/scores/fashion_mnist_smoke/efficientnet_lite0/k8"
    scores = f"{folder}/score/metrics.parquet"

    assert run.first_cell_first("smoke", []) == ["--prioritize", scores]
    assert run.first_cell_first("no_such_experiment", []) == []
