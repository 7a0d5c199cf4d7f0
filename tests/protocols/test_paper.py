"""The rule of protocol `paper`, on planted validation scores."""

import math

import pandas as pd
import pytest
from bank.common import METHODS as OF_A_BANK
from bank.common import plan

from sae.bank.plan import PlannedMethod
from sae.core.errors import UserError
from sae.protocols import paper
from sae.protocols._history import History

LAMBDA = {"lambda": [0.1]}
TOPK = PlannedMethod(objective="topk")
METHODS = {
    "topk": TOPK,
    "reg1": PlannedMethod(objective="topk", against="topk", sweep=LAMBDA),
}


def validation(method, trials, seed=0, diverged=()):
    """Rows of one method: {trial's name: (lambda, R^2)}."""
    rows = []
    for trial, (lam, r2) in trials.items():
        key = {"method": method, "trial": trial, "seed": seed, "lambda": lam}
        ok = trial not in diverged
        rows.append(
            key | {"status": "ok" if ok else "diverged", "r2": r2 if ok else math.nan}
        )
    return pd.DataFrame(rows)


def topk(r2, seed=0):
    return validation("topk", {"default": (None, r2)}, seed)


def reg1(grid, seed=0, diverged=()):
    return validation(
        "reg1",
        {f"lambda{lam:g}": (lam, r2) for lam, r2 in grid.items()},
        seed,
        diverged,
    )


def choices(rows, methods=METHODS):
    """{(method, seed): (trial, status)}."""
    out = paper.chosen(pd.concat(rows, ignore_index=True), methods)
    return {(row["method"], row["seed"]): (row["trial"], row["status"]) for row in out}


def test_largest_acceptable_lambda_also_when_a_smaller_one_is_not():
    got = choices([topk(0.7), reg1({0.001: 0.71, 0.003: 0.69, 0.01: 0.705, 0.03: 0.6})])
    assert got == {
        ("topk", 0): ("default", "chosen"),
        ("reg1", 0): ("lambda0.01", "chosen"),
    }


def test_an_equal_r2_is_acceptable_and_the_largest_of_the_sweep_is_an_edge():
    assert choices([topk(0.7), reg1({0.001: 0.71, 0.003: 0.7})])["reg1", 0] == (
        "lambda0.003",
        "edge",
    )
    below = math.nextafter(0.7, 0)
    assert choices([topk(0.7), reg1({0.001: 0.7, 0.003: below})])["reg1", 0] == (
        "lambda0.001",
        "chosen",
    )


def test_diverged_is_never_chosen_and_a_diverged_largest_is_still_the_edge():
    diverged = reg1({0.001: 0.71, 0.003: 0.9}, diverged=["lambda0.003"])
    assert choices([topk(0.7), diverged])["reg1", 0] == ("lambda0.001", "chosen")
    lost = reg1({0.001: 0.71}, diverged=["lambda0.001"])
    assert choices([topk(0.7), lost])["reg1", 0] == (None, "fallback")


def test_each_seed_has_its_own_bar_and_the_file_says_what_was_compared():
    rows = [
        topk(0.7),
        topk(0.5, seed=1),
        reg1({0.001: 0.6, 0.003: 0.4}),
        reg1({0.001: 0.6, 0.003: 0.4}, seed=1),
    ]
    out = pd.DataFrame(paper.chosen(pd.concat(rows, ignore_index=True), METHODS))
    assert list(out.columns) == [
        "method",
        "seed",
        "tolerance",
        "trial",
        "role",
        "status",
        "r2",
        "bar",
    ]
    of_reg1 = out[out["method"] == "reg1"].set_index("seed")
    assert of_reg1["status"].to_dict() == {0: "fallback", 1: "chosen"}
    assert (
        pd.isna(of_reg1["trial"][0])
        and math.isnan(of_reg1["r2"][0])
        and of_reg1["r2"][1] == 0.6
    )
    assert of_reg1["bar"].to_dict() == {0: 0.7, 1: 0.5}
    assert out[out["method"] == "topk"]["bar"].isna().all()


def test_of_several_trials_with_the_largest_lambda_the_best_is_chosen_and_of_equals_the_first():
    grid = {
        (0.001, 0.1): 0.9,
        (0.003, 0.1): 0.71,
        (0.003, 0.2): 0.72,
        (0.003, 0.3): 0.72,
        (0.01, 0.1): 0.6,
    }
    rows = validation(
        "reg1", {f"lambda{lam:g}-lr{lr:g}": (lam, r2) for (lam, lr), r2 in grid.items()}
    )
    both = PlannedMethod(
        objective="topk", against="topk", sweep={"lambda": [0.1], "lr": [0.1]}
    )
    methods = {"topk": METHODS["topk"], "reg1": both}
    assert choices([topk(0.7), rows], methods)["reg1", 0] == (
        "lambda0.003-lr0.2",
        "chosen",
    )


def test_a_sweep_without_lambda_takes_the_best_acceptable_and_has_no_edge():
    methods = {
        "topk": METHODS["topk"],
        "other": PlannedMethod(objective="topk", against="topk", sweep={"lr": [0.1]}),
    }
    for lam in (None, 0.003):  # Without a penalty, and with one whose lambda is fixed.
        rows = validation(
            "other", {"lr0.1": (lam, 0.71), "lr0.2": (lam, 0.73), "lr0.3": (lam, 0.72)}
        )
        assert choices([topk(0.7), rows], methods)["other", 0] == ("lr0.2", "chosen")
        assert choices([topk(0.8), rows], methods)["other", 0] == (None, "fallback")


def test_without_a_sweep_or_without_against_there_is_no_bar_to_reach():
    swept, alone = (
        PlannedMethod(objective="topk", sweep={"lr": [0.1]}),
        PlannedMethod(objective="x", against="topk"),
    )
    methods = {"topk": swept, "batch_topk": alone}
    tuned = validation(
        "topk", {"lr0.1": (None, 0.7), "lr0.2": (None, 0.8), "lr0.3": (None, 0.75)}
    )
    given = validation("batch_topk", {"default": (None, 0.1)})
    got = choices([given, tuned], methods)
    assert got == {
        ("topk", 0): ("lr0.2", "chosen"),
        ("batch_topk", 0): ("default", "chosen"),
    }


def test_the_bar_of_what_is_against_a_fallback_is_that_fallbacks_own_bar():
    methods = METHODS | {
        "reg2": PlannedMethod(objective="topk", against="reg1", sweep=LAMBDA)
    }
    reg2 = reg1({0.001: 0.73, 0.003: 0.72, 0.01: 0.69}).assign(method="reg2")
    assert choices([topk(0.7), reg1({0.001: 0.6}), reg2], methods)["reg2", 0] == (
        "lambda0.003",
        "chosen",
    )
    # Against a baseline that diverged nothing is acceptable.
    lost = topk(0.7).assign(status="diverged", r2=math.nan)
    assert choices([lost, reg1({0.001: 0.6})])["reg1", 0] == (None, "fallback")


def test_a_baseline_that_is_not_there_is_named():
    with pytest.raises(UserError, match="topk with seed 1"):
        choices([topk(0.7), reg1({0.001: 0.7}, seed=1)])


def history(of, trained, r2):
    """What was trained, with a planted R^2, a function of an SAE; None: it diverged."""
    columns = ["method", "trial", "seed", "lambda", "r2", "status"]
    about = [
        (m.method, m.name, m.settings.seed, m.settings.lam, r2(m)) for m in trained
    ]
    rows = [(*row, "diverged" if row[-1] is None else "ok") for row in about]
    return History(
        of,
        paper.Options(),
        {m.path: m for m in trained},
        pd.DataFrame(rows, columns=columns),
    )


def test_trials_come_first_baselines_before_all_then_the_at_methods_at_each_seeds_choice():
    of = plan(OF_A_BANK, seeds=[0, 1, 2])
    first = paper.next(history(of, [], None))
    assert [m.method for m in first] == ["topk"] * 3 + ["batch_topk"] * 3 + ["reg1"] * 6
    # Seed 0 takes the larger lambda, seed 1 none, seed 2 the smaller one.
    lost = {(0.0001, 1), (0.001, 1), (0.001, 2)}
    done = history(
        of, first, lambda m: 0.5 if (m.settings.lam, m.settings.seed) in lost else 0.7
    )
    at = [m for m in paper.next(done) if m.path not in done.trained]
    assert [str(m) for m in at] == [
        "reg1_all lambda0.001 seed 0",
        "reg1_all lambda0.0001 seed 2",
    ]
    assert [(m.settings.lam, m.settings.mask) for m in at] == [
        (0.001, "all"),
        (0.0001, "all"),
    ]
    whole = history(
        of,
        [*first, *at],
        lambda m: 0.5 if (m.settings.lam, m.settings.seed) in lost else 0.7,
    )
    assert {m.path for m in paper.next(whole)} == set(whole.trained)
    choice = paper.choose(whole)
    # What is trained at another one's choice gets no full scores; nor does what was not chosen.
    of_reg1 = {
        (trial, seed) for method, trial, seed in choice.judged if method == "reg1"
    }
    assert of_reg1 == {("lambda0.001", 0), ("lambda0.0001", 2)}
    assert len(choice.judged) == 8 and not any(
        method == "reg1_all" for method, _, _ in choice.judged
    )
    sizes = paper.at_most(of, paper.Options())
    assert (sizes.trials, sizes.after, sizes.judged) == (12, 3, 9) and sizes.by_method[
        "reg1"
    ] == 6


def test_a_baseline_that_diverged_fails_its_cell():
    of = plan(OF_A_BANK)
    trials = paper.next(history(of, [], None))
    lost = history(of, trials, lambda m: None if m.method == "topk" else 0.7)
    with pytest.raises(
        UserError, match=r"k4: the baseline diverged \(seed 0\): .* with topk; lower lr"
    ):
        paper.next(lost)
    others = history(of, trials, lambda m: None if m.settings.lam == 0.001 else 0.7)
    assert [row["trial"] for row in paper.choose(others).rows] == [
        "default",
        "default",
        "lambda0.0001",
    ]
