"""What a plan asks for; the workflow reads plans too, without torch."""

import subprocess
import sys

import pytest
from bank.common import RECIPE, REG1, method, plan

from sae.core.errors import UserError
from sae.protocols import paper


def members(of):
    return paper._trials(of)


def test_methods_then_trials_then_seeds():
    sweep = {"lr": [0.01, 0.001], "lambda": [0.00010000001, 1], "momentum": [0.5]}
    swept = method(
        "batch_topk",
        **REG1,
        options={"momentum": 0.99},
        recipe={"epochs": 7},
        sweep=sweep,
    )
    found = members(
        plan({"topk": method(), "mine": swept, "all": method(at="mine")}, seeds=[1, 0])
    )
    trials = [
        "lambda0.0001-lr0.01",
        "lambda0.0001-lr0.001",
        "lambda1-lr0.01",
        "lambda1-lr0.001",
    ]
    expected = [
        f"mine/{trial}-momentum0.5/seed{seed}" for trial in trials for seed in (1, 0)
    ]
    assert [m.path.removesuffix("/sae.safetensors") for m in found] == [
        "topk/default/seed1",
        "topk/default/seed0",
        *expected,
    ]
    last = found[-1].settings
    assert (last.lam, last.lr, last.seed, last.k, last.epochs, last.options) == (
        1,
        0.001,
        0,
        4,
        7,
        {"momentum": 0.5},
    )
    assert found[2].settings.lam == 0.0001  # What the path says.
    assert (
        found[0].settings.epochs == RECIPE["epochs"] and found[0].settings.lam is None
    )
    assert "log_every" not in last.identity() and last.identity()["lambda"] == 1


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            method(sweep={"lambda": [1.0]}),
            "method mine: it has no option 'lambda' to sweep",
        ),
        (method(sweep={"colour": [1]}), "it has no option 'colour' to sweep"),
        (
            method(recipe={"input_norm": "none"}),
            "input_norm is the same for all methods",
        ),
        (
            method(sweep={"lr": [-1.0]}),
            "method mine: lr: -1.0 should be greater than 0",
        ),
        (method(**REG1), "penalty off_support_l1 needs lambda"),
        (
            method(sweep={"auxk_k": [8, 999]}),
            "method mine: auxk_k: 999 is larger than m = ",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_said(spec, said):
    with pytest.raises(UserError, match=said):
        members(plan({"mine": spec}))


def test_a_plan_travels_as_json_and_is_read_without_torch():
    of = plan(
        {"topk": method(), "mine": method(**REG1, sweep={"lambda": [0.1, 1.0]})},
        seeds=[3],
    )
    assert type(of).model_validate_json(of.model_dump_json()) == of
    code = "import sys, sae.bank.plan, sae.protocols.paper, sae.protocols.fair; "
    code += "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
