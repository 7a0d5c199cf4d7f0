"""What `make run` prints at the end, and how `make show` shows a site."""

import shutil

import pandas as pd
import pytest
from conftest import ROOT
from sae_workflow import run, show, summary
from support.errors import assert_names

from sae.core import files
from sae.core.errors import UserError


def test_the_answer_is_short_and_says_where_to_look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x/tables").mkdir(parents=True)
    row = {
        "cells": 10,
        "low": 0.004,
        "high": 0.026,
        "outcome": "inconclusive",
        "reason": "before Holm's correction",
        "unit": "dataset and family",
        "datasets": 2,
        "infeasible": 2,
        "out_of_reach": 0,
    }
    methods = ("reg1", "a_method_with_a_long_name")
    scores = [
        (m, s, w)
        for m in methods
        for s in ("detection_auc", "ms_all")
        for w in (0.01, 0.02)
    ]
    means = pd.DataFrame(
        [
            row | {"method": m, "score": s, "width": w, "effect": i / 100}
            for i, (m, s, w) in enumerate(scores)
        ]
    )
    is_far = means["method"] == "a_method_with_a_long_name"
    far = {"outcome": "not comparable", "reason": "out of reach", "out_of_reach": 5}
    means.loc[is_far, list(far)] = list(far.values())
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
        "score": ["detection_auc", "detection_looks"],
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
    cell = metrics[["dataset", "backbone", "k"]].iloc[0]
    name = "{}/{}/k{}".format(*cell)
    warnings = {"warnings": ["theirs is left out: it does not fit"]}
    files.write_json(f"results/x/warnings/train/{name}.json", warnings)
    lines = list(summary.summarise("x"))
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    # The endpoints at the first width alone; one of them was not measured.
    start = lines.index(next(line for line in lines if line.startswith("  reg1")))
    assert "+0.000 [+0.004, +0.026]   inconclusive" in lines[start]
    assert_names(
        " ".join(" ".join(lines).split()),
        "in 10 cells",
        "a_method_with_… detection not comparable: out of reach in 5 of 17 cells MS not",
        "untrained detection -0.090 (control",
        "0.600 (0.700 with",
        "theirs R² 0.700 (0.800)",
        f"train {name}: theirs is left out: it does not fit",
        "the price of reg1: latents measured -0.080 [-0.120, -0.040]",
        # What failed stands below the leaderboard.
        f"reg2: {count} of {count} SAEs diverged",
        "reg2 has no feasible trial in 18 of 18 cells",
        "results/x/report/index.html",
        "results/x/claims.md",
    )
    # Of an experiment without fronts.
    files.write_parquet(tables / "front_means.parquet", means[:0])
    assert next(summary.summarise("x")).startswith("Nothing to compare")


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
