"""What the protocols `fair`, `listed` and a user's own need of an experiment."""

import re

import pytest
from config.common import RAW, REMOVED, config_with, refusal_of
from sae_workflow import settings
from support.errors import assert_names

PROTOCOL = """
from pydantic import Field
from sae.core.errors import Problem
from sae.core.options import Options as Base

METRICS = ()
CHOOSES = False


class Options(Base):
    weights: dict[str, float] = Field({})


def config_problems(use, options):
    if len(use.datasets) > 1:
        yield Problem("", "one dataset at a time")
    for method, weight in options.weights.items():
        yield from use.check_values(f"weights.{method}", method, {"lr": [weight]})


def next(history): ...
def choose(history): ...
def at_most(plan, options): ...
"""


def test_a_protocol_says_what_it_needs_of_an_experiment(tmp_path):
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols/mine.py").write_text(PROTOCOL)
    experiment = RAW["experiments"]["smoke"] | {
        "datasets": ["fashion_mnist_smoke", "emoji"],
        "protocols": {"mine": {"weights": {"reg1": -1.0}}, "listed": {}},
    }
    written = {
        "extensions": str(tmp_path),
        "protocols/mine": {},
        "experiments/smoke": experiment,
    }
    message = refusal_of(config_with(written))
    key = "config key experiments.smoke.protocols"
    no_choice, of_protocol, of_value = message.splitlines()[1:]
    assert_names(no_choice, f"{key}:", "mine and listed", "add paper or fair")
    # The protocol's own words, below its own key.
    assert of_protocol == f"{key}.mine: one dataset at a time"
    assert_names(of_value, f"{key}.mine.weights.reg1.lr.0:", "-1.0 is too small")

    experiment |= {"datasets": ["emoji"], "protocols": {"paper": {}, "mine": {}}}
    settings.load(config_with(written | {"experiments/smoke": experiment}))


FAIR = "experiments/paper_fair/protocols/fair"

LISTED = "experiments/demo/protocols/listed/trials"

POINT = {"lr": 0.001, "encoder_scale": 0.1, "auxk_alpha": 0.3}

GRID = {
    "most_steps": RAW["experiments"]["paper_fair"]["protocols"]["fair"]["most_steps"],
    "points": [POINT, POINT | {"lr": 0.002, "alone": True}],
    "own_values": {
        "reg1": {"lambda": [0.1, 0.2]},
        "reg2": {"lambda": {"k32": [1, 2], "k64": [2, 4], "k128": [3, 6]}},
    },
}


def test_a_grid_of_points_is_right():
    experiments = settings.load(config_with({FAIR: GRID})).experiments
    assert experiments["paper_fair"].protocols["fair"] == GRID


@pytest.mark.parametrize(
    ("written", "key", "pattern"),
    [
        ({"points": [POINT, POINT]}, "points", "lr 0.001, .* is there twice"),
        ({"points": [POINT | {"alone": True}]}, "points", "all are `alone`"),
        ({"points": 6}, "own_values", "for points that are listed"),
        ({"refined": 2}, "refined", "none is drawn; leave it out"),
        (
            {"ranges": {"reg1": {"lambda": [1, 2]}}},
            "ranges",
            "none is drawn; write `own_values",
        ),
        (
            {"own_values": {"reg1": {"lambda": [1]}}},
            "own_values.reg2",
            "but no list of lambda",
        ),
        (
            {"own_values": GRID["own_values"] | {"reg2": {"lambda": {"k16": [1]}}}},
            "own_values.reg2.lambda",
            "no list for k32",
        ),
        (
            {"own_values": GRID["own_values"] | {"reg1": {"lambda": [0.1, 0.10004]}}},
            "own_values.reg1.lambda",
            r"0\.1 and 0\.10004 are both 0\.1 in three digits",
        ),
        (
            {
                "own_values": GRID["own_values"]
                | {"reg2": {"lambda": {"k32": [1, 2], "k33": [1, 2]}}}
            },
            "own_values.reg2.lambda",
            "'k33' is not known; allowed: .*k32",
        ),
        (
            {"own_values": GRID["own_values"] | {"reg1": {"lambda": [0.1]}}},
            "fair.points",
            "at k = 32 reg1 has 1 trials, and topk has 2",
        ),
    ],
)
def test_a_mistake_in_a_grid_of_points(written, key, pattern):
    message = refusal_of(config_with({FAIR: GRID | written}))
    assert any(
        f"{key}:" in line and re.search(pattern, line) for line in message.splitlines()
    ), message


@pytest.mark.parametrize(
    ("path", "value", "key", "pattern"),
    [
        (
            f"{FAIR}/most_steps/openimages",
            REMOVED,
            "protocols.fair.most_steps",
            "for openimages",
        ),
        (
            f"{FAIR}/most_steps/openimages",
            99,
            "most_steps.openimages",
            "99 is less than .*first",
        ),
        (
            f"{FAIR}/most_steps",
            REMOVED,
            "fair.most_steps",
            "how many steps reg1 may train, which sets none",
        ),
        (
            f"{FAIR}/ranges/reg1",
            REMOVED,
            "protocols.fair.ranges.reg1",
            "off_support_l1, but no range of lambda",
        ),
        (
            f"{FAIR}/ranges/reg1/lambda",
            {"k32": [0.1, 0.1]},
            "ranges.reg1.lambda.k32",
            "is no range; write",
        ),
        (
            f"{FAIR}/ranges/reg1/lambda",
            {"k64": [0.1, 1], "k128": [0.1, 1]},
            "ranges.reg1.lambda",
            "no range for k32",
        ),
        (f"{FAIR}/ranges/topk", {"lr": [0.1, 1]}, "ranges.topk", "'lr' is not known"),
        (
            f"{FAIR}/ranges/topk",
            {"auxk_k": [2, 9]},
            "ranges.topk.auxk_k",
            "whole number.*sweep it",
        ),
        (
            f"{FAIR}/ranges/reg1/lambda",
            {"k32": [0.1, 1], "k33": [0.1, 1]},
            "experiments.paper_fair.protocols.fair.ranges.reg1.lambda",
            "'k33' is not known",
        ),
        (
            "training/paper/tied",
            True,
            "experiments.paper_fair.protocols.fair",
            "is tied: its encoder has no scale",
        ),
        (
            LISTED,
            {"topk": [{"lr": 1e300}]},
            "listed.trials.topk.lr.0",
            "1e\\+300 should be at most",
        ),
        (
            "training/small",
            RAW["training"]["small"] | {"tied": True, "encoder_scale": 0.5},
            "encoder_scale",
            "transpose; set encoder_scale: 1",
        ),
        (
            "protocols/fair/fresh",
            [0, 3],
            "protocols.fair.fresh",
            "0 is the seed of `tuning` too",
        ),
        ("protocols/fair/lr", [0.01, 0.001], "protocols.fair.lr", "is no range; write"),
        (
            "experiments/demo/protocols",
            {"listed": {}},
            "demo.protocols",
            "chooses nothing; add paper or fair",
        ),
        (
            "methods/reg2/epochs",
            3,
            "experiments.study.methods",
            "epochs of reg2 would change nothing; give it steps",
        ),
        (
            "experiments/smoke",
            RAW["experiments"]["smoke"] | {"methods": ["pca"], "sweep": {}},
            "methods",
            "all of them are c",
        ),
    ],
)
def test_a_mistake_in_what_is_tuned(path, value, key, pattern):
    message = refusal_of(config_with({path: value}))
    assert any(
        f"{key}:" in line and re.search(pattern, line) for line in message.splitlines()
    ), message
