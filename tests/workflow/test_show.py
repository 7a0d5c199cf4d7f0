"""What `make run` prints at the end, and how `make show` shows a site."""

import pandas as pd
from conftest import ROOT
from sae_workflow import answer, show


def test_the_answer_is_short_and_says_where_to_look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/x/tables").mkdir(parents=True)
    claims = pd.read_csv(ROOT / "docs/results/study/claims.csv").assign(
        detection=0.021, controls="emoji: raw"
    )
    claims.to_csv(tmp_path / "results/x/claims.csv", index=False)
    row = {
        "cells": 10,
        "low": 0.004,
        "high": 0.026,
        "outcome": "shown higher",
        "at_lower_r2": True,
        "infeasible": 2,
    }
    scores = [
        (m, s, w)
        for m in ("reg1", "a_method_with_a_long_name")
        for s in ("ms", "ms_all")
        for w in (0.01, 0.02)
    ]
    means = pd.DataFrame(
        [
            row | {"method": m, "score": s, "width": w, "effect": i / 100}
            for i, (m, s, w) in enumerate(scores)
        ]
    )
    means.to_csv(tmp_path / "results/x/tables/front_means.csv", index=False)
    lines = list(answer.text("x"))
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    said = "\n".join(lines)
    # The endpoints at the first width alone; one of them was not measured.
    assert [
        line.split(maxsplit=1)
        for line in lines
        if "[" in line and line.startswith(("  reg1", "  a_"))
    ] == [
        ["reg1", f"{'+0.000 [+0.004, +0.026] higher*':<42}not measured"],
        ["a_method_with", f"{'+0.040 [+0.004, +0.026] higher*':<42}not measured"],
    ]
    assert f"holds {(claims['verdict'] == 'holds').sum()}" in said
    assert (
        "holds ?" in said
        and "Reg. 1 raises mean MS" in said
        and "results/x/report/index.html" in said
    )
    # Of an experiment without fronts.
    means[:0].to_csv(tmp_path / "results/x/tables/front_means.csv", index=False)
    assert next(answer.text("x")).startswith("Empty: no method")


def test_a_site_is_opened_or_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr(
        "webbrowser.open", lambda address: opened.append(address) or True
    )
    assert (
        show.show("x") == 1
        and "make run EXPERIMENT=x writes it" in capsys.readouterr().err
    )
    page = tmp_path / "results/x/report/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert (
        show.show("x") == 0
        and not opened
        and "results/x/report/index.html" in capsys.readouterr().out
    )
    monkeypatch.setenv("DISPLAY", ":0")
    assert (
        show.show("x") == 0
        and opened == [page.as_uri()]
        and capsys.readouterr().out == ""
    )
