"""docs/leaderboard.md: it is what the kept tables give, in order, with their words."""

from math import nan

import pandas as pd
import pytest
from conftest import ROOT

from bench import leaderboard
from sae.report.names import Names


def test_the_page_follows_from_the_kept_tables():
    assert leaderboard.page() == (ROOT / "docs/leaderboard.md").read_text()


def rows_of(text):
    """Return {(setting, method): {column: cell}} of the tables of a page."""
    rows = {}
    head = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells[:2] == ["setting", "method"]:
            head = cells
        elif not cells:
            head = []
        elif head and set(cells[0]) != {"-"}:
            row = rows.setdefault((cells[0], cells[1]), {})
            row.update(zip(head, cells, strict=True))
    return rows


def test_the_readme_has_rows_of_the_page():
    page = rows_of((ROOT / "docs/leaderboard.md").read_text())
    readme = rows_of((ROOT / "README.md").read_text())
    assert len(readme) == 3
    for key, row in readme.items():
        assert row.items() <= page[key].items()


@pytest.fixture
def lines():
    """Lines of three methods and a control, whose numbers were put in by hand."""
    row = {"low": 0.001, "high": 0.05, "reason": None, "cells": 4, "up": 4}
    row |= {"out_of_reach": 0, "infeasible": 0, "level": 0.7, "r2_difference": -0.0004}
    of_detection = row | {"score": "detection_auc"}
    partly = {"cells": 3, "infeasible": 1, "level": 0.8}
    beyond = {"cells": 2, "out_of_reach": 2, "reason": "out of reach"}
    means = [
        of_detection | {"method": "a", "effect": 0.01, "outcome": "inconclusive"},
        of_detection | partly | {"method": "b", "effect": 0.03, "outcome": "better"},
        of_detection
        | beyond
        | {"method": "c", "effect": 0.09, "outcome": "not comparable"},
        row | {"score": "measured", "method": "a", "effect": -0.1, "outcome": None},
        row | {"score": "purity", "method": "a", "effect": 0.2, "outcome": None},
    ]
    controls = [
        {"control": name, "score": "detection_auc", "difference": 0.02}
        | {"low": 0.01, "high": 0.03}
        for name in ("u", "v", "w")
    ]
    methods = {name: {"label": name.upper()} for name in "abc"}
    methods |= {name: {"control": True, "position": 9} for name in "uvw"}
    return leaderboard.compare(
        leaderboard.Setting("mine", "mine", "", ""),
        pd.DataFrame(means),
        pd.DataFrame(controls),
        Names.model_validate({"methods": methods}),
    )


def test_methods_and_controls_are_in_the_order_of_detection(lines):
    assert [(line["method"], line["detection"]) for line in lines] == [
        # Its level over the most cells, not over those of b.
        ("Top-k: its own scores", ".700"),
        ("B", "+.030 [+.001, +.050] better (3 of 4 cells)"),
        # Two controls are shown.
        ("u (control)", "+.020 [+.010, +.030]"),
        ("v (control)", "+.020 [+.010, +.030]"),
        ("A", "+.010 [+.001, +.050] inconclusive"),
        # Its mean of the cells that are left would be the highest.
        ("C", "not comparable: out of reach in 2 of 4 cells"),
    ]


def test_a_line_has_the_prices_and_no_other_score(lines):
    (line,) = (line for line in lines if line["method"] == "A")
    assert line == {
        "setting": "mine",
        "method": "A",
        "detection": "+.010 [+.001, +.050] inconclusive",
        "latents measured": "-.100 [+.001, +.050]",
        "R²": ".000",
        "cells up": "4 of 4",
    }


def test_a_score_that_no_method_has_is_a_dash():
    row = {
        "score": "detection_auc",
        "outcome": "not comparable",
        "reason": "infeasible",
    }
    row |= dict.fromkeys(("effect", "low", "high", "level", "r2_difference"), nan)
    row |= {"cells": 0, "up": 0, "out_of_reach": 0, "infeasible": 4, "method": "a"}
    control = {"control": "u", "score": "detection_auc"}
    control |= dict.fromkeys(("difference", "low", "high"), nan)
    lines = leaderboard.compare(
        leaderboard.Setting("mine", "mine", "", ""),
        pd.DataFrame([row, row | {"score": "ms", "outcome": nan}]),
        pd.DataFrame([control]),
        Names.model_validate({"methods": {"a": {}, "u": {"control": True}}}),
    )
    texts = [text for line in lines for text in line.values()]
    assert "-" in texts and not [text for text in texts if "nan" in text]
