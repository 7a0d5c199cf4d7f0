"""Methods with what they take over; imported ones; mistakes in both."""

import re

import pytest
from config.common import RAW, config_with, refusal_of
from sae_workflow import settings


@pytest.mark.parametrize(
    ("method", "key", "pattern"),
    [
        ({}, "objective", "required"),
        ({"objective": "topk", "lambda": 0.1}, "lambda", "no penalty"),
        ({"objective": "topk", "mask": "all"}, "mask", "no penalty"),
        (
            {"extends": "reg1", "at": "reg1_all"},
            "at",
            "reg1_all is itself trained at the choice of reg1",
        ),
        ({"extends": "topk", "against": "reg1_all"}, "against", "itself trained"),
        ({"extends": "topk", "input_norm": "none"}, "input_norm", "in `training`"),
        ({"extends": "topk", "colour": "red"}, "colour", "a colour such as '#1f77b4'"),
        ({"extends": "topk", "sweep": {"lr": []}}, "sweep.lr", "at least 1 item"),
        ({"extends": "topk", "sweep": {"lr": {}}}, "sweep.lr", "at least 1 item"),
        ({"extends": "topk", "sweep": {"lr": 0.1}}, "sweep.lr", "valid list"),
        (
            {"extends": "topk", "sweep": {"lr": {"16": [0.1]}}},
            "sweep.lr.16",
            "'16'.*such as k8",
        ),
        ({"extends": "topk", "lr": 0.1, "sweep": {"lr": [0.1]}}, "lr", "swept as well"),
        (
            {"extends": "reg1", "at": "reg1", "sweep": {"lambda": [0.1]}},
            "sweep",
            "that of reg1: leave it out",
        ),
        (
            {"objective": "batch_topk", "sweep": {"momentum": [0.9, None]}},
            "sweep.momentum.1",
            "in a path",
        ),
        (
            {"objective": "batch_topk", "sweep": {"momentum": [0.9, 1.0]}},
            "sweep.momentum.1",
            "below 1",
        ),
        # An SAE that was made elsewhere.
        ({"import": "x", "lr": 0.1}, "lr", "is not trained: leave it out"),
        ({"import": "x", "sweep": {"lr": [0.1]}}, "sweep", "is not trained"),
        ({"import": "x", "extends": "topk"}, "extends", "takes over nothing"),
        ({"import": {"place": "x", "format": "no"}}, "import.format", "'no' is not kn"),
        ({"import": {"place": "x", "backbone": "no"}}, "import.backbone", "'no' is no"),
        ({"objective": "imported"}, "objective", "write `import: PATH` instead"),
    ],
)
def test_a_mistake_in_a_method(method, key, pattern):
    message = refusal_of(config_with({"methods/x": method}))
    key = f"config key methods.x.{key}:"
    line = next((line for line in message.splitlines() if key in line), "")
    assert re.search(pattern, line), message


def test_an_at_method_sets_nothing_that_the_other_sweeps():
    text = (
        "reg1_all is trained at the lr that is chosen for reg1 (swept in smoke): leave "
        "it out"
    )
    with_lr = {"methods/reg1_all/lr": 0.5}
    swept = RAW["experiments"]["smoke"]["sweep"]["reg1"] | {"lr": [0.1, 0.2]}
    assert f"methods.reg1_all.lr: {text}" in refusal_of(
        config_with(with_lr | {"experiments/smoke/sweep/reg1": swept})
    )
    assert text in refusal_of(
        config_with(with_lr | {"methods/reg1/sweep": {"lr": [0.1, 0.2]}})
    )
    # Its own value of what the other does not sweep holds, and so does one that both
    # take over.
    reg1_all = settings.load(config_with(with_lr)).methods["reg1_all"]
    assert (reg1_all.lr, reg1_all.at) == (0.5, "reg1")
    settings.load(
        config_with({"methods/topk/lr": 0.5, "experiments/smoke/sweep/reg1": swept})
    )


def methods(**written):
    raw = config_with({f"methods/{name}": value for name, value in written.items()})
    return settings.load(raw).methods


def test_a_method_takes_over_what_still_holds():
    by_name = methods(
        a={
            "objective": "batch_topk",
            "penalty": "l1_l2_ratio",
            "momentum": 0.5,
            "lambda": 1,
            "lr": 0.1,
            "label": "A",
        },
        b={"extends": "a", "objective": "topk"},
        c={"extends": "a", "penalty": None},
        d={"extends": "a", "sweep": {"lambda": [1, 0.5], "lr": {"k8": [0.1]}}},
        e={"extends": "d", "lr": 0.2, "mask": "all"},
        f={"extends": "d", "at": "d", "against": "topk"},
    )
    a = by_name["a"]
    assert (a.options, a.recipe, a.lam, a.mask, a.label) == (
        {"momentum": 0.5},
        {"lr": 0.1},
        1.0,
        "batch_active",
        "A",
    )
    # The option of an objective that was replaced is gone, and so is what only a
    # penalty has.
    b, c = by_name["b"], by_name["c"]
    assert (b.options, b.recipe, b.lam, b.label) == ({}, {"lr": 0.1}, 1.0, None)
    assert (c.penalty, c.lam, c.mask, c.options) == (
        None,
        None,
        None,
        {"momentum": 0.5},
    )
    # A sweep replaces a fixed value, and a fixed value a sweep.
    assert by_name["d"].sweep == {"lambda": [0.5, 1.0], "lr": {"k8": [0.1]}}
    assert (by_name["d"].lam, by_name["d"].recipe) == (None, {})
    assert (by_name["e"].sweep, by_name["e"].recipe, by_name["e"].mask) == (
        {"lambda": [0.5, 1.0]},
        {"lr": 0.2},
        "all",
    )
    assert (by_name["f"].sweep, by_name["f"].at, by_name["f"].against) == (
        {},
        "d",
        "topk",
    )
    # Defaults are complete.
    assert settings.load(RAW).methods["batch_topk"].options == {"momentum": 0.99}


def test_an_sae_made_elsewhere_is_a_method_without_training(tmp_path):
    imported = {
        "place": "there/sae",
        "format": "saelens",
        "input_scale": 2,
        "backbone": "efficientnet_lite0",
    }
    two_imports = {
        "methods/theirs": {"import": imported, "label": "Theirs"},
        "methods/short": {"import": "owner/name:folder"},
    }
    naming_both = {
        "experiments/photographs/methods": [
            *RAW["experiments"]["photographs"]["methods"],
            "theirs",
            "short",
        ]
    }
    config = settings.load(config_with(two_imports | naming_both))
    theirs = config.methods["theirs"]
    assert (theirs.objective, theirs.options) == (
        "imported",
        {"file": "results/imported/theirs.safetensors", "other_datasets": False},
    )
    assert config.methods["short"].imported.place == "owner/name:folder"
    assert (
        settings.import_options(config, "theirs")
        == "there/sae --format=saelens --input-scale=2.0"
    )
    # It is scored where it belongs to, and protocol `tuned` tunes it nowhere.
    plans = [
        settings.bank_plan(
            config, "photographs", settings.Cell("caltech101", backbone, 16)
        )
        for backbone in ("efficientnet_lite0", "dinov2_vit_s14")
    ]
    assert ["theirs" in plan.methods for plan in plans] == [
        True,
        False,
    ] and "short" in plans[1].methods
    assert not any(plans[0].methods[name].tuned for name in ("theirs", "short"))
