"""Rows are marked by what protocol `paper` chose.

On fallback those of another method stand for them.
"""

import pandas as pd
import pytest
from protocols.test_paper import METHODS, reg1, topk

from sae.protocols import _largest_lambda
from sae.scoring import rows
from sae.scoring.selection import chosen_rows, curves_of_chosen, mark

CELL = {"dataset": "d", "backbone": "b", "k": 4}


def marked_metrics(trials, at_methods=()):
    """Make metrics of both splits, marked by what protocol `paper` chooses.

    Args:
        trials: frames of trials on validation; on test their R^2 is 0.1 lower.
        at_methods: frames of methods that are trained at the choice of another one.
    """
    tuned = pd.concat(trials, ignore_index=True)
    choices = pd.DataFrame(_largest_lambda.chosen(tuned, METHODS))
    selection = choices.assign(**CELL, protocol="paper")
    all_trials = pd.concat([tuned, *at_methods], ignore_index=True)
    val = all_trials.assign(**CELL, split="val")
    test = val.assign(split="test", r2=val["r2"] - 0.1)
    metrics = pd.concat([val, test], ignore_index=True)
    return mark(metrics.assign(protocol="paper"), selection)


def test_marks_agree_on_both_splits_and_at_methods_are_chosen_unless_they_diverged():
    at = reg1({0.001: 0.2, 0.003: 0.2}, diverged=["lambda0.003"]).assign(
        method="reg1_all"
    )
    marked = marked_metrics([topk(0.7), reg1({0.001: 0.71, 0.003: 0.5})], [at])
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


@pytest.fixture
def marked():
    """Mark metrics of two seeds: `reg1` falls back at seed 0, and is chosen at 1."""
    return marked_metrics(
        [
            topk(0.7),
            reg1({0.001: 0.69, 0.003: 0.5}),
            topk(0.5, 1),
            reg1({0.001: 0.6, 0.003: 0.4}, 1),
        ]
    )


def test_on_fallback_the_numbers_and_curves_are_those_of_the_method_it_is_against(
    marked,
):
    reg1_of_seed_0 = marked[(marked["method"] == "reg1") & (marked["seed"] == 0)]
    assert set(reg1_of_seed_0["selection"]) == {"fallback"}

    picked = chosen_rows(marked, "test", {"topk": None, "reg1": "topk"})
    by_method = picked.set_index(["method", "seed"])
    assert by_method["fallback"].to_dict() == {
        ("topk", 0): 0,
        ("topk", 1): 0,
        ("reg1", 0): 1,
        ("reg1", 1): 0,
    }
    assert by_method["r2"]["reg1", 0] == by_method["r2"]["topk", 0]
    assert by_method["r2"]["reg1", 1] == pytest.approx(0.5)
    assert by_method["source"]["reg1", 0] == "topk"
    assert by_method["selection"]["reg1", 0] == "fallback"

    point = {
        **CELL,
        "seed": 0,
        "split": "test",
        "curve": "probe",
        "x": 1,
        "trial": "default",
        "method": "topk",
        "y": 0.25,
    }
    curves = curves_of_chosen(picked, pd.DataFrame([point])).set_index("method")
    assert curves["y"].to_dict() == {"topk": 0.25, "reg1": 0.25}


def test_a_fallback_on_a_fallback_goes_on_and_one_on_nothing_has_no_row(marked):
    reg2 = marked[marked["method"] == "reg1"].assign(method="reg2")
    with_reg2 = pd.concat([marked, reg2], ignore_index=True)
    against = {"topk": None, "reg1": "topk", "reg2": "reg1"}
    picked = chosen_rows(with_reg2, "test", against)
    reg2_of_seed_0 = picked[(picked["method"] == "reg2") & (picked["seed"] == 0)]
    assert reg2_of_seed_0["source"].tolist() == ["topk"]
    assert reg2_of_seed_0["fallback"].tolist() == [True]
    # A method that is not asked for is left out.
    without_baseline = chosen_rows(marked, "test", {"reg1": None})
    assert without_baseline[["method", "seed"]].to_numpy().tolist() == [["reg1", 1]]


def test_nothing_is_marked_where_no_protocol_chose_anything():
    no_choices = rows.table([], [*CELL, "method", "seed", "protocol"]).to_pandas()
    marked = mark(topk(0.7).assign(**CELL, protocol="own"), no_choices)
    assert marked["selected"].tolist() == [False]
    assert marked["selection"].tolist() == ["not_selected"]
