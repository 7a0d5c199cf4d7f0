"""Rows are marked by what protocol `paper` chose; on fallback those of another method stand for them."""

import pandas as pd
import pytest
from protocols.test_paper import METHODS, reg1, topk

from sae.protocols import paper
from sae.scoring import rows
from sae.scoring.selection import chosen, mark, of_chosen

CELL = {"dataset": "d", "backbone": "b", "k": 4}


def tidy(rows, extra=()):
    """Metrics of both splits, marked; the numbers of test are 0.1 lower."""
    rows = pd.concat(rows, ignore_index=True)
    selection = pd.DataFrame(paper.chosen(rows, METHODS)).assign(
        **CELL, protocol="paper"
    )
    rows = pd.concat([rows, *extra], ignore_index=True).assign(**CELL, split="val")
    both = pd.concat(
        [rows, rows.assign(split="test", r2=rows["r2"] - 0.1)], ignore_index=True
    )
    return mark(both.assign(protocol="paper"), selection)


def test_marks_agree_on_both_splits_and_at_methods_are_chosen_unless_they_diverged():
    at = reg1({0.001: 0.2, 0.003: 0.2}, diverged=["lambda0.003"]).assign(
        method="reg1_all"
    )
    marked = tidy([topk(0.7), reg1({0.001: 0.71, 0.003: 0.5})], [at])
    for split in ("val", "test"):
        rows = marked[marked["split"] == split].set_index(["method", "trial"])
        assert rows["selection"].to_dict() == {
            ("topk", "default"): "chosen",
            ("reg1", "lambda0.001"): "chosen",
            ("reg1", "lambda0.003"): "not_selected",
            ("reg1_all", "lambda0.001"): "chosen",
            ("reg1_all", "lambda0.003"): "not_selected",
        }
        assert (rows["selected"] == (rows["selection"] == "chosen")).all()


def test_on_fallback_the_numbers_and_curves_are_those_of_the_method_it_is_against():
    marked = tidy(
        [
            topk(0.7),
            reg1({0.001: 0.69, 0.003: 0.5}),
            topk(0.5, 1),
            reg1({0.001: 0.6, 0.003: 0.4}, 1),
        ]
    )
    assert set(
        marked[(marked["method"] == "reg1") & (marked["seed"] == 0)]["selection"]
    ) == {"fallback"}
    got = chosen(marked, "test", {"topk": None, "reg1": "topk"}).set_index(
        ["method", "seed"]
    )
    assert got["fallback"].to_dict() == {
        ("topk", 0): 0,
        ("topk", 1): 0,
        ("reg1", 0): 1,
        ("reg1", 1): 0,
    }
    assert got["r2"]["reg1", 0] == got["r2"]["topk", 0] and got["r2"][
        "reg1", 1
    ] == pytest.approx(0.5)
    assert (
        got["source"]["reg1", 0] == "topk" and got["selection"]["reg1", 0] == "fallback"
    )
    points = pd.DataFrame(
        [
            {
                **CELL,
                "seed": 0,
                "split": "test",
                "curve": "probe",
                "x": 1,
                "trial": "default",
            }
        ]
    )
    points = points.assign(method="topk", y=0.25)
    curves = of_chosen(got.reset_index(), points).set_index("method")
    assert curves["y"].to_dict() == {"topk": 0.25, "reg1": 0.25}
    # A fallback on a fallback goes on; one on nothing has no row; a method that is not asked for is left out.
    twice = pd.concat(
        [marked, marked[marked["method"] == "reg1"].assign(method="reg2")],
        ignore_index=True,
    )
    got = chosen(twice, "test", {"topk": None, "reg1": "topk", "reg2": "reg1"})
    of_reg2 = got[(got["method"] == "reg2") & (got["seed"] == 0)]
    assert of_reg2["source"].tolist() == ["topk"] and of_reg2["fallback"].tolist() == [
        True
    ]
    alone = chosen(marked, "test", {"reg1": None})
    assert alone[["method", "seed"]].to_numpy().tolist() == [["reg1", 1]]


def test_nothing_is_marked_where_no_protocol_chose_anything():
    nothing = rows.table([], [*CELL, "method", "seed", "protocol"]).to_pandas()
    marked = mark(topk(0.7).assign(**CELL, protocol="own"), nothing)
    assert marked["selected"].tolist() == [False] and marked["selection"].tolist() == [
        "not_selected"
    ]
