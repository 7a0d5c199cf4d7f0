"""The values that an experiment sweeps."""

import re

import pytest
import yaml
from config.common import RAW, config_with, refusal_of


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
