"""What a plan asks for; the workflow reads plans too, without torch."""

import subprocess
import sys

import pandas as pd
import pytest
from bank.common import METHODS, RECIPE, REG1, method, plan

from sae.bank.plan import chosen_members, count, members
from sae.core.errors import UserError


def selection(*rows):
    return pd.DataFrame(rows, columns=["method", "seed", "trial"])


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
    assert count(bank) == (12, 3) and len(members(bank)) == 12
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
