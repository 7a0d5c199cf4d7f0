"""What `make run` prints at the end, and how `make show` shows a site."""

import shutil

import pandas as pd
import pytest
from conftest import ROOT
from sae_workflow import show, summary

from sae.core import files
from sae.core.errors import UserError


def test_the_answer_is_short_and_says_where_to_look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x/tables").mkdir(parents=True)
    kept_claims = ROOT / "docs/results/study/claims.csv"
    claims = pd.read_csv(kept_claims, converters={"note": str, "controls": str})
    claims = claims.assign(detection=0.021, controls="emoji: raw")
    files.write_parquet(tmp_path / "results/x/claims.parquet", claims)
    row = {
        "cells": 10,
        "low": 0.004,
        "high": 0.026,
        "outcome": "higher in these cells",
        "infeasible": 2,
    }
    methods = ("reg1", "a_method_with_a_long_name")
    scores = [
        (m, s, w)
        for m in methods
        for s in ("detection_alive", "ms_all")
        for w in (0.01, 0.02)
    ]
    means = pd.DataFrame(
        [
            row | {"method": m, "score": s, "width": w, "effect": i / 100}
            for i, (m, s, w) in enumerate(scores)
        ]
    )
    price = {
        "score": "measured",
        "effect": -0.08,
        "low": -0.12,
        "high": -0.04,
        "method": "reg1",
        "width": 0.01,
    }
    means = pd.concat([means, pd.DataFrame([row | price])])
    tables = tmp_path / "results/x/tables"
    files.write_parquet(tables / "front_means.parquet", means)
    scale = {
        "control": "untrained",
        "score": ["detection_alive", "detection_looks"],
        "baseline": [0.7, 0.6],
        "difference": [-0.09, -0.04],
    }
    files.write_parquet(tables / "front_controls.parquet", pd.DataFrame(scale))
    theirs = {"method": ["theirs"], "score": ["r2"], "value": [0.7], "baseline": [0.8]}
    files.write_parquet(tables / "front_imported.parquet", pd.DataFrame(theirs))
    study = ROOT / "docs/results/study"
    shutil.copy(study / "made_by.json", tmp_path / "results/x")
    metrics = files.read_parquet(study / "metrics.parquet")
    of_reg2 = metrics["method"] == "reg2"
    metrics.loc[of_reg2, "status"] = "diverged"
    files.write_parquet(tmp_path / "results/x/metrics.parquet", metrics)
    count = len(metrics[of_reg2 & (metrics["split"] == "val")])
    lines = list(summary.summarise("x"))
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    output = "\n".join(lines)
    # The endpoints at the first width alone; one of them was not measured.
    assert [
        line.split(maxsplit=1)
        for line in lines
        if "[" in line and line.startswith(("  reg1", "  a_"))
    ] == [
        ["reg1", f"{'+0.000 [+0.004, +0.026] higher':<42}not measured"],
        ["a_method_with", f"{'+0.040 [+0.004, +0.026] higher':<42}not measured"],
    ]
    assert "baseline's detection is 0.600, not 0.700" in output
    assert "untrained     -0.090" in output and "control, at its own R2" in output
    assert "  theirs        R² 0.700 (0.800)" in lines
    assert "  the price of reg1: latents measured -0.080 [-0.120, -0.040]" in lines
    assert f"holds {(claims['verdict'] == 'holds').sum()}" in output
    assert (
        "holds ?" in output
        and "Reg. 1 raises mean MS" in output
        and "results/x/report/index.html" in output
    )
    # What failed stands below the board.
    assert f"  reg2: {count} of {count} SAEs diverged" in output
    assert (
        "  reg2 has no feasible trial in 18 of 18 cells: all its SAEs diverged"
        in output
    )
    # Of an experiment without fronts.
    files.write_parquet(tables / "front_means.parquet", means[:0])
    assert next(summary.summarise("x")).startswith("Empty: no method")


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
