"""What an experiment sweeps: values, and a grid for each k, or the line to write."""

import re

import pytest
import yaml
from config.common import RAW, config_with, refusal_of
from sae_workflow import settings


@pytest.mark.parametrize(
    ("sweep", "key", "pattern"),
    [
        (
            {"reg1": {"lambda": [-0.1]}},
            "sweep.reg1.lambda.0",
            "-0.1 is too small: it must be above 0",
        ),
        (
            {"reg1": {"lambda": [0.001, 0.0010000001]}},
            "sweep.reg1.lambda",
            "both written 0.001",
        ),
        (
            {"reg1": {"lambda": {"k9": [0.1]}}},
            "sweep.reg1.lambda",
            "'k9'|no grid for k8",
        ),
        ({"reg1": {"mask": ["all"]}}, "sweep.reg1", "'mask'.*allowed"),
        (
            {"reg1_all": {"lambda": [0.1]}},
            "sweep.reg1_all",
            "that of reg1: leave it out",
        ),
        ({"topk": {"m": [4, 64]}}, "k", "k = 8 is larger than m = 4"),
        (
            {"reg1": {"lambda": [0.1], "lr": [yaml.safe_load(".nan")]}},
            "sweep.reg1.lr.0",
            "nan .*finite",
        ),
        ({}, "methods", "reg1 has the penalty off_support_l1, but no lambda"),
    ],
)
def test_a_mistake_in_a_sweep(sweep, key, pattern):
    before = RAW["experiments"]["smoke"]["sweep"]
    message = refusal_of(
        config_with({"experiments/smoke/sweep": before | sweep if sweep else {}})
    )
    line = next(
        (line for line in message.splitlines() if f"experiments.smoke.{key}:" in line),
        "",
    )
    assert re.search(pattern, line), message


@pytest.mark.parametrize(
    ("k", "parent", "missing"),
    [([16], "demo", "k16"), ([8, 64], "demo", "k64"), ([32, 4], "mine", "k4")],
)
def test_a_grid_that_an_experiment_does_not_take_over_is_written_for_the_user(
    k, parent, missing
):
    entries = {
        "experiments/mine": {"extends": "demo", "k": [8]},
        "experiments/theirs": {"extends": parent, "k": k},
    }
    message = refusal_of(config_with(entries))
    assert message.count("config key") == 1, message
    pattern = (
        rf"experiments\.theirs\.sweep: no grid of lambda for {missing}: write `(.*)` "
        "here.* \\(inherited from demo\\)"
    )
    written = re.search(pattern, message)
    assert written, message
    entries["experiments/theirs"] |= yaml.safe_load(f"{{{written[1]}}}")
    sweep = settings.load(config_with(entries)).experiments["theirs"].sweep
    assert [*sweep["reg1"]["lambda"]] == [f"k{number}" for number in k]
