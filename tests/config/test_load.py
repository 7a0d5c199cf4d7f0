"""config.yaml: every mistake names its key and what is allowed, before any job."""

import math
import re
import subprocess
import sys

import pytest
import yaml
from config.common import GENERATED, RAW, REMOVED, config_with, refusal_of
from conftest import ROOT
from sae_workflow import settings

from sae.config import extends
from sae.config.yaml_file import parse_file
from sae.core.errors import UserError
from sae.core.options import as_record


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
    config = settings.read_config(ROOT / "config.yaml")
    assert config.experiments["demo"].k == [8, 32]
    assert (
        config.training["demo"].lr == 0.005
        and config.training["paper"].precision == "bfloat16"
    )
    assert (
        config.datasets["emoji"].image_size == 96
        and config.datasets["imagenet"].max_broken == 10
    )
    assert (
        config.backbones["vit_l16"].dtype == "float16"
        and config.backbones["vit_b16"].dtype == "float32"
    )
    # Jobs get what is written, and nothing that is only printed.
    expected = {
        key: value
        for key, value in RAW["datasets"]["imagenette"].items()
        if key != "label"
    }
    assert config.datasets["imagenette"].spec == expected


@pytest.mark.parametrize(
    ("path", "value", "key", "pattern"),
    [
        (
            "experiments/demo/seed",
            [1],
            "experiments.demo.seed",
            "no such key; allowed: backbones, by_dataset, concepts, datasets.*; "
            "did you mean .seeds.\\?$",
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
            "'reg3'.*allowed: .*reg1, reg1_all",
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
            "at most 9223372036854775807",
        ),
        (
            "experiments/smoke/seeds",
            [-1],
            "experiments.smoke.seeds.0",
            "-1 is too small: it must be at least 0",
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
        (
            "training/small/lr",
            0,
            "training.small.lr",
            "0 is too small: it must be above 0",
        ),
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
            r"1e\+301 is too large: it must be at most 1e\+300$",
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
            "'a'.*allowed: aid, caltech101, cats_dogs",
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
            "-5 is too small",
        ),
        (
            "datasets/imagenet/images",
            {"train": 0},
            "datasets.imagenet.images.train",
            "0 is too small",
        ),
        (
            "datasets/emoji/type",
            "emojy",
            "datasets.emoji.type",
            "allowed: class_folders, emoji, fashion_mnist, generated, image_folder",
        ),
        (
            "datasets/fashion_mnist_13k",
            {"type": "table", "root": "x"},
            "experiments.fair",
            "fashion_.*do not go together",
        ),
        (
            "datasets/x",
            {"type": "table", "root": "x", "image_size": 8},
            "datasets.x.image_size",
            "allowed: .*label, pictures, root",
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
            "allowed: aid, caltech101, cats_dogs",
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
            "10 is too small: it must be at least 100",
        ),
        ("claims", REMOVED, "claims", "required"),
        ("claims", None, "claims", "null should be a mapping of keys to values"),
    ],
)
def test_a_mistake_names_its_key_and_what_is_allowed(path, value, key, pattern):
    message = refusal_of(config_with({path: value}))
    assert (
        message.startswith("the configuration is not right:\n") or path == "extensions"
    )
    line = next((line for line in message.splitlines() if f"{key}:" in line), "")
    assert re.search(pattern, line), message


def test_every_problem_has_its_line():
    raw = config_with(
        {"training/small/lr": 0, "experiments/demo/seed": 1, "compute/device": "gpu"}
    )
    assert (
        refusal_of(raw).count("config key") == 3
    )  # Once, however many recipes extend `small`.


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
        "\nmine.yaml: config key training.mine.lr: -1 is too small: it must be above 0"
        in message
    )
    assert "\nmore.yaml: config key training.smoke.epochs: 0 is too small" in message
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
        str(caught.value).count("lr: 0 is too small")
        == str(caught.value).count("mine.yaml: config key training")
        == 1
    )


@pytest.mark.parametrize("file", sorted((ROOT / "config/experiments").glob("*.yaml")))
def test_research_experiments_are_right(file):
    names = parse_file(file)["experiments"]
    assert file.stem in names
    written_out = extends.write_out_entries(RAW["experiments"])
    for name in names:  # What a run records of one needs no other.
        alone = settings.load(RAW | {"experiments": {name: written_out[name]}})
        assert alone.experiments == {name: settings.load(RAW).experiments[name]}


def test_reading_the_config_imports_no_heavy_library():
    code = """
import sys
from sae_workflow import schema, settings
config = settings.read_config("config.yaml")
schema.schema()
for experiment in config.experiments:
    for cell in settings.cells(config, experiment):
        settings.bank_plan(config, experiment, cell)
heavy = {"torch", "sklearn", "matplotlib", "timm", "open_clip", "pandas", "scipy"}
print(*heavy & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
