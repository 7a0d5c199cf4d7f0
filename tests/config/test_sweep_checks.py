"""A sweep by k has a grid for each k, or the line to write instead."""

import re

import pytest
import yaml
from config.common import config_with, refusal_of
from sae_workflow import settings


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
