"""config.yaml: every mistake names its key and what is allowed, before any job starts."""

import copy
import re

import pytest
import yaml
from conftest import ROOT
from sae_workflow import settings

from sae.core.errors import UserError

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def put(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split("/")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


def test_the_config_is_right():
    settings.check(CONFIG)


@pytest.mark.parametrize(
    ("path", "value", "key", "said"),
    [
        ("experiments/demo/seed", [1], "experiments.demo", "'seed' was unexpected.*allowed: backbones, datasets"),
        ("experiments/demo/datasets", ["emojis"], "experiments.demo.datasets", "'emojis'.*allowed: .*emoji, fashion"),
        ("experiments/demo/backbones", ["vit"], "experiments.demo.backbones", "'vit'.*allowed: .*efficientnet_lite0"),
        ("experiments/demo/training", "big", "experiments.demo.training", "'big'.*allowed: .*small"),
        ("experiments/smoke/k", [65], "experiments.smoke.k", "k = 65 is larger than m = 64.*allowed: 1 to 64"),
        ("experiments/smoke/k", ["8"], "experiments.smoke.k.0", "'8' is not of type 'integer'"),
        ("experiments/smoke/lambdas", {"l3": [0.1]}, "experiments.smoke.lambdas", "'l3'.*l1_l2_ratio, off_support_l1"),
        ("experiments/smoke/lambdas/l1_l2_ratio", [-0.1], "experiments.smoke.lambdas.l1_l2_ratio.0", "-0.1 is less"),
        ("experiments/smoke/lambdas/l1_l2_ratio", ["1e-3"], "experiments.smoke.lambdas.l1_l2_ratio.0", "1.0e-3"),
        ("experiments/smoke/lambdas/l1_l2_ratio", [0.001, 0.0010000001], "l1_l2_ratio", "both written 0.001"),
        ("experiments/smoke/lambdas/l1_l2_ratio", {"k9": [0.1]}, "lambdas.l1_l2_ratio", "no grid for k8"),
        ("training/small/input_norm", "l2", "training.small.input_norm", "'none', 'unit_l2', 'unit_l2_layernorm'"),
        ("training/small/lr", 0, "training.small.lr", "0 is less than or equal"),
        (
            "datasets/emoji/image_sise",
            64,
            "datasets.emoji",
            "'image_sise' was unexpected.*allowed: artifacts, fractions",
        ),
        ("datasets/cifar100/test/download", True, "datasets.cifar100.test.download", "of the entry"),
        ("datasets/emoji/artifacts", [["a"]], "datasets.emoji.artifacts", "not valid|not of type"),
        ("datasets/emoji/fractions/test", 0.3, "datasets.emoji.fractions", "they sum to 1.1"),
        ("datasets/fashion_mnist/counts/train", -5, "datasets.fashion_mnist.counts.train", "-5 is less than"),
        (
            "backbones/x",
            {"loader": "timm", "model": "m", "checkpont": "y"},
            "backbones.x",
            "allowed: batch_size, checkpoint, dtype, loader",
        ),
        ("backbones/x", {"loader": "open_clip", "model": "m"}, "backbones.x", "'pretrained' is a required property"),
        (
            "backbones/x",
            {"loader": "timm", "model": "hf-hub:a/b", "checkpoint": "c"},
            "backbones.x.checkpoint",
            "leave it out",
        ),
        ("experiments/smoke/lambdas/l1_l2_ratio", [float("inf")], "experiments.smoke.lambdas.l1_l2_ratio.0", "inf"),
        (
            "datasets/emoji/type",
            "emojy",
            "datasets.emoji.type",
            "allowed: emoji, fashion_mnist, image_folder",
        ),
        ("backbones/efficientnet_lite0/artifacts", ["x"], "backbones.efficientnet_lite0.artifacts", "allowed: effic"),
        ("compute/device", "gpu", "compute.device", "auto"),
        (
            "backbones/efficientnet_lite0/loader",
            "precomputed",
            "backbones.efficientnet_lite0",
            "'artifacts' was unexpected",
        ),
        ("datasets/emoji", {"type": "table", "root": "x"}, "experiments.demo", "emoji .*do not go together"),
        ("experiments/smoke/probe", {"C": []}, "experiments.smoke.probe.C", "non-empty|too short"),
        ("datasets/imagenet/images", {"train": 0}, "datasets.imagenet.images.train", "0 is less than"),
        ("experiments/train", CONFIG["experiments"]["smoke"], "experiments.train", "taken by a rule"),
        ("experiments/weights", CONFIG["experiments"]["smoke"], "experiments.weights", "taken by a rule"),
    ],
)
def test_a_mistake_names_its_key_and_what_is_allowed(path, value, key, said):
    with pytest.raises(UserError) as caught:
        settings.check(put(path, value))
    assert key in str(caught.value)
    assert re.search(said, str(caught.value)), str(caught.value)


def test_grids_per_k_and_banks():
    plan = settings.bank_plan(CONFIG, "demo", "emoji", "efficientnet_lite0", 16)
    assert plan["lambdas"]["l1_l2_ratio"] == CONFIG["experiments"]["demo"]["lambdas"]["l1_l2_ratio"]["k16"]
    assert len(settings.banks(CONFIG, "demo")) == 18
