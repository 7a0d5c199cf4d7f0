"""What a method needs in an experiment."""

import re

import pytest
from config.common import RAW, config_with, refusal_of


def test_partners_must_be_in_the_experiment():
    assert re.search(
        r"experiments\.smoke\.methods: reg1 is against topk, which the experiment "
        "lacks",
        refusal_of(config_with({"experiments/smoke/methods": ["reg1", "reg2"]})),
    )
    raw = config_with(
        {
            "experiments/smoke/methods": ["topk", "reg1_all"],
            "experiments/smoke/sweep": {},
        }
    )
    assert "reg1_all is at reg1, which the experiment lacks" in refusal_of(raw)
    raw = config_with(
        {
            "methods/x": {"extends": "topk", "at": "reg1"},
            "experiments/smoke/methods": ["topk", "reg1", "reg2", "x"],
        }
    )
    assert "x is at reg1, which sweeps lambda; x has no such option" in refusal_of(raw)


SWEEP = r"experiments\.smoke\.sweep\.topk"


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (
            {"training/smoke/auxk_k": 65},
            r"training\.smoke\.auxk_k: .*65 is larger than m = 64 of training\.smoke",
        ),
        (
            {"methods/topk/m": 63},
            r"methods\.topk\.auxk_k: .*64 is larger than m = 63 of methods\.topk",
        ),
        (
            {"experiments/smoke/sweep/topk": {"m": [63, 64]}},
            rf"{SWEEP}\.auxk_k: auxk_k = 64 .* m = 63 of {SWEEP}",
        ),
        (
            {"experiments/smoke/sweep/topk": {"auxk_k": {"k8": [65]}}},
            rf"{SWEEP}\.auxk_k: .*65 is larger",
        ),
        # A dataset may have fewer latents.
        (
            {"experiments/smoke/by_dataset": {"fashion_mnist_smoke": {"m": 63}}},
            r"experiments\.smoke\.by_dataset\.fashion_mnist_smoke\.auxk_k: "
            "auxk_k = 64 is larger than m = 63",
        ),
        # A method that is `at` another one is trained at what that one sweeps.
        (
            {
                "experiments/smoke/sweep/reg2": {"lambda": [0.1], "auxk_k": [40]},
                "methods/reg2_all/m": 39,
            },
            r"methods\.reg2_all\.auxk_k: .*40 is larger than m = 39",
        ),
    ],
)
def test_auxk_k_is_at_most_m_wherever_they_are_said(change, pattern):
    assert re.search(rf"config key {pattern}", refusal_of(config_with(change)))


def test_an_import_must_belong_to_its_experiment_which_does_not_sweep_it():
    methods = [*RAW["experiments"]["photographs"]["methods"], "theirs"]
    naming_it = {"experiments/photographs/methods": methods}
    for belongs_to in ({"k": 64}, {"backbone": "vit_b16"}, {"dataset": "emoji"}):
        message = refusal_of(
            config_with(
                {"methods/theirs": {"import": {"place": "x"} | belongs_to}} | naming_it
            )
        )
        assert "theirs belongs to a dataset, backbone or k that is not here" in message
    swept = {
        "experiments/photographs/sweep/theirs": {"lr": [0.1]},
        "methods/theirs": {"import": "x"},
    }
    assert (
        "experiments.photographs.sweep.theirs: an SAE that was made elsewhere"
        in refusal_of(config_with(swept | naming_it))
    )
