"""A plan says which SAEs a cell is asked to train."""

import subprocess
import sys

import pytest
from bank.common import RECIPE, REG1, method, plan

from sae.bank.plan import Plan
from sae.core.errors import UserError
from sae.protocols import _sweep


def members_of(cell_plan):
    """Return what protocol `paper` asks of a plan before it has chosen anything."""
    return _sweep.swept_members(cell_plan, "paper")


def plan_with_a_sweep():
    """Return a plan of a baseline, of a method with four trials, and of one `at` it."""
    sweep = {"lr": [0.01, 0.001], "lambda": [0.00010000001, 1], "momentum": [0.5]}
    swept = method(
        "batch_topk",
        **REG1,
        options={"momentum": 0.99},
        recipe={"epochs": 7},
        sweep=sweep,
    )
    methods = {"topk": method(), "mine": swept, "all": method(at="mine")}
    return plan(methods, seeds=[1, 0])


def test_members_are_listed_by_method_then_trial_then_seed():
    trials = [
        "lambda0.0001-lr0.01",
        "lambda0.0001-lr0.001",
        "lambda1-lr0.01",
        "lambda1-lr0.001",
    ]
    expected = ["topk/default/seed1", "topk/default/seed0"]
    for trial in trials:
        for seed in (1, 0):
            expected.append(f"mine/{trial}-momentum0.5/seed{seed}")

    paths = [member.path for member in members_of(plan_with_a_sweep())]
    assert paths == [f"{folder}/sae.safetensors" for folder in expected]


def test_a_member_trains_with_the_recipe_what_its_method_sets_and_what_its_trial_says():
    baseline, _, *swept = [
        member.settings for member in members_of(plan_with_a_sweep())
    ]
    assert baseline.epochs == RECIPE["epochs"]
    assert baseline.lam is None

    last = swept[-1]
    assert (last.seed, last.k, last.epochs) == (0, 4, 7)
    assert (last.lam, last.lr, last.options) == (1, 0.001, {"momentum": 0.5})
    assert last.identity()["lambda"] == 1
    assert "log_every" not in last.identity()


def test_a_swept_value_is_rounded_to_what_its_path_prints():
    assert members_of(plan_with_a_sweep())[2].settings.lam == 0.0001


@pytest.mark.parametrize(
    ("planned_method", "message"),
    [
        (
            method(sweep={"lambda": [1.0]}),
            "method mine: it has no option 'lambda' to sweep",
        ),
        (
            method(sweep={"input_norm": ["none"]}),
            "it has no option 'input_norm' to sweep",
        ),
        (method(**REG1), "penalty off_support_l1 needs lambda"),
        (
            method(sweep={"auxk_k": [8, 999]}),
            "method mine: auxk_k: 999 is larger than m = ",
        ),
    ],
)
def test_a_method_that_cannot_be_trained_is_refused_with_its_name(
    planned_method, message
):
    with pytest.raises(UserError, match=message):
        members_of(plan({"mine": planned_method}))


def test_a_plan_is_the_same_after_it_has_travelled_as_json():
    methods = {"topk": method(), "mine": method(**REG1, sweep={"lambda": [0.1, 1.0]})}
    sent = plan(methods, seeds=[3])
    assert Plan.model_validate_json(sent.model_dump_json()) == sent


def test_plans_and_protocols_are_imported_without_torch():
    code = (
        "import sys, sae.bank.plan, sae.protocols.paper, sae.protocols.tuned; "
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
