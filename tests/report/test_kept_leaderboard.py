"""docs/leaderboard.md: it is what the kept tables give, in order, with their words."""

import re
from math import nan

import pandas as pd
import pytest
from conftest import ROOT

from bench import leaderboard
from sae.comparison.verdicts import ALL_FAMILIES, of_mean
from sae.report.names import Names

LABELS = {"reg1": "Reg. 1", "reg2": "Reg. 2"}
LABELS |= {"frozen_decoder": "Frozen decoder", "untrained": "Untrained"}
NUMBER = re.compile(r"-?\d+\.\d+")


def test_the_page_follows_from_the_kept_tables():
    assert leaderboard.page() == (ROOT / "docs/leaderboard.md").read_text()


def rows_of(text, heading):
    """Return {first cell: the other cells} of the table under a line that begins so."""
    rows = {}
    for line in text.partition(f"\n| {heading}")[2].splitlines()[2:]:
        if not line.startswith("|"):
            break
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[first] = cells
    return rows


@pytest.mark.parametrize("method", LABELS)
def test_the_readme_has_rows_of_the_kept_tables(method):
    kept = pd.read_csv(ROOT / "docs/results/photographs/tables/comparison.csv")
    means = of_mean(kept[kept["method"] == method]).set_index("score")
    label = LABELS[method]
    label += " (control)" if means["control"].all() else ""
    rows = rows_of((ROOT / "README.md").read_text(), "method | detection")
    assert len(rows) == len(LABELS)
    scores = ("detection_per_latent", "ms", "coverage", "r2")
    for score, cell in zip(scores, rows[label], strict=True):
        row = means.loc[score]
        numbers = [float(number) for number in NUMBER.findall(cell)]
        expected = row[["effect", "low", "high"]].to_numpy(float)[: len(numbers)]
        assert numbers == pytest.approx(expected, abs=0.0005), (score, cell)
        word = "" if pd.isna(row["verdict"]) else row["verdict"]
        assert not word or len(numbers) == 1 or cell.endswith(word)


@pytest.fixture
def section_of(tmp_path, monkeypatch):
    """Return a function: the page's section about means that were put in by hand."""
    monkeypatch.setattr(leaderboard, "RESULTS", tmp_path)
    row = {"baseline": "topk", "control": False, "family": ALL_FAMILIES}
    row |= {"cells": 4, "datasets": 2, "up": 4, "out_of_reach": 0, "all_cells": 4}
    row |= {"seeds": 3, "fresh": True, "level": 0.7, "low": 0.001, "high": 0.05}
    row |= {"verdict": None, "reason": None, "score": "detection"}
    methods = {name: {"label": name.upper()} for name in ("a", "b", "topk")}
    methods |= {name: {"control": True, "position": 9} for name in "uvw"}
    names = Names.model_validate({"methods": methods})
    setting = leaderboard.Setting("mine", "My data", "made by commit 1")

    def write_and_read(rows):
        table = tmp_path / "mine/tables/comparison.csv"
        table.parent.mkdir(parents=True)
        pd.DataFrame([row | own for own in rows]).to_csv(table, index=False)
        return leaderboard.section(setting, leaderboard.read(setting, names), names)

    return write_and_read


def test_a_section_has_methods_in_the_order_of_detection_then_controls(section_of):
    beyond = {"cells": 2, "out_of_reach": 2, "reason": "out of reach", "effect": nan}
    _, about, effects, *_ = section_of(
        [
            {"method": "c", **beyond},
            {"method": "a", "effect": 0.01, "verdict": "inconclusive"},
            {"method": "b", "effect": 0.03, "verdict": "better"},
            {"method": "u", "effect": 0.01, "control": True},
            {"method": "v", "effect": 0.02, "control": True},
            {"method": "w", "effect": 0.09, "control": True},
        ]
    )
    about = " ".join(about.split())
    assert "4 cells on 2 datasets" in about and "mean of 3 fresh seeds" in about
    rows = rows_of(f"\n{effects}", "method")
    verdicts = {method: cells[-1] for method, cells in rows.items()}
    assert verdicts == {
        "B": "better",
        "A": "inconclusive: a gain of .001 to .05",
        "c": "out of reach in 2 of 4 cells",
        # Two controls are shown.
        "v (control)": "-",
        "u (control)": "-",
    }
    assert [*rows] == ["B", "A", "c", "v (control)", "u (control)"]


def test_a_section_says_that_nothing_was_compared(section_of):
    heading, text = section_of([{"method": "a", "effect": nan, "cells": 0}])
    assert heading == "## mine" and text.startswith("Nothing to compare")
