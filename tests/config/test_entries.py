"""What the file of an entry must hold, of the project's kinds and of a user's."""

import re

import pytest
from config.common import METRIC, config_with, refusal_of
from sae_workflow import external_files, settings

from sae.core import registry

OURS = {
    "dataset": ("datasets/mine", {"type": "mine", "place": "x"}, "datasets.mine.type"),
    "backbone": (
        "backbones/mine",
        {"loader": "mine", "family": "m", "model": "m"},
        "backbones.mine.loader",
    ),
    "objective": (
        "methods/mine",
        {"objective": "mine", "jitter": 1},
        "methods.mine.objective",
    ),
    "penalty": (
        "methods/mine",
        {"objective": "topk", "penalty": "mine", "lambda": 1},
        "methods.mine.penalty",
    ),
    "metric": ("metrics/mine", None, "metrics.mine"),
    "figure": ("figures", ["mine"], "figures.mine"),
}


@pytest.mark.parametrize(
    ("kind", "old", "new", "pattern"),
    [
        ("dataset", "def load", "def loads", "must define load"),
        # A constant that says something of another kind.
        (
            "dataset",
            "def load",
            "READS_IMAGES = False\ndef loads",
            "must define load",
        ),
        (
            "backbone",
            "def load",
            "READS_IMAGES = False\ndef load",
            "must define files, embeddings",
        ),
        ("objective", "class Objective", "class Other", "must define Objective"),
        (
            "penalty",
            "def penalty()",
            "class Penalty:\n    def penalty()",
            "must define penalty",
        ),
        ("metric", METRIC, "", "must define STAGE, SPLITS, READS, score"),
        (
            "metric",
            "'score'",
            "'scores'",
            "has STAGE = 'scores', which must be a text among chosen, score, .*",
        ),
        (
            "metric",
            "['test']",
            "'test'",
            "has SPLITS = 'test', which must be a list of texts among train, val, test",
        ),
        (
            "metric",
            METRIC,
            METRIC.replace("'score'", "'probe'").replace(
                "READS = ()", "READS = ['val', 'others']"
            ),
            "has STAGE = 'probe', which gets no 'others' .*",
        ),
        (
            "metric",
            "= ()",
            "= ()\nJUDGED = True",
            "has JUDGED, which is now STAGE = 'chosen'",
        ),
        (
            "metric",
            "'test'",
            "['test']",
            r"has SPLITS = \[\['test'\]\], which must be .*",
        ),
        (
            "figure",
            "'C'",
            "'C' + D",
            "must write out CAPTION, since it is read without running the file",
        ),
        (
            "figure",
            "['gallery/images.parquet']",
            "[1]",
            r"has READS = \[1\], which must be a list of texts",
        ),
    ],
)
def test_an_entry_that_lacks_what_its_kind_needs_is_told(
    extensions, kind, old, new, pattern
):
    place, value, key = OURS[kind]
    written = {"extensions": str(extensions), place: value}
    settings.load(config_with(written))
    file = extensions / registry.PACKAGES[kind].rpartition(".")[2] / "mine.py"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))
    first, *lines = refusal_of(config_with(written)).splitlines()
    assert first == "the configuration is not right:" and len(lines) == 1
    assert re.fullmatch(
        f"config key {key}: {file} {pattern}; docs/extending.md shows how", lines[0]
    ), lines


@pytest.mark.parametrize(
    ("method", "text", "pattern"),
    [
        (
            {"penalty": "mine"},
            "def penalty(:\n",
            r"penalty: .*mine\.py line 1 is not valid Python",
        ),
        (
            {"penalty": "mine"},
            "class Options:\n    power: int\n",
            "penalty: penalty mine: .* must derive from",
        ),
        ({"penalty": "greedy"}, None, "penalty: greedy has an option 'lr'"),
        (
            {"objective": "mine", "penalty": "jittered"},
            None,
            "penalty: jittered has an option 'jitter'",
        ),
        (
            {"penalty": "mine", "sweep": {"lr": [0.1, 0]}},
            None,
            r"sweep\.lr\.1: 0 is too small",
        ),
    ],
)
def test_one_cause_is_told_once(extensions, method, text, pattern):
    if text:
        (extensions / "penalties/mine.py").write_text(text)
    raw = {
        "extensions": str(extensions),
        "methods/a": {"objective": "topk", "lambda": 0.1, "power": 3} | method,
    }
    if method.get("penalty") != "mine":
        raw["methods/a"] |= {"sweep": {"jitter": [1.0, 2.0]}}
    raw |= {
        "methods/b": {"extends": "a", "sweep": {"power": [1, 2]}},
        "methods/c": {"extends": "b", "at": "b"},
    }
    raw["experiments/smoke/methods"] = ["topk", "a", "b"]
    message = refusal_of(config_with(raw))
    assert (
        re.search(rf"config key methods\.a\.{pattern}", message)
        and message.count("config key") == 1
    ), message


def test_a_file_that_is_wrong_is_told_at_one_key(extensions):
    (extensions / "datasets/mine.py").write_text("def load(:\n")
    raw = {
        f"datasets/{name}": {"type": "mine", "place": "x"} for name in ("one", "two")
    }
    raw["compute/threads"] = 2
    message = refusal_of(config_with({"extensions": str(extensions), **raw}))
    assert message.count("config key") == 1 and "datasets.one.type: " in message


def test_entries_from_outside_are_checked_like_ours(extensions):
    good = {
        "extensions": str(extensions),
        "datasets/mine": {"type": "mine", "place": "x", "image_size": 8},
        "datasets/loose": {"type": "loose", "whatever": [1]},
        "backbones/mine": {"loader": "mine", "family": "m", "model": "m", "depth": 4},
        "methods/mine": {
            "objective": "mine",
            "penalty": "mine",
            "lambda": 0.1,
            "sweep": {"jitter": [2, 1]},
        },
        "metrics/mine": None,
        "figures": ["mine", "fig4"],
    }
    config = settings.load(config_with(good))
    assert config.methods["mine"].options == {"jitter": 2.0, "power": 2}
    assert config.methods["mine"].sweep == {"jitter": [1.0, 2.0]}
    mixed = {
        "objective": "topk",
        "penalty": "mixed",
        "lambda": 0.1,
        "sweep": {"form": ["b", 2, "a", 0.5]},
    }
    swept = (
        settings.load(config_with(good | {"methods/mixed": mixed}))
        .methods["mixed"]
        .sweep
    )
    assert swept == {"form": [0.5, 2, "a", "b"]}
    assert config.datasets["mine"].spec == {
        "type": "mine",
        "place": "x",
        "image_size": 8,
    }
    assert config.datasets["loose"].spec == {"type": "loose", "whatever": [1]}
    assert settings.metrics_by_stage(config, "smoke")["score"]["mine"] == {"bins": 10}
    assert external_files.is_from_hub(config, "mine") and settings.shown_figures(
        config, "smoke"
    ) == [
        "mine",
        "fig4",
    ]
    for path, value, pattern in (
        (
            "datasets/mine",
            {"type": "mine", "plase": "x"},
            r"datasets\.mine\.plase: .*allowed: .*label, .*place, train_share, type",
        ),
        (
            "methods/mine/sweep",
            {"jitter": [-1]},
            r"methods\.mine\.sweep\.jitter\.0: -1 is too small",
        ),
        ("methods/mine/sweep", {}, r"methods\.mine\.jitter: this key is required"),
        (
            "methods/mine",
            {"objective": "topk", "penalty": "faulty", "lambda": 1, "p": 1},
            r"methods\.mine: .*penalties/faulty\.py line 8 fails .*: AttributeError: "
            "'int' object has no attribute",
        ),
        ("metrics/mine", {"bin": 1}, r"metrics\.mine\.bin: .*allowed: bins"),
    ):
        assert re.search(pattern, refusal_of(config_with(good | {path: value}))), path
