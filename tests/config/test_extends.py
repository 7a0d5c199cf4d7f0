"""What an entry takes over from another one, and from where a problem comes."""

import re

import pytest
import yaml
from config.common import RAW, config_with, refusal_of
from sae_workflow import settings
from support.errors import assert_names

from sae.config.load import load_config
from sae.core.options import as_record


@pytest.mark.parametrize("link", ["extends", "against"])
def test_a_chain_of_thousands_of_methods_is_one_line(link):
    chain = {
        f"methods/c{i}": {"extends": "topk", link: f"c{i - 1}"} for i in range(1, 3000)
    }
    message = refusal_of(config_with({"methods/c0": {"extends": "topk"}} | chain))
    [line] = message.splitlines()[1:]
    assert_names(line, "config key methods:", f"`{link}`", "more than 50", "shorten")


def test_a_circle_of_methods_is_named():
    a = {"extends": "topk", "against": "b"}
    b = {"extends": "topk", "against": "a"}
    assert "methods.b.against: b -> a -> b is a circle" in refusal_of(
        config_with({"methods/a": a, "methods/b": b})
    )


def test_an_experiment_of_fewer_methods_takes_over_their_sweeps_alone():
    few = {"extends": "smoke", "methods": ["topk", "reg1"]}
    config = load_config(
        config_with(
            {
                "experiments/few": few,
                "experiments/fewer": {"extends": "few", "methods": ["topk"]},
            }
        )
    )
    assert config.experiments["few"].sweep == {
        "reg1": config.experiments["smoke"].sweep["reg1"]
    }
    assert config.experiments["fewer"].sweep == {}
    ranges = load_config(
        config_with(
            {"experiments/few": {"extends": "paper_tuned", "methods": ["topk", "reg2"]}}
        )
    ).experiments["few"]
    assert [*ranges.protocols["tuned"]["ranges"]] == ["reg2"]
    assert "'reg2' is not known" in refusal_of(
        config_with({"experiments/few": few | {"sweep": {"reg2": {"lambda": [0.1]}}}})
    )


def test_what_an_experiment_takes_over_about_another_k_is_dropped():
    raw = config_with(
        {
            "experiments/mine": {"extends": "demo", "k": [8]},
            "experiments/theirs": {
                "extends": "mine",
                "k": [32],
                "backbones": ["efficientnet_lite0_fast"],
            },
        }
    )
    experiments = settings.load(raw).experiments
    for name, k in (("mine", "k8"), ("theirs", "k32")):
        for method in ("reg1", "reg2"):
            grid = experiments["demo"].sweep[method]["lambda"][k]
            assert experiments[name].sweep[method] == {"lambda": {k: grid}}
    # Of a backbone that is not there no gallery is shown, and the demo's is.
    assert experiments["mine"].gallery == experiments["demo"].gallery
    assert experiments["theirs"].gallery.backbone is None
    # Who writes a grid of another k means it.
    raw = config_with(
        {
            "experiments/mine": {
                "extends": "demo",
                "k": [8],
                "sweep": RAW["experiments"]["demo"]["sweep"],
            }
        }
    )
    assert "experiments.mine.sweep.reg1.lambda: 'k32' is not known" in refusal_of(raw)


def test_a_part_of_an_experiment_takes_over_the_grids_of_its_own_k():
    raw = config_with(
        {
            "experiments/demo/by_dataset": {"emoji": {"k": [8]}},
            "experiments/mine": {"extends": "demo", "datasets": ["emoji"]},
        }
    )
    experiments = settings.load(raw).experiments
    for method in ("reg1", "reg2"):
        assert [*experiments["mine"].sweep[method]["lambda"]] == ["k8"]
        assert [*experiments["demo"].sweep[method]["lambda"]] == ["k8", "k32"]


def test_a_problem_of_what_was_taken_over_says_from_where():
    raw = config_with(
        {"experiments/mine": {"extends": "paper_tuned", "training": "tied"}}
        | {"training/tied": {"extends": "paper", "tied": True, "encoder_scale": 1}}
    )
    text = "mine.protocols.tuned: training.tied is tied: its encoder has no scale of"
    assert f"{text} its own to tune (inherited from paper_tuned)" in refusal_of(raw)
    # A method's own grids, too, which nobody wrote who names it.
    method = {"extends": "topk", "sweep": {"lr": {"k8": [0.1], "k32": [0.2]}}}
    entries = {
        "methods/fast": method,
        "experiments/mine": {"extends": "demo", "k": [16]},
    }
    entries["experiments/mine"] |= {"methods": ["topk", "fast"]}
    message = refusal_of(config_with(entries))
    line = "sweep: {fast: {lr: {k16: [0.1]}}}"
    text = "experiments.mine.sweep: no grid of lr for k16: write"
    assert f"{text} `{line}` here" in message
    entries["experiments/mine"] |= yaml.safe_load(line)
    settings.load(config_with(entries))


def test_every_section_of_named_entries_knows_extends():
    small = RAW["training"]["small"]
    config = settings.load(
        config_with(
            {
                "experiments/a": {"extends": "smoke", "k": [4]},
                "experiments/b": {"extends": "a", "seeds": [7], "description": "mine"},
                "training/a": {"extends": "small", "lr": 0.5},
                "training/b": {"extends": "a", "m": 99},
                "datasets/a": {"extends": "emoji", "image_size": 32},
                "backbones/a": {"extends": "vit_b16", "model": "mine"},
            }
        )
    )
    smoke = config.experiments["smoke"]
    assert config.experiments["b"] == smoke.model_copy(
        update={"k": [4], "seeds": [7], "description": "mine"}
    )
    assert config.experiments["a"].description == ""
    expected = small | {
        "lr": 0.5,
        "m": 99,
        "precision": "float32",
        "adam_eps": 6.25e-10,
    }
    assert as_record(config.training["b"]) == expected
    assert config.datasets["a"].spec == config.datasets["emoji"].spec | {
        "image_size": 32
    }
    assert config.datasets["a"].label is None
    assert config.backbones["a"].spec == config.backbones["vit_b16"].spec | {
        "model": "mine"
    }


@pytest.mark.parametrize(
    "section", ["experiments", "methods", "training", "datasets", "backbones"]
)
def test_a_wrong_extends_is_one_line(section):
    first = next(iter(RAW[section]))
    for entries, pattern in (
        (
            {"x": {"extends": "nobody"}},
            rf"{section}\.x\.extends: 'nobody' is not known; allowed: .*{first}",
        ),
        (
            {"x": {"extends": "y"}, "y": {"extends": "x"}},
            rf"{section}\.x\.extends: x -> y -> x is a circle",
        ),
        ({"x": {"extends": [1]}}, rf"{section}\.x\.extends: \[1\] is not known"),
        ({"x": 3, "y": {"extends": "x"}}, rf"{section}\.y\.extends: 'x' is not known"),
    ):
        message = refusal_of(
            config_with({f"{section}/{name}": entry for name, entry in entries.items()})
        )
        assert re.search(f"config key {pattern}", message), message
