"""The choice of a trial, on planted validation scores."""

import math

import pandas as pd
import pytest

from sae.core.errors import UserError
from sae.scoring.selection import choose, chosen, mark, of_chosen

CELL = {"dataset": "d", "backbone": "b", "k": 4}
LAMBDA = {"lambda": []}
METHODS = {"topk": {"against": None, "sweep": {}}, "reg1": {"against": "topk", "sweep": LAMBDA}}


def validation(method, trials, seed=0, diverged=()):
    """Rows of one method: {trial's name: (lambda, R^2)}."""
    rows = []
    for trial, (lam, r2) in trials.items():
        key = {**CELL, "method": method, "trial": trial, "seed": seed, "split": "val", "lambda": lam}
        ok = trial not in diverged
        rows.append(key | {"status": "ok" if ok else "diverged", "r2": r2 if ok else math.nan})
    return pd.DataFrame(rows)


def topk(r2, seed=0):
    return validation("topk", {"default": (None, r2)}, seed)


def reg1(grid, seed=0, diverged=()):
    return validation("reg1", {f"lambda{lam:g}": (lam, r2) for lam, r2 in grid.items()}, seed, diverged)


def choices(rows, methods=METHODS):
    """{(method, seed): (trial, status)}."""
    out = choose(pd.concat(rows, ignore_index=True), methods)
    trials = out["trial"].astype(object).where(out["trial"].notna(), None)
    return dict(zip(zip(out["method"], out["seed"], strict=True), zip(trials, out["status"], strict=True), strict=True))


def test_largest_acceptable_lambda_also_when_a_smaller_one_is_not():
    got = choices([topk(0.7), reg1({0.001: 0.71, 0.003: 0.69, 0.01: 0.705, 0.03: 0.6})])
    assert got == {("topk", 0): ("default", "chosen"), ("reg1", 0): ("lambda0.01", "chosen")}


def test_an_equal_r2_is_acceptable_and_the_largest_of_the_sweep_is_an_edge():
    assert choices([topk(0.7), reg1({0.001: 0.71, 0.003: 0.7})])["reg1", 0] == ("lambda0.003", "edge")
    below = math.nextafter(0.7, 0)
    assert choices([topk(0.7), reg1({0.001: 0.7, 0.003: below})])["reg1", 0] == ("lambda0.001", "chosen")


def test_diverged_is_never_chosen_and_a_diverged_largest_is_still_the_edge():
    diverged = reg1({0.001: 0.71, 0.003: 0.9}, diverged=["lambda0.003"])
    assert choices([topk(0.7), diverged])["reg1", 0] == ("lambda0.001", "chosen")
    lost = reg1({0.001: 0.71}, diverged=["lambda0.001"])
    assert choices([topk(0.7), lost])["reg1", 0] == (None, "fallback")


def test_each_seed_has_its_own_bar_and_the_file_says_what_was_compared():
    rows = [topk(0.7), topk(0.5, seed=1), reg1({0.001: 0.6, 0.003: 0.4}), reg1({0.001: 0.6, 0.003: 0.4}, seed=1)]
    out = choose(pd.concat(rows, ignore_index=True), METHODS)
    assert list(out.columns) == [
        "dataset",
        "backbone",
        "k",
        "method",
        "seed",
        "protocol",
        "tolerance",
        "trial",
        "status",
        "r2",
        "bar",
    ]
    of_reg1 = out[out["method"] == "reg1"].set_index("seed")
    assert of_reg1["status"].to_dict() == {0: "fallback", 1: "chosen"}
    assert pd.isna(of_reg1["trial"][0]) and math.isnan(of_reg1["r2"][0]) and of_reg1["r2"][1] == 0.6
    assert of_reg1["bar"].to_dict() == {0: 0.7, 1: 0.5}
    assert out[out["method"] == "topk"]["bar"].isna().all() and set(out["protocol"]) == {"paper"}


def test_of_several_trials_with_the_largest_lambda_the_best_is_chosen_and_of_equals_the_first():
    grid = {(0.001, 0.1): 0.9, (0.003, 0.1): 0.71, (0.003, 0.2): 0.72, (0.003, 0.3): 0.72, (0.01, 0.1): 0.6}
    rows = validation("reg1", {f"lambda{lam:g}-lr{lr:g}": (lam, r2) for (lam, lr), r2 in grid.items()})
    methods = {"topk": METHODS["topk"], "reg1": {"against": "topk", "sweep": {"lambda": [], "lr": []}}}
    assert choices([topk(0.7), rows], methods)["reg1", 0] == ("lambda0.003-lr0.2", "chosen")


def test_a_sweep_without_lambda_takes_the_best_acceptable_and_has_no_edge():
    methods = {"topk": METHODS["topk"], "other": {"against": "topk", "sweep": {"lr": []}}}
    for lam in (None, 0.003):  # Without a penalty, and with one whose lambda is fixed.
        rows = validation("other", {"lr0.1": (lam, 0.71), "lr0.2": (lam, 0.73), "lr0.3": (lam, 0.72)})
        assert choices([topk(0.7), rows], methods)["other", 0] == ("lr0.2", "chosen")
        assert choices([topk(0.8), rows], methods)["other", 0] == (None, "fallback")


def test_without_a_sweep_or_without_against_there_is_no_bar_to_reach():
    methods = {"topk": {"against": None, "sweep": {"lr": []}}, "batch_topk": {"against": "topk", "sweep": {}}}
    tuned = validation("topk", {"lr0.1": (None, 0.7), "lr0.2": (None, 0.8), "lr0.3": (None, 0.75)})
    given = validation("batch_topk", {"default": (None, 0.1)})
    got = choices([given, tuned], methods)
    assert got == {("topk", 0): ("lr0.2", "chosen"), ("batch_topk", 0): ("default", "chosen")}


def test_the_bar_of_what_is_against_a_fallback_is_that_fallbacks_own_bar():
    methods = METHODS | {"reg2": {"against": "reg1", "sweep": LAMBDA}}
    reg2 = reg1({0.001: 0.73, 0.003: 0.72, 0.01: 0.69}).assign(method="reg2")
    assert choices([topk(0.7), reg1({0.001: 0.6}), reg2], methods)["reg2", 0] == ("lambda0.003", "chosen")
    # Against a baseline that diverged nothing is acceptable.
    lost = topk(0.7).assign(status="diverged", r2=math.nan)
    assert choices([lost, reg1({0.001: 0.6})])["reg1", 0] == (None, "fallback")


def test_a_baseline_that_is_not_there_is_named():
    with pytest.raises(UserError, match="topk with seed 1"):
        choices([topk(0.7), reg1({0.001: 0.7}, seed=1)])


def tidy(rows, extra=()):
    """Metrics of both splits, marked; the numbers of test are 0.1 lower."""
    rows = pd.concat(rows, ignore_index=True)
    selection = choose(rows, METHODS)
    rows = pd.concat([rows, *extra], ignore_index=True)
    both = pd.concat([rows, rows.assign(split="test", r2=rows["r2"] - 0.1)], ignore_index=True)
    return mark(both.assign(protocol="paper"), selection)


def test_marks_agree_on_both_splits_and_at_methods_are_chosen_unless_they_diverged():
    at = reg1({0.001: 0.2, 0.003: 0.2}, diverged=["lambda0.003"]).assign(method="reg1_all")
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
    marked = tidy([topk(0.7), reg1({0.001: 0.69, 0.003: 0.5}), topk(0.5, 1), reg1({0.001: 0.6, 0.003: 0.4}, 1)])
    assert set(marked[(marked["method"] == "reg1") & (marked["seed"] == 0)]["selection"]) == {"fallback"}
    got = chosen(marked, "test", {"topk": None, "reg1": "topk"}).set_index(["method", "seed"])
    assert got["fallback"].to_dict() == {("topk", 0): 0, ("topk", 1): 0, ("reg1", 0): 1, ("reg1", 1): 0}
    assert got["r2"]["reg1", 0] == got["r2"]["topk", 0] and got["r2"]["reg1", 1] == pytest.approx(0.5)
    assert got["source"]["reg1", 0] == "topk" and got["selection"]["reg1", 0] == "fallback"
    points = pd.DataFrame([{**CELL, "seed": 0, "split": "test", "curve": "probe", "x": 1, "trial": "default"}])
    points = points.assign(method="topk", y=0.25)
    curves = of_chosen(got.reset_index(), points).set_index("method")
    assert curves["y"].to_dict() == {"topk": 0.25, "reg1": 0.25}
    # A fallback on a fallback goes on; one on nothing has no row; a method that is not asked for is left out.
    twice = pd.concat([marked, marked[marked["method"] == "reg1"].assign(method="reg2")], ignore_index=True)
    got = chosen(twice, "test", {"topk": None, "reg1": "topk", "reg2": "reg1"})
    of_reg2 = got[(got["method"] == "reg2") & (got["seed"] == 0)]
    assert of_reg2["source"].tolist() == ["topk"] and of_reg2["fallback"].tolist() == [True]
    alone = chosen(marked, "test", {"reg1": None})
    assert alone[["method", "seed"]].to_numpy().tolist() == [["reg1", 1]]
