"""What config.yaml may hold: the limits of numbers, and the options of entries."""

import re

import pytest
from config.common import config_with, refusal_of
from sae_workflow import settings

from sae.core import registry
from sae.core.options import Options


def test_every_entry_of_a_dataset_or_backbone_says_what_may_be_written():
    for kind in ("dataset", "backbone"):
        for name in registry.names(kind):
            assert registry.head(kind, name).options is not Options, name


@pytest.mark.parametrize(
    ("path", "value", "pattern"),
    [
        ("training/small/m", 10**13, "at most 1,000,000,000,000"),
        ("training/small/dead_after", 10**400, "inf should be at most"),
        ("methods/jumprelu/sparsity", 1e300, "1e\\+300 should be at most"),
        ("metrics/probe/C", [1, 1e300], "1e\\+300 should be at most"),
        ("datasets/emoji/image_size", 10**13, "should be at most"),
        (
            "datasets/fashion_mnist/counts",
            {"train": 10**20, "val": 1, "test": 1},
            "10{20} should be at most",
        ),
        (
            "experiments/smoke/sweep/reg1/lambda",
            [0.1, 1e300],
            "1e\\+300 should be at most",
        ),
        (
            "experiments/paper_tuned/protocols/tuned/ranges/reg1/lambda",
            [0.1, 1e300],
            "1e\\+300 should be at most",
        ),
        (
            "experiments/paper_tuned/protocols/tuned/ranges/topk",
            {"adam_beta2": [0.5, 2]},
            "adam_beta2.1: 2.0 is too large: it must be below 1",
        ),
        (
            "experiments/paper_tuned/protocols/tuned/points",
            10**9,
            "at most 10000",
        ),
        (
            "experiments/smoke/seeds",
            list(range(60_000)),
            "asks for 1,020,000 SAEs; the most is 1,000,000",
        ),
        (
            "experiments/smoke/sweep/reg1",
            {
                name: [i / 1000 for i in range(1, 301)]
                for name in ("lambda", "lr", "auxk_alpha")
            },
            "asks for 27,000,013 SAEs",
        ),
    ],
)
def test_a_number_that_no_study_can_mean_is_refused(path, value, pattern):
    message = refusal_of(config_with({path: value}))
    line = next(line for line in message.splitlines()[1:] if re.search(pattern, line))
    parents = [path.rsplit("/", cut)[0].replace("/", ".") for cut in range(3)]
    assert any(line.startswith(f"config key {parent}") for parent in parents), message
    settings.load(
        config_with({"claims/bootstrap_seed": 2**62, "training/small/m": 2**24})
    )
