"""The rule of protocol `paper`, on planted validation scores."""

import math

import pandas as pd
import pytest
from bank.common import METHODS as METHODS_OF_BANK
from bank.common import plan

from sae.bank.plan import Method
from sae.core.errors import UserError
from sae.protocols import _largest_lambda, paper
from sae.protocols._history import History

LAMBDA = {"lambda": [0.1]}
TOPK = Method(objective="topk")
METHODS = {
    "topk": TOPK,
    "reg1": Method(objective="topk", against="topk", sweep=LAMBDA),
}


def validation_rows(method, trials, seed=0, diverged=()):
    """Return rows of validation of one method and seed.

    Args:
        trials: {trial's name: (lambda, R^2)}.
        diverged: Names of trials that diverged.
    """
    rows = []
    for trial, (lam, r2) in trials.items():
        is_diverged = trial in diverged
        rows.append(
            {
                "method": method,
                "trial": trial,
                "seed": seed,
                "lambda": lam,
                "status": "diverged" if is_diverged else "ok",
                "r2": math.nan if is_diverged else r2,
            }
        )
    return pd.DataFrame(rows)


def topk(r2, seed=0):
    """Return the row of the baseline's one trial."""
    return validation_rows("topk", {"default": (None, r2)}, seed)


def reg1(r2_by_lambda, seed=0, diverged=()):
    """Return the rows of a sweep of lambda."""
    trials = {f"lambda{lam:g}": (lam, r2) for lam, r2 in r2_by_lambda.items()}
    return validation_rows("reg1", trials, seed, diverged)


def choose_trials(tables, methods=METHODS):
    """Return {(method, seed): (trial, status)} of what is chosen of several tables."""
    rows = _largest_lambda.chosen(pd.concat(tables, ignore_index=True), methods)
    return {(row["method"], row["seed"]): (row["trial"], row["status"]) for row in rows}


def test_largest_acceptable_lambda_also_when_a_smaller_one_is_not():
    sweep = reg1({0.001: 0.71, 0.003: 0.69, 0.01: 0.705, 0.03: 0.6})
    assert choose_trials([topk(0.7), sweep]) == {
        ("topk", 0): ("default", "chosen"),
        ("reg1", 0): ("lambda0.01", "chosen"),
    }


def test_an_equal_r2_is_acceptable_and_the_largest_of_the_sweep_is_an_edge():
    chosen = choose_trials([topk(0.7), reg1({0.001: 0.71, 0.003: 0.7})])
    assert chosen["reg1", 0] == ("lambda0.003", "edge")
    just_below = math.nextafter(0.7, 0)
    chosen = choose_trials([topk(0.7), reg1({0.001: 0.7, 0.003: just_below})])
    assert chosen["reg1", 0] == ("lambda0.001", "chosen")


def test_diverged_is_never_chosen_and_a_diverged_largest_is_still_the_edge():
    largest_lost = reg1({0.001: 0.71, 0.003: 0.9}, diverged=["lambda0.003"])
    chosen = choose_trials([topk(0.7), largest_lost])
    assert chosen["reg1", 0] == ("lambda0.001", "chosen")
    all_lost = reg1({0.001: 0.71}, diverged=["lambda0.001"])
    chosen = choose_trials([topk(0.7), all_lost])
    assert chosen["reg1", 0] == (None, "fallback")


def test_each_seed_has_its_own_bar_and_the_file_says_what_was_compared():
    tables = [
        topk(0.7),
        topk(0.5, seed=1),
        reg1({0.001: 0.6, 0.003: 0.4}),
        reg1({0.001: 0.6, 0.003: 0.4}, seed=1),
    ]
    rows = _largest_lambda.chosen(pd.concat(tables, ignore_index=True), METHODS)
    selection = pd.DataFrame(rows)
    assert list(selection.columns) == [
        "method",
        "seed",
        "tolerance",
        "trial",
        "role",
        "status",
        "r2",
        "bar",
    ]
    reg1_by_seed = selection[selection["method"] == "reg1"].set_index("seed")
    assert reg1_by_seed["status"].to_dict() == {0: "fallback", 1: "chosen"}
    assert pd.isna(reg1_by_seed["trial"][0])
    assert math.isnan(reg1_by_seed["r2"][0])
    assert reg1_by_seed["r2"][1] == 0.6
    assert reg1_by_seed["bar"].to_dict() == {0: 0.7, 1: 0.5}
    assert selection[selection["method"] == "topk"]["bar"].isna().all()


def test_of_trials_with_the_largest_lambda_the_best_is_chosen_and_of_equals_the_first():
    r2_by_lambda_and_lr = {
        (0.001, 0.1): 0.9,
        (0.003, 0.1): 0.71,
        (0.003, 0.2): 0.72,
        (0.003, 0.3): 0.72,
        (0.01, 0.1): 0.6,
    }
    trials = {
        f"lambda{lam:g}-lr{lr:g}": (lam, r2)
        for (lam, lr), r2 in r2_by_lambda_and_lr.items()
    }
    sweeps_both = Method(
        objective="topk", against="topk", sweep={"lambda": [0.1], "lr": [0.1]}
    )
    methods = {"topk": TOPK, "reg1": sweeps_both}
    chosen = choose_trials([topk(0.7), validation_rows("reg1", trials)], methods)
    assert chosen["reg1", 0] == ("lambda0.003-lr0.2", "chosen")


@pytest.mark.parametrize("lam", [None, 0.003], ids=["no penalty", "fixed lambda"])
def test_a_sweep_without_lambda_takes_the_best_acceptable_and_has_no_edge(lam):
    sweeps_lr = Method(objective="topk", against="topk", sweep={"lr": [0.1]})
    methods = {"topk": TOPK, "other": sweeps_lr}
    other = validation_rows(
        "other", {"lr0.1": (lam, 0.71), "lr0.2": (lam, 0.73), "lr0.3": (lam, 0.72)}
    )
    chosen = choose_trials([topk(0.7), other], methods)
    assert chosen["other", 0] == ("lr0.2", "chosen")
    chosen = choose_trials([topk(0.8), other], methods)
    assert chosen["other", 0] == (None, "fallback")


def test_without_a_sweep_or_without_against_there_is_no_bar_to_reach():
    methods = {
        "topk": Method(objective="topk", sweep={"lr": [0.1]}),
        "batch_topk": Method(objective="batch_topk", against="topk"),
    }
    swept = validation_rows(
        "topk", {"lr0.1": (None, 0.7), "lr0.2": (None, 0.8), "lr0.3": (None, 0.75)}
    )
    not_swept = validation_rows("batch_topk", {"default": (None, 0.1)})
    assert choose_trials([not_swept, swept], methods) == {
        ("topk", 0): ("lr0.2", "chosen"),
        ("batch_topk", 0): ("default", "chosen"),
    }


def test_the_bar_of_what_is_against_a_fallback_is_that_fallbacks_own_bar():
    reg2_against_reg1 = Method(objective="topk", against="reg1", sweep=LAMBDA)
    methods = METHODS | {"reg2": reg2_against_reg1}
    reg2 = reg1({0.001: 0.73, 0.003: 0.72, 0.01: 0.69}).assign(method="reg2")
    chosen = choose_trials([topk(0.7), reg1({0.001: 0.6}), reg2], methods)
    assert chosen["reg2", 0] == ("lambda0.003", "chosen")


def test_against_a_baseline_that_diverged_nothing_is_acceptable():
    diverged = topk(0.7).assign(status="diverged", r2=math.nan)
    chosen = choose_trials([diverged, reg1({0.001: 0.6})])
    assert chosen["reg1", 0] == (None, "fallback")


def test_a_baseline_that_is_not_there_is_named():
    with pytest.raises(UserError, match="topk with seed 1"):
        choose_trials([topk(0.7), reg1({0.001: 0.7}, seed=1)])


def make_history(cell, trained, r2_of):
    """Return the history of a cell with planted scores.

    Args:
        cell: Its plan.
        trained: The SAEs that were trained.
        r2_of: Gives the R^2 of an SAE; None if it diverged.
    """
    columns = ["method", "trial", "seed", "lambda", "r2", "status"]
    rows = []
    for member in trained:
        r2 = r2_of(member)
        status = "diverged" if r2 is None else "ok"
        settings = member.settings
        rows.append(
            (member.method, member.name, settings.seed, settings.lam, r2, status)
        )
    return History(
        cell,
        paper.Options(),
        {member.path: member for member in trained},
        pd.DataFrame(rows, columns=columns),
    )


def test_rows_of_some_saes_are_in_the_order_of_the_table(cell_of_three_seeds):
    trials = paper.next(make_history(cell_of_three_seeds, [], None))
    history = make_history(cell_of_three_seeds, trials, r2_by_seed)
    rows = history.rows_of([trials[3], trials[1]])
    assert [*rows["trial"]] == [trials[1].name, trials[3].name]
    assert [*rows["seed"]] == [trials[1].settings.seed, trials[3].settings.seed]
    assert history.rows_of([]).empty


def r2_by_seed(member):
    """Return .5 of some trials of reg1 and .7 of all else.

    So seed 0 chooses the larger lambda, seed 1 none, seed 2 the smaller one.
    """
    too_low = {(0.0001, 1), (0.001, 1), (0.001, 2)}
    return 0.5 if (member.settings.lam, member.settings.seed) in too_low else 0.7


@pytest.fixture
def cell_of_three_seeds():
    """The plan of a cell with a baseline, a sweep, an ablation and another method."""
    return plan(METHODS_OF_BANK, seeds=[0, 1, 2])


def test_trials_come_first_baselines_before_all(cell_of_three_seeds):
    trials = paper.next(make_history(cell_of_three_seeds, [], None))
    methods = ["topk"] * 3 + ["batch_topk"] * 3 + ["reg1"] * 6
    assert [member.method for member in trials] == methods


def test_at_methods_train_at_each_seeds_choice(cell_of_three_seeds):
    trials = paper.next(make_history(cell_of_three_seeds, [], None))
    history = make_history(cell_of_three_seeds, trials, r2_by_seed)
    at_members = [m for m in paper.next(history) if m.path not in history.trained]
    assert [str(member) for member in at_members] == [
        "reg1_all lambda0.001 seed 0",
        "reg1_all lambda0.0001 seed 2",
    ]
    assert [(m.settings.lam, m.settings.mask) for m in at_members] == [
        (0.001, "all"),
        (0.0001, "all"),
    ]

    everything = [*trials, *at_members]
    history = make_history(cell_of_three_seeds, everything, r2_by_seed)
    assert {member.path for member in paper.next(history)} == set(history.trained)


def test_what_was_chosen_gets_full_scores_and_at_methods_do_not(cell_of_three_seeds):
    trials = paper.next(make_history(cell_of_three_seeds, [], None))
    at_members = paper.next(make_history(cell_of_three_seeds, trials, r2_by_seed))
    history = make_history(cell_of_three_seeds, at_members, r2_by_seed)
    judged = paper.choose(history).chosen
    judged_reg1 = {(trial, seed) for method, trial, seed in judged if method == "reg1"}
    assert judged_reg1 == {("lambda0.001", 0), ("lambda0.0001", 2)}
    assert len(judged) == 8
    assert "reg1_all" not in {method for method, _, _ in judged}


def test_costs_reckon_with_every_trial_and_every_seed_of_at_methods(
    cell_of_three_seeds,
):
    sizes = paper.at_most(cell_of_three_seeds, paper.Options())
    assert (sizes.trials, sizes.after, sizes.chosen) == (12, 3, 9)
    assert sizes.by_method["reg1"] == 6


def test_a_baseline_that_diverged_fails_its_cell():
    cell = plan(METHODS_OF_BANK)
    trials = paper.next(make_history(cell, [], None))
    history = make_history(
        cell, trials, lambda member: None if member.method == "topk" else 0.7
    )
    message = r"k4: the baseline diverged \(seed 0\): .* with topk; lower lr"
    with pytest.raises(UserError, match=message):
        paper.next(history)
