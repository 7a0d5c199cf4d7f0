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
        ("training/small/m", 10**12, "at most 16,777,216: a larger SAE fits no"),
        (
            "training/small/lr",
            100,
            "100.0 should be at most 10: Adam moves each weight",
        ),
        ("metrics/probe/C", [1, 1e300], r"1e\+300 should be at most"),
        (
            "experiments/smoke/by_dataset",
            {"fashion_mnist_smoke": {"m": 2**25}},
            "fits no machine",
        ),
        (
            "experiments/smoke/sweep/reg1/lambda",
            [0.1, 1e300],
            r"1e\+300 should be at most 1,000,000: ",
        ),
        (
            "experiments/fair/protocols/fair/ranges/reg1/lambda/k16",
            [0.1, 1e300],
            r"1e\+300 should be at most 1,000,000: ",
        ),
        (
            "experiments/rivals/protocols/fair/ranges/batch_topk",
            {"momentum": [0.5, 2]},
            "momentum.1: 2.0 is too large: it must be below 1",
        ),
        ("experiments/fair/protocols/fair/lr", [0.1, 100], "100.0 should be at most 1"),
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
def test_a_number_that_no_study_can_mean_has_a_limit_with_its_reason(
    path, value, pattern
):
    message = refusal_of(config_with({path: value}))
    line = next(line for line in message.splitlines()[1:] if re.search(pattern, line))
    parents = [path.rsplit("/", cut)[0].replace("/", ".") for cut in range(3)]
    assert any(line.startswith(f"config key {parent}") for parent in parents), message
    settings.load(
        config_with({"claims/bootstrap_seed": 2**62, "training/small/m": 2**24})
    )


def test_an_option_of_ones_own_has_a_limit_by_its_size_not_its_name(extensions):
    options_of_d = (
        "from sae.core.options import Options as Base\n"
        "class Options(Base):\n    d: float\n"
    )
    (extensions / "penalties/mine.py").write_text(f"def penalty(): ...\n{options_of_d}")

    def with_d(d):
        return config_with(
            {
                "extensions": str(extensions),
                "methods/reg1/penalty": "mine",
                "methods/reg1/d": d,
            }
        )

    # More than any backbone has dimensions.
    method = settings.load(with_d(5_000_000)).methods["reg1"]
    assert method.options["d"] == 5_000_000
    assert "methods.reg1.d: 1e+300 should be at most 1,000,000,000,000" in refusal_of(
        with_d(1e300)
    )
