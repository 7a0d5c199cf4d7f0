"""config.yaml: every mistake names its key and what is allowed, before any job starts."""

import copy
import math
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from sae_workflow import external_files, settings

from sae.config import extends
from sae.config import load as config
from sae.core import registry
from sae.core.errors import UserError
from sae.core.options import Options, as_record

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())
REMOVED = object()
GENERATED = {
    "type": "generated",
    "counts": {"train": 9, "val": 9, "test": 9},
    "classes": 3,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def no_extensions():
    yield
    registry.extend(None)


def put(**changes):
    """The config with some values changed; keys are paths, with `__` between their parts."""
    return changed({path.replace("__", "/"): value for path, value in changes.items()})


def changed(changes):
    raw = copy.deepcopy(RAW)
    for path, value in changes.items():
        *parents, last = path.split("/")
        node = raw
        for parent in parents:
            node = node[parent]
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value
    return raw


def refused(raw):
    with pytest.raises(UserError) as caught:
        settings.load(raw)
    return str(caught.value)


def test_recipe_paper_has_the_papers_values_whatever_the_default():
    expected = {
        "m": 8192,
        "epochs": 50,
        "steps": None,
        "batch_size": 2048,
        "lr": 0.0001,
        "decay_fraction": 0.2,
    }
    expected |= {
        "adam_eps": 6.25e-10,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "encoder_scale": 1,
        "frozen": None,
    }
    expected |= {
        "auxk_alpha": 1 / 32,
        "auxk_k": 512,
        "dead_after": 1_000_000,
        "log_every": 100,
        "tied": False,
    }
    expected |= {
        "input_norm": "unit_l2",
        "unit_variance": True,
        "precision": "bfloat16",
    }
    recipe = settings.read_config(ROOT / "config.yaml").training["paper"]
    assert as_record(recipe) == expected


def test_the_config_is_right_and_typed():
    found = settings.read_config(ROOT / "config.yaml")
    assert found.experiments["demo"].k == [8, 32]
    assert (
        found.training["demo"].lr == 0.005
        and found.training["paper"].precision == "bfloat16"
    )
    assert (
        found.datasets["emoji"].image_size == 96
        and found.datasets["imagenet"].max_broken == 10
    )
    assert (
        found.backbones["vit_l16"].dtype == "float16"
        and found.backbones["vit_b16"].dtype == "float32"
    )
    # Jobs get what is written, and nothing that is only printed.
    expected = {
        key: value
        for key, value in RAW["datasets"]["imagenette"].items()
        if key != "label"
    }
    assert found.datasets["imagenette"].spec == expected


def test_every_entry_of_a_dataset_or_backbone_says_what_may_be_written():
    for kind in ("dataset", "backbone"):
        for name in registry.names(kind):
            assert registry.head(kind, name).options is not Options, name


@pytest.mark.parametrize(
    ("path", "value", "key", "said"),
    [
        (
            "experiments/demo/seed",
            [1],
            "experiments.demo.seed",
            "no such key; allowed: backbones, board, by_dataset, concepts, datasets.*; did you mean .seeds.\\?$",
        ),
        (
            "experiments/demo/lambdas",
            {},
            "experiments.demo.lambdas",
            "no such key; allowed: .*methods.*sweep",
        ),
        ("experiments/demo/k", REMOVED, "experiments.demo.k", "required"),
        (
            "experiments/demo/datasets",
            ["emojis"],
            "experiments.demo.datasets",
            "'emojis'.*allowed: .*emoji, emoji_v",
        ),
        (
            "experiments/demo/datasets",
            [],
            "experiments.demo.datasets",
            "at least 1 item",
        ),
        (
            "experiments/demo/datasets",
            ["emoji", "emoji"],
            "experiments.demo.datasets",
            "emoji is there twice",
        ),
        (
            "experiments/demo/backbones",
            ["vit"],
            "experiments.demo.backbones",
            "'vit'.*allowed: .*efficientnet_lite0",
        ),
        (
            "experiments/demo/judges",
            ["vit"],
            "experiments.demo.judges",
            "'vit'.*allowed: .*efficientnet_lite0",
        ),
        (
            "experiments/smoke/judges",
            ["efficientnet_lite0"],
            "experiments.smoke.judges",
            "one of `backbones`",
        ),
        (
            "datasets/fashion_mnist_smoke",
            GENERATED,
            "experiments.smoke",
            "fashion_mnist_smoke .* do not go together",
        ),
        (
            "experiments/demo/methods",
            ["topk", "reg3"],
            "experiments.demo.methods",
            "'reg3'.*allowed: .*reg1, reg1_a",
        ),
        (
            "experiments/demo/training",
            "big",
            "experiments.demo.training",
            "'big'.*allowed: .*small",
        ),
        (
            "experiments/demo/gallery",
            {"k": 9},
            "experiments.demo.gallery.k",
            "9 is not known; allowed: 32, 8",
        ),
        (
            "experiments/smoke/k",
            [65],
            "experiments.smoke.k",
            "k = 65 is larger than m = 64 of training.smoke.*1 to 64",
        ),
        (
            "experiments/smoke/k",
            ["8"],
            "experiments.smoke.k.0",
            "'8' should be a valid integer .*without quotes",
        ),
        (
            "experiments/smoke/k",
            [8.0],
            "experiments.smoke.k.0",
            "8.0 should be a valid integer: write 8$",
        ),
        (
            "experiments/smoke/k",
            8,
            "experiments.smoke.k",
            r"8 should be a valid list: write \[8\]",
        ),
        ("experiments/smoke/k", [8, 8], "experiments.smoke.k", "8 is there twice"),
        (
            "experiments/smoke/seeds",
            [2**70],
            "experiments.smoke.seeds.0",
            "less than or equal to 9223372036854775807",
        ),
        (
            "experiments/smoke/seeds",
            [-1],
            "experiments.smoke.seeds.0",
            "-1 should be greater than or equal to 0",
        ),
        (
            "experiments/smoke/seeds",
            [True],
            "experiments.smoke.seeds.0",
            "True should be a valid integer",
        ),
        (
            "experiments/smoke/metrics",
            {"probe": {"C": []}},
            "experiments.smoke.metrics.probe.C",
            "at least 1 item",
        ),
        (
            "experiments/smoke/metrics",
            {"prob": {}},
            "experiments.smoke.metrics",
            "'prob'.*allowed: .*firing",
        ),
        (
            "experiments/train",
            RAW["experiments"]["smoke"],
            "experiments.train",
            "taken by a rule",
        ),
        (
            "experiments/weights",
            RAW["experiments"]["smoke"],
            "experiments.weights",
            "taken by a rule",
        ),
        (
            "experiments/store",
            RAW["experiments"]["smoke"],
            "experiments.store",
            "taken by a rule",
        ),
        *(
            (
                f"experiments/{name}",
                RAW["experiments"]["smoke"],
                f"experiments.{name}",
                "taken by a rule, a folder or",
            )
            for name in ("results", "shared", "all", "report")
        ),
        (
            "experiments/Demo",
            RAW["experiments"]["smoke"],
            "experiments.Demo",
            "'Demo'.*allowed: a to z",
        ),
        (
            "experiments/2nd",
            RAW["experiments"]["smoke"],
            "experiments.2nd",
            "'2nd'.*a letter first",
        ),
        *(
            (
                "datasets/" + name,
                RAW["datasets"]["emoji"],
                f"datasets.{name}",
                "allowed: a to z.*at most 64",
            )
            for name in ("a b", ".a", "a-b", "1", "x" * 65)
        ),
        (
            "methods/pca/against",
            "topk",
            "methods.pca.against",
            "a control is not tuned, and compared with nothing",
        ),
        (
            "methods/untrained/sweep",
            {"lr": [1, 2]},
            "methods.untrained.sweep",
            "a control is not tuned",
        ),
        (
            "experiments/smoke/sweep/raw",
            {"m": [8]},
            "experiments.smoke.sweep.raw",
            "a control is not tuned",
        ),
        (
            "methods/reg1/against",
            "untrained",
            "methods.reg1.against",
            "untrained is a control",
        ),
        (
            "methods/frozen_decoder/tied",
            True,
            "methods.frozen_decoder.frozen",
            "freeze all or nothing",
        ),
        (
            "training/small/input_norm",
            "l2",
            "training.small.input_norm",
            "'none', 'unit_l2' or 'unit_l2_layernorm'",
        ),
        ("training/small/lr", 0, "training.small.lr", "0 should be greater than 0"),
        ("training/small/lr", "1e-3", "training.small.lr", "'1e-3'.*1.0e-3"),
        (
            "training/small/lr",
            yaml.safe_load(".nan"),
            "training.small.lr",
            "nan .*finite",
        ),
        (
            "training/small/lr",
            yaml.safe_load("-.inf"),
            "training.small.lr",
            "-inf .*finite",
        ),
        (
            "methods/reg1/lambda",
            yaml.safe_load(".inf"),
            "methods.reg1.lambda",
            "inf .*finite",
        ),
        (
            "methods/reg1/sweep",
            {"lr": {"k8": [math.nan]}},
            "methods.reg1.sweep.lr.k8.0",
            "nan .*finite",
        ),
        (
            "training/small/lr",
            1e301,
            "training.small.lr",
            r"1e\+301 should be less than or equal to 1e\+300$",
        ),
        (
            "training/smoke/auxk_k",
            65,
            "training.smoke.auxk_k",
            "65 is larger than m = 64.*allowed: 1 to 64",
        ),
        (
            "training/small/epochs",
            1.5,
            "training.small.epochs",
            "1.5 should be a valid integer",
        ),
        (
            "datasets/emoji/image_sise",
            64,
            "datasets.emoji.image_sise",
            "allowed: artifacts, .*image_size, label",
        ),
        (
            "datasets/cifar100/test/download",
            True,
            "datasets.cifar100.test",
            "`download` of the entry",
        ),
        (
            "datasets/emoji/artifacts",
            [["a"]],
            "datasets.emoji.artifacts",
            "should be a mapping of keys to values",
        ),
        (
            "datasets/fashion_mnist/artifacts",
            [["a"]],
            "datasets.fashion_mnist.artifacts.0",
            "valid string",
        ),
        (
            "datasets/fashion_mnist/artifacts",
            ["a"],
            "datasets.fashion_mnist.artifacts",
            "'a'.*allowed: cldr_annotations, dinov2",
        ),
        (
            "datasets/imagenet/root",
            "~/birds",
            "datasets.imagenet.root",
            "~/birds: ~ is not expanded; write the whole",
        ),
        ("extensions", "~/mine", "extensions", "~/mine: ~ is not expanded"),
        ("extensions", "~me/mine", "extensions", "~me/mine: ~ is not expanded"),
        (
            "datasets/emoji/fractions/test",
            0.3,
            "datasets.emoji.fractions",
            "they sum to 1.1",
        ),
        (
            "datasets/fashion_mnist/counts/train",
            -5,
            "datasets.fashion_mnist.counts.train",
            "-5 should be greater",
        ),
        (
            "datasets/imagenet/images",
            {"train": 0},
            "datasets.imagenet.images.train",
            "0 should be greater",
        ),
        (
            "datasets/emoji/type",
            "emojy",
            "datasets.emoji.type",
            "allowed: emoji, fashion_mnist, generated, image_folder",
        ),
        (
            "datasets/fashion_mnist_55k",
            {"type": "table", "root": "x"},
            "experiments.study",
            "fashion_.*do not go together",
        ),
        (
            "datasets/x",
            {"type": "table", "root": "x", "image_size": 8},
            "datasets.x.image_size",
            "allowed: .*label, root",
        ),
        (
            "datasets/x",
            {
                "type": "shards",
                "root": "x",
                "splits": {"train": "a.tar", "test": "b.zip"},
            },
            "splits.test",
            "b",
        ),
        (
            "datasets/x",
            {
                "type": "shards",
                "root": "x",
                "splits": {"train": "a.tar", "test": "b.tar"},
            },
            "x",
            "val_frac",
        ),
        (
            "backbones/x",
            {"loader": "timm", "family": "x", "model": "m", "checkpont": "y"},
            "x.checkpont",
            "batch_size, checkpoint, dt",
        ),
        (
            "backbones/x",
            {"loader": "timm", "family": "x"},
            "backbones.x.model",
            "required",
        ),
        (
            "backbones/x",
            {"loader": "timm", "model": "m"},
            "backbones.x.family",
            "required",
        ),
        (
            "backbones/x",
            {"loader": "open_clip", "family": "x", "model": "m"},
            "backbones.x.pretrained",
            "required",
        ),
        (
            "backbones/x",
            {"loader": "timm", "family": "x", "model": "hf-hub:a/b", "checkpoint": "c"},
            "backbones.x.checkpoint",
            "leave it",
        ),
        (
            "backbones/efficientnet_lite0/model",
            "lite9",
            "backbones.efficientnet_lite0.model",
            "lite9.* should be .tf_efficientnet_lite0",
        ),
        (
            "backbones/efficientnet_lite0/artifacts",
            ["x"],
            "backbones.efficientnet_lite0.artifacts",
            "allowed: cldr_annotations, dinov2",
        ),
        (
            "backbones/efficientnet_lite0/loader",
            "precomputed",
            "efficientnet_lite0.artifacts",
            "allowed: extends, family, label, loader",
        ),
        (
            "metrics/probe/D",
            1,
            "metrics.probe.D",
            "allowed: C, largest, max_passes, max_train, optional, tol",
        ),
        ("metrics/impurity", None, "metrics.impurity", "'impurity'.*allowed: .*firing"),
        (
            "metrics/purity",
            [],
            "metrics.purity",
            r"\[\] should be a mapping of keys to values",
        ),
        (
            "figures",
            ["fig9"],
            "figures.fig9",
            "'fig9'.*allowed: detection, effects, fig1",
        ),
        ("extensions", "nowhere", "extensions", "nowhere is no folder"),
        ("compute/device", "gpu", "compute.device", "'auto'"),
        ("compute/shared", ["a:b"], "compute.shared.0", "without a colon"),
        (
            "claims/resamples",
            10,
            "claims.resamples",
            "10 should be greater than or equal to 100",
        ),
        ("claims", REMOVED, "claims", "required"),
        ("claims", None, "claims", "null should be a mapping of keys to values"),
    ],
)
def test_a_mistake_names_its_key_and_what_is_allowed(path, value, key, said):
    message = refused(changed({path: value}))
    assert (
        message.startswith("the configuration is not right:\n") or path == "extensions"
    )
    line = next((line for line in message.splitlines() if f"{key}:" in line), "")
    assert re.search(said, line), message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "training/small/m",
            10**12,
            "at most 16,777,216: a larger SAE fits no machine",
        ),
        ("training/small/epochs", 10**9, "at most 1,000,000: "),
        ("training/small/steps", 10**12, "at most 1,000,000,000: at 1 ms a step"),
        (
            "training/small/lr",
            1e300,
            "1e\\+300 should be at most 10: Adam moves each weight",
        ),
        (
            "training/small/dead_after",
            10**400,
            "inf should be at most 1,000,000,000,000",
        ),
        (
            "methods/reg1/lambda",
            1e300,
            "at most 1,000,000: nothing but the penalty would count",
        ),
        (
            "methods/jumprelu/sparsity",
            1e300,
            "at most 1,000,000,000,000: no number of a study",
        ),
        ("metrics/probe/C", [1, 1e300], "1e\\+300 should be at most"),
        ("datasets/emoji/image_size", 10**9, "at most 16,384: no backbone reads"),
        (
            "datasets/fashion_mnist/counts",
            {"train": 10**20, "val": 1, "test": 1},
            "10{20} should be at most 10,000,000,0",
        ),
        ("backbones/dinov2_vit_s14/image_size", 10**9, "at most 16,384: "),
        (
            "datasets/emoji",
            GENERATED | {"classes": 10**9},
            "at most 16,777,216: more fit no machine",
        ),
        (
            "experiments/smoke/sweep/reg1/lambda",
            [0.1, 1e300],
            "1e\\+300 should be at most 1,000,000: ",
        ),
        (
            "experiments/fair/protocols/fair/points",
            10**9,
            "at most 10,000: each is trained",
        ),
        (
            "experiments/fair/protocols/fair/most_steps/emoji_vendors_split1",
            10**12,
            "10{12} should be at most 1,000,000,000: ",
        ),
        (
            "experiments/fair/protocols/fair/ranges/reg1/lambda/k16",
            [0.1, 1e300],
            "1e\\+300 should be at most 1,000,000: ",
        ),
        (
            "experiments/rivals/protocols/fair/ranges/batch_topk",
            {"momentum": [0.5, 2]},
            "momentum.1: 2.0 should be less than 1",
        ),
        (
            "experiments/fair/protocols/fair/lr",
            [0.1, 100],
            "100.0 should be at most 10: ",
        ),
        ("protocols/fair/lr", [0.1, 1e300], "1e\\+300 should be at most 10: "),
        ("claims/resamples", 10**12, "at most 1,000,000: "),
        ("compute/threads", 10**6, "at most 4,096: no machine has more cores"),
        ("compute/memory_factor", 1e300, "at most 1,000: it multiplies an estimate"),
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
def test_a_number_that_no_study_can_mean_has_a_limit_with_its_reason(path, value, said):
    message = refused(changed({path: value}))
    line = next(line for line in message.splitlines()[1:] if re.search(said, line))
    parents = [path.rsplit("/", cut)[0].replace("/", ".") for cut in range(3)]
    assert any(line.startswith(f"config key {parent}") for parent in parents), message
    settings.load(changed({"claims/bootstrap_seed": 2**62, "training/small/m": 2**24}))


@pytest.mark.parametrize("link", ["extends", "against"])
def test_a_chain_of_thousands_of_methods_is_one_line(link):
    chain = {
        f"methods/c{i}": {"extends": "topk", link: f"c{i - 1}"} for i in range(1, 3000)
    }
    message = refused(changed({"methods/c0": {"extends": "topk"}} | chain))
    assert message.splitlines()[1:] == [
        f"config key methods: `{link}` leads through more than 50 of them in a row; shorten the way"
    ]


@pytest.mark.parametrize(
    ("method", "key", "said"),
    [
        ({}, "methods.x.objective", "required"),
        (
            {"objective": "topc"},
            "methods.x.objective",
            "'topc' is not known; allowed: axes, batch_topk, .*topk",
        ),
        (
            {"objective": "topk", "penalty": "l3"},
            "methods.x.penalty",
            "'l3'.*l1_l2_ratio, .*off_support_l1",
        ),
        (
            {"objective": "topk", "momentum": 0.9},
            "methods.x.momentum",
            "no such key; allowed: .*lr",
        ),
        (
            {"objective": "batch_topk", "momentum": 1},
            "methods.x.momentum",
            "1 should be less than 1",
        ),
        ({"objective": "topk", "lambda": 0.1}, "methods.x.lambda", "no penalty"),
        ({"objective": "topk", "mask": "all"}, "methods.x.mask", "no penalty"),
        (
            {"objective": "topk", "mask": "some"},
            "methods.x.mask",
            "'batch_active' or 'all'",
        ),
        ({"extends": "reg1", "lambda": "1e-3"}, "methods.x.lambda", "1.0e-3"),
        ({"extends": "reg1", "lambda": 0}, "methods.x.lambda", "greater than 0"),
        ({"extends": "nobody"}, "methods.x.extends", "'nobody'.*allowed: .*reg1"),
        ({"extends": "x"}, "methods.x.extends", "x -> x is a circle"),
        (
            {"extends": "reg1", "at": "reg1_all"},
            "methods.x.at",
            "reg1_all is itself trained at the choice of reg1",
        ),
        (
            {"extends": "reg1", "at": "x"},
            "methods.x.at",
            "x -> x is a circle|itself trained",
        ),
        (
            {"extends": "topk", "against": "x"},
            "methods.x.against",
            "x -> x is a circle",
        ),
        (
            {"extends": "topk", "against": "reg1_all"},
            "methods.x.against",
            "itself trained",
        ),
        (
            {"extends": "topk", "lr": "fast"},
            "methods.x.lr",
            "'fast' should be a valid number",
        ),
        (
            {"extends": "topk", "input_norm": "none"},
            "methods.x.input_norm",
            "in `training`",
        ),
        (
            {"extends": "topk", "colour": "red"},
            "methods.x.colour",
            "'red': write a colour such as '#1f77b4'",
        ),
        (
            {"extends": "topk", "sweep": {"lr": []}},
            "methods.x.sweep.lr",
            "at least 1 item",
        ),
        (
            {"extends": "topk", "sweep": {"lr": {}}},
            "methods.x.sweep.lr",
            "at least 1 item",
        ),
        ({"extends": "topk", "sweep": {"lr": 0.1}}, "methods.x.sweep.lr", "valid list"),
        (
            {"extends": "topk", "sweep": {"lr": [0.1, -0.1]}},
            "methods.x.sweep.lr.1",
            "-0.1 should be greater",
        ),
        (
            {"extends": "topk", "sweep": {"epochs": [1.5]}},
            "methods.x.sweep.epochs.0",
            "valid integer",
        ),
        (
            {"extends": "topk", "sweep": {"seed": [1]}},
            "methods.x.sweep",
            "'seed'.*allowed: adam_beta1",
        ),
        (
            {"extends": "topk", "sweep": {"log_every": [1]}},
            "methods.x.sweep",
            "'log_every'.*allowed",
        ),
        (
            {"extends": "topk", "sweep": {"lr": {"16": [0.1]}}},
            "methods.x.sweep.lr.16",
            "'16'.*such as k8",
        ),
        (
            {"extends": "topk", "lr": 0.1, "sweep": {"lr": [0.1]}},
            "methods.x.lr",
            "swept as well",
        ),
        (
            {"extends": "reg1", "at": "reg1", "sweep": {"lambda": [0.1]}},
            "methods.x.sweep",
            "that of reg1: leave it out",
        ),
        (
            {"objective": "batch_topk", "sweep": {"momentum": [0.9, None]}},
            "methods.x.sweep.momentum.1",
            "in a path",
        ),
        (
            {"objective": "batch_topk", "sweep": {"momentum": [0.9, 1.0]}},
            "methods.x.sweep.momentum.1",
            "less than 1",
        ),
    ],
)
def test_a_mistake_in_a_method(method, key, said):
    message = refused(put(methods__x=method))
    line = next((line for line in message.splitlines() if f"{key}:" in line), "")
    assert re.search(said, line), message


@pytest.mark.parametrize(
    ("sweep", "key", "said"),
    [
        ({"reg3": {}}, "sweep", "'reg3'.*allowed: .*reg1"),
        (
            {"reg1": {"lambda": [-0.1]}},
            "sweep.reg1.lambda.0",
            "-0.1 should be greater than 0",
        ),
        ({"reg1": {"lambda": ["1e-3"]}}, "sweep.reg1.lambda.0", "1.0e-3"),
        ({"reg1": {"lambda": [float("inf")]}}, "sweep.reg1.lambda.0", "inf"),
        (
            {"reg1": {"lambda": [0.001, 0.0010000001]}},
            "sweep.reg1.lambda",
            "both written 0.001",
        ),
        (
            {"reg1": {"lambda": {"k9": [0.1]}}},
            "sweep.reg1.lambda",
            "'k9'|no grid for k8",
        ),
        ({"reg1": {"mask": ["all"]}}, "sweep.reg1", "'mask'.*allowed"),
        (
            {"reg1_all": {"lambda": [0.1]}},
            "sweep.reg1_all",
            "that of reg1: leave it out",
        ),
        ({"topk": {"lambda": [0.1]}}, "sweep.topk", "'lambda'.*allowed"),
        ({"topk": {"m": [4, 64]}}, "k", "k = 8 is larger than m = 4"),
        (
            {"reg1": {"lambda": [0.1], "lr": [yaml.safe_load(".nan")]}},
            "sweep.reg1.lr.0",
            "nan .*finite",
        ),
        ({}, "methods", "reg1 has the penalty off_support_l1, but no lambda"),
    ],
)
def test_a_mistake_in_a_sweep(sweep, key, said):
    before = RAW["experiments"]["smoke"]["sweep"]
    message = refused(put(experiments__smoke__sweep=before | sweep if sweep else {}))
    line = next(
        (line for line in message.splitlines() if f"experiments.smoke.{key}:" in line),
        "",
    )
    assert re.search(said, line), message


def test_partners_must_be_in_the_experiment():
    assert re.search(
        r"experiments\.smoke\.methods: reg1 is against topk, which the experiment lacks",
        refused(put(experiments__smoke__methods=["reg1", "reg2"])),
    )
    raw = put(
        experiments__smoke__methods=["topk", "reg1_all"], experiments__smoke__sweep={}
    )
    assert "reg1_all is at reg1, which the experiment lacks" in refused(raw)
    raw = put(
        methods__x={"extends": "topk", "at": "reg1"},
        experiments__smoke__methods=["topk", "reg1", "reg2", "x"],
    )
    assert "x is at reg1, which sweeps lambda; x has no such option" in refused(raw)


SWEEP = r"experiments\.smoke\.sweep\.topk"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"training/smoke/auxk_k": 65},
            r"training\.smoke\.auxk_k: .*65 is larger than m = 64 of training\.smoke",
        ),
        (
            {"methods/topk/auxk_k": 65},
            r"methods\.topk\.auxk_k: .*65 is larger than m = 64 of training\.smoke",
        ),
        (
            {"methods/topk/m": 63},
            r"methods\.topk\.auxk_k: .*64 is larger than m = 63 of methods\.topk",
        ),
        (
            {"methods/topk/sweep": {"auxk_k": [1, 65]}},
            r"methods\.topk\.auxk_k: .*65 is larger than m = 64",
        ),
        (
            {"experiments/smoke/sweep/topk": {"m": [63, 64]}},
            rf"{SWEEP}\.m: auxk_k = 64 .* m = 63 of {SWEEP}",
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
def test_auxk_k_is_at_most_m_wherever_they_are_said(change, said):
    assert re.search(rf"config key {said}", refused(changed(change)))


@pytest.mark.parametrize(
    ("by_dataset", "said"),
    [
        ({"emojis": {"m": 64}}, "by_dataset: 'emojis' is not known; allowed: .*emoji"),
        ({"emoji": {"width": 64}}, r"by_dataset\.emoji\.width: .*"),
        ({"emoji": {"steps": 0}}, r"by_dataset\.emoji\.steps: 0 should be"),
        ({"emoji": {"m": 2**25}}, r"by_dataset\.emoji\.m: .*fits no machine"),
        ({"emoji": {"k": 4}}, r"by_dataset\.emoji\.k: .*write \[4\]"),
        ({"emoji": {"k": [4, 4]}}, r"by_dataset\.emoji\.k: .*there twice"),
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
def test_a_mistake_in_what_an_experiment_says_of_a_dataset(by_dataset, said):
    raw = changed({"experiments/demo/by_dataset": by_dataset})
    assert re.search(rf"config key experiments\.demo\.{said}", refused(raw))


def test_a_gallery_shows_a_k_of_its_dataset():
    raw = changed(
        {
            "experiments/demo/by_dataset": {"emoji": {"k": [8]}},
            "experiments/demo/gallery": {"dataset": "emoji", "k": 32},
        }
    )
    said = r"config key experiments\.demo\.gallery\.k: 32 is not known; allowed: 8"
    assert re.search(said, refused(raw))


def test_a_part_of_an_experiment_takes_over_the_grids_of_its_own_k():
    raw = changed(
        {
            "experiments/demo/by_dataset": {"emoji": {"k": [8]}},
            "experiments/mine": {"extends": "demo", "datasets": ["emoji"]},
        }
    )
    found = settings.load(raw).experiments
    for method in ("reg1", "reg2"):
        assert [*found["mine"].sweep[method]["lambda"]] == ["k8"]
        assert [*found["demo"].sweep[method]["lambda"]] == ["k8", "k32"]


def test_an_at_method_sets_nothing_that_the_other_sweeps():
    text = "reg1_all is trained at the lr that is chosen for reg1 (swept in smoke): leave it out"
    ours = {"methods/reg1_all/lr": 0.5}
    swept = RAW["experiments"]["smoke"]["sweep"]["reg1"] | {"lr": [0.1, 0.2]}
    assert f"methods.reg1_all.lr: {text}" in refused(
        changed(ours | {"experiments/smoke/sweep/reg1": swept})
    )
    assert text in refused(changed(ours | {"methods/reg1/sweep": {"lr": [0.1, 0.2]}}))
    # Its own value of what the other does not sweep holds, and so does one that both take over.
    found = settings.load(changed(ours)).methods["reg1_all"]
    assert (found.lr, found.at) == (0.5, "reg1")
    settings.load(
        changed({"methods/topk/lr": 0.5, "experiments/smoke/sweep/reg1": swept})
    )


def test_longer_circles_are_named():
    message = refused(put(methods__a={"extends": "b"}, methods__b={"extends": "a"}))
    assert re.search(
        r"methods\.(a|b)\.extends: .*(a -> b -> a|b -> a -> b) is a circle", message
    )
    a, b = {"extends": "topk", "against": "b"}, {"extends": "topk", "against": "a"}
    assert "methods.b.against: b -> a -> b is a circle" in refused(
        put(methods__a=a, methods__b=b)
    )


def test_an_experiment_of_fewer_methods_takes_over_their_sweeps_alone():
    few = {"extends": "smoke", "methods": ["topk", "reg1"]}
    found = config.load(
        put(
            experiments__few=few,
            experiments__fewer={"extends": "few", "methods": ["topk"]},
        )
    )
    assert found.experiments["few"].sweep == {
        "reg1": found.experiments["smoke"].sweep["reg1"]
    }
    assert found.experiments["fewer"].sweep == {}
    ranges = config.load(
        put(experiments__few={"extends": "fair", "methods": ["topk", "reg2"]})
    ).experiments["few"]
    assert [*ranges.protocols["fair"]["ranges"]] == ["reg2"]
    assert "'reg2' is not known" in refused(
        put(experiments__few=few | {"sweep": {"reg2": {"lambda": [0.1]}}})
    )


def test_what_an_experiment_takes_over_about_another_k_is_dropped():
    raw = put(
        experiments__mine={"extends": "demo", "k": [8]},
        experiments__theirs={
            "extends": "mine",
            "k": [32],
            "backbones": ["efficientnet_lite0_fast"],
        },
    )
    found = settings.load(raw).experiments
    for name, k in (("mine", "k8"), ("theirs", "k32")):
        for method in ("reg1", "reg2"):
            grid = found["demo"].sweep[method]["lambda"][k]
            assert found[name].sweep[method] == {"lambda": {k: grid}}
    # Of a backbone that is not there no gallery is shown, and the demo's is.
    assert found["mine"].gallery == found["demo"].gallery
    assert found["theirs"].gallery.backbone is None
    # Who writes a grid of another k means it.
    raw = put(
        experiments__mine={
            "extends": "demo",
            "k": [8],
            "sweep": RAW["experiments"]["demo"]["sweep"],
        }
    )
    assert "experiments.mine.sweep.reg1.lambda: 'k32' is not known" in refused(raw)


@pytest.mark.parametrize(
    ("k", "parent", "missing"),
    [([16], "demo", "k16"), ([8, 64], "demo", "k64"), ([32, 4], "mine", "k4")],
)
def test_a_grid_that_an_experiment_does_not_take_over_is_written_for_the_user(
    k, parent, missing
):
    entries = {
        "experiments/mine": {"extends": "demo", "k": [8]},
        "experiments/theirs": {"extends": parent, "k": k},
    }
    message = refused(changed(entries))
    assert message.count("config key") == 1, message
    said = rf"experiments\.theirs\.sweep: no grid of lambda for {missing}; "
    written = re.search(said + "inherited from demo: write `(.*)` here", message)
    assert written, message
    entries["experiments/theirs"] |= yaml.safe_load(f"{{{written[1]}}}")
    sweep = settings.load(changed(entries)).experiments["theirs"].sweep
    assert [*sweep["reg1"]["lambda"]] == [f"k{number}" for number in k]


def test_a_problem_of_what_was_taken_over_says_from_where():
    raw = put(experiments__mine={"extends": "fair", "datasets": ["emoji"]})
    said = "mine.protocols.fair.most_steps: no number of steps for emoji"
    assert f"{said} (inherited from fair)" in refused(raw)
    # A method's own grids, too, which nobody wrote who names it.
    method = {"extends": "topk", "sweep": {"lr": {"k8": [0.1], "k32": [0.2]}}}
    entries = {
        "methods/fast": method,
        "experiments/mine": {"extends": "demo", "k": [16]},
    }
    entries["experiments/mine"] |= {"methods": ["topk", "fast"]}
    message = refused(changed(entries))
    line = "sweep: {fast: {lr: {k16: [0.1]}}}"
    said = "methods.fast.sweep.lr: no grid for k16 of experiment mine; add it, or write"
    assert f"{said} `{line}` in experiments.mine" in message
    entries["experiments/mine"] |= yaml.safe_load(line)
    settings.load(changed(entries))


def test_every_problem_has_its_line():
    raw = put(training__small__lr=0, experiments__demo__seed=1, compute__device="gpu")
    assert (
        refused(raw).count("config key") == 3
    )  # Once, however many recipes extend `small`.


def test_every_section_of_named_entries_knows_extends():
    small = RAW["training"]["small"]
    found = settings.load(
        changed(
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
    smoke = found.experiments["smoke"]
    assert found.experiments["b"] == smoke.model_copy(
        update={"k": [4], "seeds": [7], "description": "mine"}
    )
    assert found.experiments["a"].description == ""
    expected = small | {
        "lr": 0.5,
        "m": 99,
        "precision": "float32",
        "adam_eps": 6.25e-10,
    }
    assert as_record(found.training["b"]) == expected
    assert found.datasets["a"].spec == found.datasets["emoji"].spec | {"image_size": 32}
    assert found.datasets["a"].label is None
    assert found.backbones["a"].spec == found.backbones["vit_b16"].spec | {
        "model": "mine"
    }


@pytest.mark.parametrize(
    "section", ["experiments", "training", "datasets", "backbones"]
)
def test_a_wrong_extends_is_one_line(section):
    first = next(iter(RAW[section]))
    for words, said in (
        (
            {"x": {"extends": "nobody"}},
            rf"{section}\.x\.extends: 'nobody' is not known; allowed: .*{first}",
        ),
        (
            {"x": {"extends": "y"}, "y": {"extends": "x"}},
            rf"{section}\.x\.extends: x -> y -> x is a circle",
        ),
        ({"x": {"extends": 3}}, rf"{section}\.x\.extends: 3 is not known"),
        (
            {"x": {"extends": "y"}, "y": {"extends": [1]}},
            rf"{section}\.y\.extends: \[1\] is not known",
        ),
        ({"x": 3, "y": {"extends": "x"}}, rf"{section}\.y\.extends: 'x' is not known"),
    ):
        message = refused(
            changed({f"{section}/{name}": entry for name, entry in words.items()})
        )
        assert re.search(f"config key {said}", message), message


def test_of_several_files_a_message_names_the_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(
        "training: {mine: {extends: small, lr: -1}, small: {m: 9}}\nfigures: [fig0]\n"
    )
    (tmp_path / "more.yaml").write_text(
        "methods: {topk: {lrr: 1}}\nmethod: {}\ntraining: {smoke: {epochs: 0}}\n"
    )
    with pytest.raises(UserError) as caught:
        settings.read_config("config.yaml", "mine.yaml", "more.yaml")
    message = str(caught.value)
    assert (
        "\nmine.yaml: config key training.mine.lr: -1 should be greater than 0"
        in message
    )
    assert "\nmore.yaml: config key training.smoke.epochs: 0 should be" in message
    assert "\nmore.yaml: config key method: there is no such key" in message
    (tmp_path / "more.yaml").write_text("compute: {threads: 2}\nclaims: {flat: 0}\n")
    (tmp_path / "mine.yaml").write_text(
        "compute: {device: gpu}\ntraining: {small: {lr: 0}}\n"
    )
    with pytest.raises(
        UserError, match=r"mine\.yaml: config key compute\.device.*"
    ) as caught:
        settings.read_config("config.yaml", "mine.yaml", "more.yaml")
    assert "\nmore.yaml: config key claims.flat: 0 " in str(caught.value)
    assert (
        str(caught.value).count("lr: 0 should be")
        == str(caught.value).count("mine.yaml: config key training")
        == 1
    )


@pytest.mark.parametrize("file", sorted((ROOT / "config/experiments").glob("*.yaml")))
def test_research_experiments_are_right(file):
    names = config.parse(file)["experiments"]
    raw, files = settings.merge_config_files(ROOT / "config.yaml", file)
    found = settings.load(raw, files)
    assert (
        file.stem in names
        and names.keys() <= found.experiments.keys() - RAW["experiments"].keys()
    )
    for name in names:  # What a run records of one needs no other.
        alone = settings.load(
            raw | {"experiments": {name: extends.written_out(raw["experiments"])[name]}}
        )
        assert alone.experiments == {name: found.experiments[name]}


def test_what_json_lacks_is_refused():
    raw = changed(
        {
            "datasets/cifar100/train": {
                "since": yaml.safe_load("2020-01-01"),
                "x": [float("nan")],
            }
        }
    )
    message = refused(raw)
    assert re.search(
        r"datasets\.cifar100\.train\.since: .*date; put it in quotes", message
    )
    assert "datasets.cifar100.train.x.0: nan is not allowed" in message
    assert "experiments.True: YAML reads this key as bool" in refused(
        put(experiments=yaml.safe_load("on: {}"))
    )


def methods(**written):
    raw = changed({f"methods/{name}": value for name, value in written.items()})
    return settings.load(raw).methods


def test_a_method_takes_over_what_still_holds():
    found = methods(
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
    a = found["a"]
    assert (a.options, a.recipe, a.lam, a.mask, a.label) == (
        {"momentum": 0.5},
        {"lr": 0.1},
        1.0,
        "batch_active",
        "A",
    )
    # The option of an objective that was replaced is gone, and so is what only a penalty has.
    b, c = found["b"], found["c"]
    assert (b.options, b.recipe, b.lam, b.label) == ({}, {"lr": 0.1}, 1.0, None)
    assert (c.penalty, c.lam, c.mask, c.options) == (
        None,
        None,
        None,
        {"momentum": 0.5},
    )
    # A sweep replaces a fixed value, and a fixed value a sweep.
    assert found["d"].sweep == {"lambda": [0.5, 1.0], "lr": {"k8": [0.1]}}
    assert (found["d"].lam, found["d"].recipe) == (None, {})
    assert (found["e"].sweep, found["e"].recipe, found["e"].mask) == (
        {"lambda": [0.5, 1.0]},
        {"lr": 0.2},
        "all",
    )
    assert (found["f"].sweep, found["f"].at, found["f"].against) == ({}, "d", "topk")
    # Defaults are complete.
    assert settings.load(RAW).methods["batch_topk"].options == {"momentum": 0.99}


@pytest.fixture
def extensions(tmp_path):
    """A folder of one's own with an entry of each kind; importing one of them would fail."""

    def add(place, text):
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"raise RuntimeError('it was run')\n{text}")

    options = "from pydantic import Field, field_validator\nfrom sae.core.options import Options as Base\n"
    options += "class Options(Base):\n    {}\n"
    add("datasets/mine.py", "def load(): ...\n" + options.format("place: str"))
    add("datasets/loose.py", "from x import load")
    add(
        "backbones/mine.py",
        "def load(): ...\nFROM_HUB = True\n" + options.format("depth: int = 3"),
    )
    add(
        "objectives/mine.py",
        "class Objective: ...\n" + options.format("jitter: float = Field(ge=0)"),
    )
    add("penalties/mine.py", "def penalty(): ...\n" + options.format("power: int = 2"))
    add(
        "penalties/greedy.py",
        "def penalty(): ...\n" + options.format("lr: float = 2.0"),
    )
    check = "    @field_validator('p')\n    def check(cls, p): return p.lower()\n"
    add(
        "penalties/faulty.py", "def penalty(): ...\n" + options.format("p: int") + check
    )
    add(
        "penalties/mixed.py",
        "def penalty(): ...\n" + options.format("form: int | float | str"),
    )
    add(
        "penalties/jittered.py",
        "def penalty(): ...\n" + options.format("jitter: float = 2.0"),
    )
    add("metrics/mine.py", METRIC + options.format("bins: int = 10"))
    add("figures/mine.py", FIGURE)
    return tmp_path


METRIC = "STAGE = 'score'\nSPLITS = ['test']\nREADS = ()\ndef score(): ...\n"
FIGURE = "READS = ['gallery/images.parquet']\nCAPTION = 'C'\ndef draw(): ...\n"
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
    ("kind", "old", "new", "said"),
    [
        ("dataset", "def load", "def loads", "must define load"),
        ("backbone", "def load", "def loads", "must define load"),
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
            "has STAGE = 'scores', which must be a text among score, robustness, .*",
        ),
        (
            "metric",
            "['test']",
            "'test'",
            "has SPLITS = 'test', which must be a list of texts among train, val, test",
        ),
        (
            "metric",
            "= ()",
            "= ('other',)",
            r"has READS = \('other',\), which must be .* among train, val, test, others, siblings, concepts",
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
            "'test'",
            "['test']",
            r"has SPLITS = \[\['test'\]\], which must be .*",
        ),
        ("figure", "CAPTION", "caption", "must define CAPTION"),
        ("figure", "def draw", "def paint", "must define draw"),
        (
            "figure",
            "'C'",
            "'C' + D",
            "must write out CAPTION, since it is read without running the file",
        ),
        ("figure", "'C'", "3", "has CAPTION = 3, which must be a text"),
        (
            "figure",
            "['gallery/images.parquet']",
            "'metrics.parquet'",
            "has READS = .*, which must be a list of texts",
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
    extensions, kind, old, new, said
):
    place, value, key = OURS[kind]
    written = {"extensions": str(extensions), place: value}
    settings.load(changed(written))
    file = extensions / registry.PACKAGES[kind].rpartition(".")[2] / "mine.py"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))
    first, *lines = refused(changed(written)).splitlines()
    assert first == "the configuration is not right:" and len(lines) == 1
    assert re.fullmatch(
        f"config key {key}: {file} {said}; docs/extending.md shows how", lines[0]
    ), lines


@pytest.mark.parametrize(
    ("method", "text", "said"),
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
        ({"penalty": "none"}, None, "penalty: 'none' is not known"),
        (
            {"objective": "mine", "penalty": "jittered"},
            None,
            "penalty: jittered has an option 'jitter'",
        ),
        (
            {"objective": "none", "penalty": "mine"},
            None,
            "objective: 'none' is not known",
        ),
        ({"objective": None, "penalty": "mine"}, None, "objective: "),
        ({"penalty": "mine", "lr": 0}, None, "lr: 0 should be greater"),
        (
            {"penalty": "mine", "sweep": {"lr": [0.1, 0]}},
            None,
            r"sweep\.lr\.1: 0 should be greater",
        ),
        (
            {"penalty": "mine", "sweep": {"none": [1]}},
            None,
            "sweep: 'none' is not known",
        ),
    ],
)
def test_one_cause_is_told_once(extensions, method, text, said):
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
    message = refused(changed(raw))
    assert (
        re.search(rf"config key methods\.a\.{said}", message)
        and message.count("config key") == 1
    ), message


def test_an_option_of_ones_own_has_a_limit_by_its_size_not_its_name(extensions):
    own = "from sae.core.options import Options as Base\nclass Options(Base):\n    d: float\n"
    (extensions / "penalties/mine.py").write_text(f"def penalty(): ...\n{own}")

    def with_d(d):
        return changed(
            {
                "extensions": str(extensions),
                "methods/reg1/penalty": "mine",
                "methods/reg1/d": d,
            }
        )

    assert (
        settings.load(with_d(5_000_000)).methods["reg1"].options["d"] == 5_000_000
    )  # More than any backbone has dimensions.
    assert "methods.reg1.d: 1e+300 should be at most 1,000,000,000,000" in refused(
        with_d(1e300)
    )


def test_a_file_that_is_wrong_is_told_at_one_key(extensions):
    (extensions / "datasets/mine.py").write_text("def load(:\n")
    raw = {
        f"datasets/{name}": {"type": "mine", "place": "x"} for name in ("one", "two")
    }
    raw["compute/threads"] = 2
    message = refused(changed({"extensions": str(extensions), **raw}))
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
    found = settings.load(changed(good))
    assert found.methods["mine"].options == {"jitter": 2.0, "power": 2}
    assert found.methods["mine"].sweep == {"jitter": [1.0, 2.0]}
    mixed = {
        "objective": "topk",
        "penalty": "mixed",
        "lambda": 0.1,
        "sweep": {"form": ["b", 2, "a", 0.5]},
    }
    swept = (
        settings.load(changed(good | {"methods/mixed": mixed})).methods["mixed"].sweep
    )
    assert swept == {"form": [0.5, 2, "a", "b"]}
    assert found.datasets["mine"].spec == {
        "type": "mine",
        "place": "x",
        "image_size": 8,
    }
    assert found.datasets["loose"].spec == {"type": "loose", "whatever": [1]}
    assert settings.metrics_by_stage(found, "smoke")["score"]["mine"] == {"bins": 10}
    assert external_files.is_from_hub(found, "mine") and settings.shown_figures(
        found, "smoke"
    ) == [
        "mine",
        "fig4",
    ]
    for path, value, said in (
        (
            "datasets/mine",
            {"type": "mine", "plase": "x"},
            r"datasets\.mine\.plase: .*allowed: .*label, .*place, train_share, type",
        ),
        (
            "backbones/mine/depth",
            "3",
            r"backbones\.mine\.depth: '3' should be a valid integer",
        ),
        (
            "methods/mine/sweep",
            {"jitter": [-1]},
            r"methods\.mine\.sweep\.jitter\.0: -1 should be greater",
        ),
        ("methods/mine/sweep", {}, r"methods\.mine\.jitter: this key is required"),
        (
            "methods/mine/penalty",
            "greedy",
            r"methods\.mine\.penalty: greedy has an option 'lr', a name that is taken",
        ),
        (
            "methods/mine",
            {"objective": "topk", "penalty": "faulty", "lambda": 1, "p": 1},
            r"methods\.mine: .*penalties/faulty\.py line 8 fails .*: AttributeError: 'int' object has no attribute",
        ),
        ("metrics/mine", [], r"metrics\.mine: \[\] should be a mapping"),
        ("metrics/mine", {"bin": 1}, r"metrics\.mine\.bin: .*allowed: bins"),
    ):
        assert re.search(said, refused(changed(good | {path: value}))), path


def test_yaml_errors_name_file_and_line(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, said in (
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4.*'b' is there twice"),
        ("a: [1\nb: 2\n", "line 2"),
        ("[1]", "expected keys"),
        ("a:\n\tb: 1\n", "line 2"),
        ("a: 1\nb: !!python/name:os.system\n", "line 2.*constructor"),
        ("a: {[b]: 1}\n", "line 1.*unhashable"),
        (
            "x: {k: 1, l: [{m: 1, n: 2, m: 3}]}\n",
            "line 1.*'m' is there twice, first in line 1",
        ),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
        (
            "a: &a 1\nb: [*a]\n",
            r"line 2 .*: \*a is not allowed here: write it out, or `extends: NAME`",
        ),
        (
            "a: &a {b: 1}\nc:\n  <<: *a\n",
            "line 3 .*: << is not allowed here: write `extends: NAME`",
        ),
        (
            f"a: {'[' * 10_000}{']' * 10_000}",
            "line 1.*nested more than 50 deep; write it flatter",
        ),
        (
            f"a: {'[' * 300_000}",
            "line 1.*nested more than 50 deep",
        ),  # libyaml itself would end Python.
        ('{"a": ' * 200_000 + "1" + "}" * 200_000, "line 1.*nested more than 50 deep"),
        ("a: 2024-13-45\n", "month must be in"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=f"(?s)mine.yaml.*{said}"):
            config.parse(file)
    file.write_text('{"a": ' * 100 + "1" + "}" * 100)  # Python's JSON takes it.
    with pytest.raises(
        UserError, match=r"config key a\.a\.a.*nested more than 50 deep"
    ):
        config.read(file)
    # What Snakemake takes for JSON need not be YAML.
    file.write_text('{"a":\n\t"\\ud83d\\ude00"}')
    assert config.parse(file) == {"a": "\N{GRINNING FACE}"}
    (tmp_path / "tag.yaml").write_text("m: !!bool x\n")
    with pytest.raises(UserError, match=r"tag\.yaml cannot be read: KeyError: 'x'"):
        config.parse(tmp_path / "tag.yaml")
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read"):
        config.parse(tmp_path / "nowhere.yaml")


def test_reading_the_config_imports_no_heavy_library():
    code = "import sys; from sae_workflow import settings, schema;"
    code += "c = settings.read_config('config.yaml'); schema.schema();"
    code += "[settings.bank_plan(c, e, b) for e in c.experiments for b in settings.cells(c, e)];"
    code += "print(*{'torch', 'sklearn', 'matplotlib', 'timm', 'open_clip', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


FAIR = "experiments/fair/protocols/fair"
LISTED = "experiments/demo/protocols/listed/trials"


POINT = {"lr": 0.001, "encoder_scale": 0.1, "auxk_alpha": 0.3}
GRID = {
    "most_steps": RAW["experiments"]["fair"]["protocols"]["fair"]["most_steps"],
    "points": [POINT, POINT | {"lr": 0.002, "alone": True}],
    "own_values": {
        "reg1": {"lambda": [0.1]},
        "reg2": {"lambda": {"k16": [1], "k32": [2]}},
    },
}


def test_a_grid_of_points_is_right():
    tuning = settings.load(changed({FAIR: GRID})).experiments["fair"].protocols["fair"]
    assert tuning == GRID


@pytest.mark.parametrize(
    ("written", "key", "said"),
    [
        ({"points": []}, "points", "at least 1 item"),
        ({"points": "six"}, "points", "valid integer"),
        ({"points": [{"lr": 0.1}]}, "points.0.encoder_scale", "required"),
        ({"points": [POINT | {"rate": 1}]}, "points.0.rate", "no such key; allowed"),
        ({"points": [POINT | {"lr": 100}]}, "points.0.lr.0", "at most 10"),
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
            {"own_values": GRID["own_values"] | {"topk": {"lr": [1]}}},
            "own_values.topk",
            "'lr' is not known",
        ),
        (
            {"own_values": GRID["own_values"] | {"reg1": {"lambda": [1, 1]}}},
            "own_values.reg1.lambda",
            "there twice",
        ),
        (
            {"own_values": GRID["own_values"] | {"pca": {"m": [2]}}},
            "fair.own_values",
            "'pca' is not known",
        ),
    ],
)
def test_a_mistake_in_a_grid_of_points(written, key, said):
    message = refused(changed({FAIR: GRID | written}))
    assert any(
        f"{key}:" in line and re.search(said, line) for line in message.splitlines()
    ), message


@pytest.mark.parametrize(
    ("path", "value", "key", "said"),
    [
        (f"{FAIR}/points", 0, "protocols.fair.points", "0 should be greater"),
        (
            f"{FAIR}/most_steps/nowhere",
            999,
            "protocols.fair.most_steps",
            "'nowhere'.*allowed",
        ),
        (
            f"{FAIR}/most_steps/emoji_vendors_split1",
            REMOVED,
            "protocols.fair.most_steps",
            "for emoji_v",
        ),
        (
            f"{FAIR}/most_steps/emoji_vendors_split1",
            99,
            "most_steps.emoji_vendors_split1",
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
            f"{FAIR}/ranges/reg1/lambda/k16",
            [0.1],
            "ranges.reg1.lambda.k16",
            "is no range; write",
        ),
        (
            f"{FAIR}/ranges/reg1/lambda/k16",
            [0.1, 0.1],
            "ranges.reg1.lambda.k16",
            "is no range; write",
        ),
        (
            f"{FAIR}/ranges/reg1/lambda/k16",
            REMOVED,
            "ranges.reg1.lambda",
            "no range for k16",
        ),
        (f"{FAIR}/ranges/topk", {"lr": [0.1, 1]}, "ranges.topk", "'lr' is not known"),
        (
            f"{FAIR}/ranges/topk",
            {"auxk_k": [2, 9]},
            "ranges.topk.auxk_k",
            "whole number.*sweep it",
        ),
        (
            f"{FAIR}/ranges/pca",
            {"m": [2, 9]},
            "experiments.fair.protocols.fair.ranges",
            "'pca' is not known",
        ),
        (
            "training/study",
            {"extends": "small", "tied": True, "encoder_scale": 1},
            "experiments.fair.protocols.fair",
            "is tied: its encoder has no scale",
        ),
        (
            LISTED,
            {"pca": [{"lr": 0.1}]},
            "demo.protocols.listed.trials",
            "'pca' is not known; allowed: reg1, reg2, topk",
        ),
        (
            LISTED,
            {"topk": [{"lambda": 0.1}]},
            "protocols.listed.trials.topk",
            "'lambda' is not known",
        ),
        (
            LISTED,
            {"topk": [{"lr": 100}]},
            "listed.trials.topk.lr.0",
            "100.0 should be at most 10",
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
        ("protocols/fair/widths", [], "protocols.fair.widths", "at least 1 item"),
        (
            "experiments/demo/protocols",
            {"listed": {}},
            "demo.protocols",
            "chooses nothing; add paper or fair",
        ),
        (
            "experiments/fair/protocols/fare",
            {},
            "experiments.fair.protocols",
            "'fare' is not known",
        ),
        (
            "experiments/fair/protocols/paper/x",
            1,
            "experiments.fair.protocols.paper.x",
            "there is no such key",
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
def test_a_mistake_in_what_is_tuned(path, value, key, said):
    message = refused(changed({path: value}))
    assert any(
        f"{key}:" in line and re.search(said, line) for line in message.splitlines()
    ), message


def test_an_sae_made_elsewhere_is_a_method_without_training(tmp_path):
    given = {
        "place": "there/sae",
        "format": "saelens",
        "input_scale": 2,
        "backbone": "efficientnet_lite0",
    }
    words = {
        "methods/theirs": {"import": given, "label": "Theirs"},
        "methods/short": {"import": "owner/name:folder"},
    }
    used = {
        "experiments/fair/methods": [
            *RAW["experiments"]["fair"]["methods"],
            "theirs",
            "short",
        ]
    }
    config = settings.load(changed(words | used))
    theirs = config.methods["theirs"]
    assert (theirs.objective, theirs.options) == (
        "imported",
        {"file": "results/imported/theirs.safetensors"},
    )
    assert config.methods["short"].imported.place == "owner/name:folder"
    assert (
        settings.import_options(config, "theirs")
        == "there/sae --format=saelens --input-scale=2.0"
    )
    # It is scored where it belongs to, and protocol `fair` tunes it nowhere.
    plans = [
        settings.bank_plan(
            config,
            "fair",
            settings.Cell("emoji_vendors_split1", f"efficientnet_lite{n}", 16),
        )
        for n in (0, 2)
    ]
    assert ["theirs" in plan.methods for plan in plans] == [
        True,
        False,
    ] and "short" in plans[1].methods
    assert not any(plans[0].methods[name].tuned for name in ("theirs", "short"))


@pytest.mark.parametrize(
    ("method", "key", "said"),
    [
        (
            {"import": "x", "lr": 0.1},
            "methods.theirs.lr",
            "is not trained: leave it out",
        ),
        (
            {"import": "x", "against": "topk"},
            "methods.theirs.against",
            "is not trained",
        ),
        (
            {"import": "x", "sweep": {"lr": [0.1]}},
            "methods.theirs.sweep",
            "is not trained",
        ),
        (
            {"import": "x", "extends": "topk"},
            "methods.theirs.extends",
            "takes over nothing: leave it out",
        ),
        (
            {"import": {"place": "x", "format": "saelans"}},
            "methods.theirs.import.format",
            "'saelans' is not known",
        ),
        (
            {"import": {"plase": "x"}},
            "methods.theirs.import.plase",
            "there is no such key",
        ),
        (
            {"import": {"place": "x", "k": 0}},
            "methods.theirs.import.k",
            "0 should be greater",
        ),
        (
            {"import": {"place": "x", "backbone": "no"}},
            "methods.theirs.import.backbone",
            "'no' is not known",
        ),
        (
            {"objective": "imported"},
            "methods.theirs.objective",
            "write `import: PATH` instead",
        ),
    ],
)
def test_a_mistake_in_an_import(method, key, said):
    message = refused(changed({"methods/theirs": method}))
    assert any(f"{key}:" in line and said in line for line in message.splitlines()), (
        message
    )


def test_an_import_must_belong_to_its_experiment_which_does_not_sweep_it():
    used = {
        "experiments/fair/methods": [*RAW["experiments"]["fair"]["methods"], "theirs"]
    }
    for given in ({"k": 64}, {"backbone": "vit_b16"}, {"dataset": "emoji"}):
        message = refused(
            changed({"methods/theirs": {"import": {"place": "x"} | given}} | used)
        )
        assert "theirs belongs to a dataset, backbone or k that is not here" in message
    swept = {
        "experiments/fair/sweep/theirs": {"lr": [0.1]},
        "methods/theirs": {"import": "x"},
    }
    assert "experiments.fair.sweep.theirs: an SAE that was made elsewhere" in refused(
        changed(swept | used)
    )
