"""What the protocol `tuned` and a user's own need of an experiment."""

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
        "protocols": {"mine": {"weights": {"reg1": -1.0}}},
    }
    written = {
        "extensions": str(tmp_path),
        "protocols/mine": {},
        "experiments/smoke": experiment,
    }
    of_protocol, of_value = refusal_of(config_with(written)).splitlines()[1:]
    key = "config key experiments.smoke.protocols.mine"
    # The protocol's own words, below its own key.
    assert of_protocol == f"{key}: one dataset at a time"
    assert_names(of_value, f"{key}.weights.reg1.lr.0:", "-1.0 is too small")

    experiment |= {"datasets": ["emoji"], "protocols": {"paper": {}, "mine": {}}}
    settings.load(config_with(written | {"experiments/smoke": experiment}))


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("experiments/demo/protocols", ["experiments.demo.protocols"] * 2),
        ("protocols", ["protocols.fair", "protocols.listed"]),
    ],
)
def test_a_protocol_that_is_gone_says_what_to_write(section, keys):
    gone = {"fair": {"points": 8, "most_steps": {}}, "listed": {"trials": {}}}
    of_fair, of_listed = refusal_of(config_with({section: gone})).splitlines()[1:]
    assert_names(of_fair, f"key {keys[0]}: fair is gone: write `tuned: {{ points:")
    assert_names(of_listed, f"key {keys[1]}: listed is gone: write", "tuned: { trials:")


DRAWN = "experiments/paper_tuned/protocols/tuned"
OF_SWEEPS = "experiments/demo/protocols/tuned"
POINT = {"lr": 0.001, "encoder_scale": 0.1, "auxk_alpha": 0.3}
LISTED = {
    "points": [POINT, POINT | {"lr": 0.002, "alone": True}],
    "own_values": {
        "reg1": {"lambda": [0.1, 0.2]},
        "reg2": {"lambda": {"k32": [1, 2], "k64": [2, 4], "k128": [3, 6]}},
    },
}


def test_points_may_be_listed():
    experiments = settings.load(config_with({DRAWN: LISTED})).experiments
    assert experiments["paper_tuned"].protocols["tuned"] == LISTED


@pytest.mark.parametrize(
    ("written", "key", "pattern"),
    [
        ({"points": [POINT, POINT]}, "points", "lr 0.001, .* is there twice"),
        ({"points": [POINT | {"alone": True}]}, "points", "all are `alone`"),
        ({"points": []}, "points", "at least 1"),
        ({"points": [POINT | {"lr": 0}]}, "points.0.lr", "0 is too small"),
        ({"points": 6}, "own_values", "for points that are listed; let `points`"),
        ({"ranges": {"reg1": {"lambda": [1, 2]}}}, "ranges", "for points .* drawn"),
        ({"trials": {}}, "trials", "beside the sweeps; leave `points` out"),
        (
            {"own_values": {"reg1": {"lambda": [1]}}},
            "own_values.reg2",
            "but no list of lambda",
        ),
        (
            {"own_values": LISTED["own_values"] | {"reg2": {"lambda": {"k16": [1]}}}},
            "own_values.reg2.lambda",
            "no list for k32",
        ),
        (
            {"own_values": LISTED["own_values"] | {"reg1": {"lambda": [0.1, 0.10004]}}},
            "own_values.reg1.lambda",
            r"0\.1 and 0\.10004 are both 0\.1 in three digits",
        ),
        (
            {
                "own_values": LISTED["own_values"]
                | {"reg2": {"lambda": {"k32": [1, 2], "k33": [1, 2]}}}
            },
            "own_values.reg2.lambda",
            "'k33' is not known; allowed: .*k32",
        ),
        (
            {"own_values": LISTED["own_values"] | {"reg1": {"lambda": [0.1]}}},
            "tuned.points",
            "at k = 32 reg1 has 1 trials, and topk has 2",
        ),
    ],
)
def test_a_mistake_in_points_that_are_listed(written, key, pattern):
    assert_line(refusal_of(config_with({DRAWN: LISTED | written})), key, pattern)


@pytest.mark.parametrize(
    ("path", "value", "key", "pattern"),
    [
        (f"{DRAWN}/points", 0, "tuned.points", "0 is too small"),
        (f"{DRAWN}/points", "8", "tuned.points", "'8'.*without quotes"),
        (f"{DRAWN}/points", REMOVED, "tuned.ranges", "let `points` be a number"),
        (f"{DRAWN}/lr", [0.01, 0.001], "tuned.lr", "is no range; write"),
        (
            f"{DRAWN}/ranges/reg1",
            REMOVED,
            "tuned.ranges.reg1",
            "off_support_l1, but no range of lambda",
        ),
        (
            f"{DRAWN}/ranges/reg1/lambda",
            {"k32": [0.1, 0.1]},
            "ranges.reg1.lambda.k32",
            "is no range; write",
        ),
        (
            f"{DRAWN}/ranges/reg1/lambda",
            {"k64": [0.1, 1], "k128": [0.1, 1]},
            "ranges.reg1.lambda",
            "no range for k32",
        ),
        (
            f"{DRAWN}/ranges/reg1/lambda",
            {"k32": [0.1, 1], "k33": [0.1, 1]},
            "experiments.paper_tuned.protocols.tuned.ranges.reg1.lambda",
            "'k33' is not known",
        ),
        (f"{DRAWN}/ranges/topk", {"lr": [0.1, 1]}, "ranges.topk", "'lr' is not known"),
        (
            f"{DRAWN}/ranges/topk",
            {"auxk_k": [2, 9]},
            "ranges.topk.auxk_k",
            "whole number.*sweep it",
        ),
        (
            "training/paper/tied",
            True,
            "experiments.paper_tuned.protocols.tuned",
            "is tied: its encoder has no scale",
        ),
        (
            f"{OF_SWEEPS}/trials",
            {"topk": [{"lr": 1e300}]},
            "tuned.trials.topk.lr.0",
            "1e\\+300 should be at most",
        ),
        (
            f"{OF_SWEEPS}/trials",
            {"reg1": [{"lr": 0.01}]},
            "tuned.trials.reg1",
            "each of its trials needs a lambda",
        ),
        (f"{OF_SWEEPS}/fresh", [0, 3], "tuned.fresh", "0 is the seed of `tuning` too"),
        (f"{OF_SWEEPS}/fresh", [3, 3], "tuned.fresh", "twice"),
        (f"{OF_SWEEPS}/fresh", [], "tuned.fresh", "at least 1 item"),
        (f"{OF_SWEEPS}/tuning", -1, "tuned.tuning", "-1 is too small"),
        (f"{OF_SWEEPS}/most_steps", {}, "tuned.most_steps", "no such key"),
        ("protocols/tuned", {"fresh": [0]}, "protocols.tuned.fresh", "0 is the seed"),
        (
            "training/small",
            RAW["training"]["small"] | {"tied": True, "encoder_scale": 0.5},
            "encoder_scale",
            "transpose; set encoder_scale: 1",
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
    assert_line(refusal_of(config_with({path: value})), key, pattern)


def assert_line(message, key, pattern):
    """Check that a line of a message names a key and matches a pattern."""
    lines = [line for line in message.splitlines() if f"{key}:" in line]
    assert any(re.search(pattern, line) for line in lines), message
