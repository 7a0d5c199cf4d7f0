"""What a plan asks for; the workflow reads plans too, without torch."""

import subprocess
import sys

import pandas as pd
import pytest
from bank.common import METHODS, RECIPE, REG1, method, plan
from scipy.stats import qmc

from sae.bank.plan import chosen_members, count, designed, length_members, members, shortlist_members
from sae.core import paths
from sae.core.errors import UserError


def selection(*rows):
    return pd.DataFrame(rows, columns=["method", "seed", "trial"]).assign(protocol="paper")


def test_methods_then_trials_then_seeds():
    sweep = {"lr": [0.01, 0.001], "lambda": [0.00010000001, 1], "momentum": [0.5]}
    swept = method("batch_topk", **REG1, options={"momentum": 0.99}, recipe={"epochs": 7}, sweep=sweep)
    found = members(plan({"topk": method(), "mine": swept, "all": method(at="mine")}, seeds=[1, 0]))
    trials = ["lambda0.0001-lr0.01", "lambda0.0001-lr0.001", "lambda1-lr0.01", "lambda1-lr0.001"]
    expected = [f"mine/{trial}-momentum0.5/seed{seed}" for trial in trials for seed in (1, 0)]
    assert [m.path.removesuffix("/sae.safetensors") for m in found] == [
        "topk/default/seed1",
        "topk/default/seed0",
        *expected,
    ]
    last = found[-1].settings
    assert (last.lam, last.lr, last.seed, last.k, last.epochs, last.options) == (1, 0.001, 0, 4, 7, {"momentum": 0.5})
    assert found[2].settings.lam == 0.0001  # What the path says.
    assert found[0].settings.epochs == RECIPE["epochs"] and found[0].settings.lam is None
    assert "log_every" not in last.identity() and last.identity()["lambda"] == 1


def test_an_at_method_takes_the_chosen_trial_of_each_seed():
    bank = plan(METHODS, seeds=[0, 1, 2])
    chosen = selection(
        ("topk", 0, "default"), ("reg1", 0, "lambda0.001"), ("reg1", 1, None), ("reg1", 2, "lambda0.0001")
    )
    found = chosen_members(bank, chosen)
    assert [str(m) for m in found] == ["reg1_all lambda0.001 seed 0", "reg1_all lambda0.0001 seed 2"]
    assert [(m.settings.lam, m.settings.mask) for m in found] == [(0.001, "all"), (0.0001, "all")]
    assert count(bank) == {"bank": 12, "bank_chosen": 3} and len(members(bank)) == 12
    with pytest.raises(UserError, match=r"chose lambda7 for reg1, which sweeps lambda0\.0001, lambda0\.001"):
        chosen_members(bank, selection(("reg1", 0, "lambda7")))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (method(sweep={"lambda": [1.0]}), "method mine: it has no option 'lambda' to sweep"),
        (method(sweep={"colour": [1]}), "it has no option 'colour' to sweep"),
        (method(recipe={"input_norm": "none"}), "input_norm is the same for all methods"),
        (method(sweep={"lr": [-1.0]}), "method mine: lr: Input should be greater than 0"),
        (method(**REG1), "penalty off_support_l1 needs lambda"),
        (method(sweep={"auxk_k": [8, 999]}), "method mine: auxk_k: Value error, 999 is larger than m = "),
    ],
)
def test_a_plan_that_cannot_be_is_said(spec, said):
    with pytest.raises(UserError, match=said):
        members(plan({"mine": spec}))


def test_a_plan_is_read_without_torch():
    code = "import sys, sae.bank.plan; assert not {'torch', 'pandas', 'scipy', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


FAIR = {"trials": 5, "design_seed": 0, "baseline": "topk", "shortlist": 3, "tolerances": [0.002, 0.005]}
FAIR |= {"steps": {"first": 10, "most": 85, "lr": [0.001, 0.01]}}
FAIR |= {"seeds": {"tuning": 0, "shortlist": [1, 2], "fresh": [3, 4]}}
COMMON = {"lr": [0.0003, 0.01], "encoder_scale": [0.1, 1.0]}
FAIR |= {"ranges": {"topk": COMMON, "reg1": COMMON | {"lambda": [0.001, 0.1]}}}


def test_every_method_is_tuned_at_the_same_points():
    fair = plan(METHODS, fair=FAIR)
    topk, reg1 = (designed(fair, name, 40) for name in ("topk", "reg1"))
    assert [{**t, "lambda": None} for t in topk] == [{**t, "lambda": None} for t in reg1]
    # Sobol's points, scrambled, in the unit cube: spread evenly in the logarithm.
    points = qmc.Sobol(8, scramble=True, rng=0).random(8)[:5, :3]
    for trial, point in zip(reg1, points, strict=True):
        ends = (COMMON["lr"], COMMON["encoder_scale"], [0.001, 0.1])
        expected = [low * (high / low) ** at for (low, high), at in zip(ends, point, strict=True)]
        assert [trial["lr"], trial["encoder_scale"], trial["lambda"]] == pytest.approx(expected, rel=0.005)
    more = designed(fair | {"fair": FAIR | {"trials": 9}}, "reg1", 40)
    assert more[:5] == reg1 and all(float(f"{v:.3g}") == v for t in more for v in t.values())
    found = [m for m in members(fair, 40) if m.protocol == "fair"]
    assert [m.method for m in found] == ["topk"] * 5 + ["reg1"] * 5
    assert {(m.settings.steps, m.settings.seed) for m in found} == {(40, 0)}
    assert {m.settings.lam for m in found[5:]} == {t["lambda"] for t in reg1} and found[0].settings.lam is None
    own = METHODS | {"topk": method(recipe={"steps": 7})}
    assert {t["steps"] for t in designed(plan(own, fair=FAIR), "topk", 40)} == {7}
    assert members(plan(METHODS)) == [m for m in members(fair, 40) if m.protocol == "paper"]


def test_what_the_rounds_of_fair_train():
    fair = plan(METHODS, fair=FAIR, seeds=[7])
    assert [(m.settings.lr, m.settings.steps) for m in length_members(fair, 20)] == [(0.001, 20), (0.01, 20)]
    name = paths.trial_name(designed(fair, "reg1", 40)[2])
    again = shortlist_members(fair, 40, [("reg1", name)])
    assert [m.path for m in again] == [f"reg1/{name}/seed{seed}/sae.safetensors" for seed in (1, 2)]
    rows = [("reg1", seed, name, tolerance) for tolerance in (0.002, 0.005) for seed in (3, 4)]
    rows += [("topk", 3, None, 0.002)]
    choice = pd.DataFrame(rows, columns=["method", "seed", "trial", "tolerance"]).assign(protocol="fair")
    paper = selection(("reg1", 7, "lambda0.001"))
    found = chosen_members(fair, pd.concat([paper, choice]), 40)
    assert [(m.method, m.settings.seed, m.protocol) for m in found] == [
        ("reg1_all", 7, "paper"),
        *((method, seed, "fair") for seed in (3, 4) for method in ("reg1", "reg1_all")),
    ]
    assert found[2].settings.mask == "all" and found[2].settings.lam == found[1].settings.lam
    # 10, 20, 40, 80 steps; 2 seeds of at most 3 + 3 + 3 trials; 2 seeds of 2 methods at 2 tolerances and an ablation.
    assert count(fair) == {"bank": 4 + 10, "bank_chosen": 1 + 2 * (4 + 1), "bank_shortlist": 18, "bank_lengths": 8}
    with pytest.raises(UserError, match="chose lr7 for reg1, whose trials are encoder_scale"):
        shortlist_members(fair, 40, [("reg1", "lr7")])
