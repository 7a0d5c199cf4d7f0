"""config.yaml: every mistake names its key and what is allowed, before any job."""

import math
import re
import subprocess
import sys

import pytest
from config.common import GENERATED, RAW, config_with, refusal_of
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
    ("path", "value", "known"),
    [
        ("experiments/demo/datasets", ["nobody"], "emoji"),
        ("experiments/demo/backbones", ["nobody"], "efficientnet_lite0"),
        ("experiments/demo/judges", ["nobody"], "efficientnet_lite0"),
        ("experiments/demo/methods", ["topk", "nobody"], "reg1_all"),
        ("experiments/demo/training", "nobody", "small"),
        ("experiments/demo/gallery", {"backbone": "nobody"}, "dinov2_vit_s14_fast"),
        ("experiments/demo/metrics", {"nobody": {}}, "firing"),
        ("experiments/demo/protocols", {"nobody": {}}, "paper"),
        ("experiments/demo/sweep", {"nobody": {}}, "reg1"),
        ("experiments/demo/by_dataset", {"nobody": {"m": 64}}, "emoji"),
        ("experiments/paper_tuned/protocols/tuned/ranges/nobody", {}, "reg1"),
        ("experiments/demo/protocols/tuned/trials/nobody", [], "reg1"),
        ("datasets/emoji/type", "nobody", "image_folder"),
        ("datasets/fashion_mnist/artifacts", ["nobody"], "caltech101"),
        ("backbones/efficientnet_lite0/artifacts", ["nobody"], "caltech101"),
        ("backbones/efficientnet_lite0/loader", "nobody", "timm"),
        ("methods/topk/objective", "nobody", "batch_topk"),
        ("methods/reg1/penalty", "nobody", "l1_l2_ratio"),
        ("methods/reg1/at", "nobody", "topk"),
        ("methods/reg1/against", "nobody", "topk"),
        ("methods/reg1/sweep", {"nobody": [1]}, "adam_beta1"),
        ("metrics/nobody", None, "firing"),
        ("figures", ["nobody"], "fig1"),
    ],
)
def test_a_name_that_is_not_known_is_told_beside_those_that_are(path, value, known):
    message = refusal_of(config_with({path: value}))
    key = path.removesuffix("/nobody").replace("/", ".")
    line = next(line for line in message.splitlines() if f"config key {key}" in line)
    assert re.search(rf"'nobody' is not known; allowed: .*\b{known}", line), message


SMOKE = RAW["experiments"]["smoke"]
TARS = {"type": "shards", "root": "x"}


@pytest.mark.parametrize(
    ("path", "value", "key", "pattern"),
    [
        ("experiments/demo/seed", [1], "experiments.demo.seed", "did you mean .seeds"),
        ("experiments/demo/datasets", ["emoji"] * 2, "demo.datasets", "twice"),
        ("experiments/demo/datasets", [], "demo.datasets", "at least 1 item"),
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
        ("experiments/demo/gallery", {"k": 9}, "gallery.k", "9 .*; allowed: 32, 8"),
        ("methods/reg1/sweep", {"seed": [1]}, "reg1.sweep", "'seed' is not known"),
        ("methods/topk/sweep", {"lambda": [1]}, "topk.sweep", "'lambda' is not known"),
        ("experiments/smoke/k", [65], "smoke.k", "65 is larger than m = 64 .*1 to 64"),
        # What YAML and people mistake one type for.
        ("experiments/smoke/k", ["8"], "smoke.k.0", "'8'.*without quotes"),
        ("experiments/smoke/k", [8.0], "smoke.k.0", "8.0.*: write 8$"),
        ("experiments/smoke/k", 8, "smoke.k", r"8 .*: write \[8\]"),
        ("experiments/smoke/seeds", [True], "smoke.seeds.0", "True.*valid integer"),
        ("experiments/smoke/training", {"m": 8}, "smoke.training", "below `training`"),
        ("training/small/lr", "1e-3", "training.small.lr", "'1e-3'.*1.0e-3"),
        ("training/small/lr", 0, "training.small.lr", "0 is too small.* above 0"),
        ("methods/reg1/lambda", math.inf, "methods.reg1.lambda", "inf .*finite"),
        *(
            (f"experiments/{name}", SMOKE, f"experiments.{name}", "taken by a rule")
            for name in ("train", "store", "results", "shared", "all")
        ),
        ("experiments/Demo", SMOKE, "experiments.Demo", "'Demo'.*allowed: a to z"),
        *(
            (f"datasets/{name}", {}, f"datasets.{name}", "allowed: a to z.*at most 64")
            for name in (".a", "a-b", "1", "x" * 65)
        ),
        ("methods/pca/against", "topk", "methods.pca.against", "control is not tuned"),
        ("methods/pca/sweep", {"lr": [1]}, "methods.pca.sweep", "control is not tuned"),
        (
            "experiments/smoke/sweep/raw",
            {"m": [8]},
            "sweep.raw",
            "control is not tuned",
        ),
        ("methods/reg1/against", "raw", "methods.reg1.against", "raw is a control"),
        (
            "methods/frozen_decoder/tied",
            True,
            "frozen_decoder.frozen",
            "all or nothing",
        ),
        (
            "datasets/cifar100/test/download",
            True,
            "datasets.cifar100.test",
            "`download` of the entry",
        ),
        ("datasets/imagenet/root", "~/birds", "imagenet.root", "~/birds: ~ is not exp"),
        ("extensions", "~me/mine", "extensions", "~me/mine: ~ is not expanded"),
        ("extensions", "nowhere", "extensions", "nowhere is no folder"),
        ("datasets/emoji/fractions/test", 0.3, "emoji.fractions", "they sum to 1.1"),
        (
            "datasets/x",
            TARS | {"splits": {"train": "a.tar", "test": "b.zip"}},
            "splits.test",
            "b.zip",
        ),
        (
            "datasets/x",
            TARS | {"splits": {"train": "a.tar", "test": "b.tar"}},
            "datasets.x",
            "val_fraction",
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
        ("compute/shared", ["a:b"], "compute.shared.0", "without a colon"),
        ("claims", None, "claims", "null should be a mapping of keys to values"),
    ],
)
def test_a_mistake_that_no_type_states_names_its_key(path, value, key, pattern):
    message = refusal_of(config_with({path: value}))
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
