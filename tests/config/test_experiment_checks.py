"""What concerns several keys of an experiment."""

import re

import pytest
from config.common import REMOVED, config_with, refusal_of
from sae_workflow import settings


@pytest.mark.parametrize(
    ("by_dataset", "pattern"),
    [
        (
            {"emoji": {"extends": "study"}},
            r"by_dataset\.emoji\.extends: 'study' is not read",
        ),
        (
            {"emoji": {"steps": 60, "epochs": 7}},
            r"by_dataset\.emoji\.epochs: 7 is not read, since 60 steps are said",
        ),
        (
            {"emoji": {"k": [8, 2**20]}},
            r"by_dataset\.emoji\.k: k = 1048576 is larger than m",
        ),
        ({"emoji": {"k": [8, 64]}}, r"sweep\.reg1\.lambda: no grid for k64"),
        (
            {"emoji": {"k": [8]}, "fashion_mnist": {"k": [8]}},
            r"sweep\.reg1\.lambda: 'k32' is not known",
        ),
    ],
)
def test_a_mistake_in_what_an_experiment_says_of_a_dataset(by_dataset, pattern):
    raw = config_with({"experiments/demo/by_dataset": by_dataset})
    assert re.search(rf"config key experiments\.demo\.{pattern}", refusal_of(raw))


def test_a_gallery_shows_a_k_of_its_dataset():
    raw = config_with(
        {
            "experiments/demo/by_dataset": {"emoji": {"k": [8]}},
            "experiments/demo/gallery": {"dataset": "emoji", "k": 32},
        }
    )
    pattern = r"config key experiments\.demo\.gallery\.k: 32 is not known; allowed: 8"
    assert re.search(pattern, refusal_of(raw))


@pytest.mark.parametrize("role", ["backbones", "judges"])
def test_what_a_metric_sees_is_no_backbone_of_an_experiment(role):
    raw = config_with({f"experiments/smoke/{role}": ["thumbnail"]})
    pattern = r"config key experiments\.smoke: thumbnail is what the metric pixels sees"
    assert re.search(pattern, refusal_of(raw))
    raw["metrics"]["pixels"] = {"optional": True}
    settings.load(raw)


def test_what_a_metric_sees_must_be_there():
    raw = config_with({"backbones/thumbnail": REMOVED})
    message = refusal_of(raw)
    assert message.count("config key metrics.pixels") == 1
    assert "has 'thumbnail' among READS, which is neither one of train" in message
