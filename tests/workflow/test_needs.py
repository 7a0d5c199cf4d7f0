"""What jobs ask for, against numbers worked out by hand."""

import copy
import math

import pytest
from conftest import ROOT
from sae_workflow import forecast, settings
from sae_workflow.forecast import memory_request, rate, runtime_request
from sae_workflow.stages import Job

from sae.core import files

CONFIG, _ = settings.merge_config_files(ROOT / "config.yaml")
CELL = {"experiment": "paper", "dataset": "imagenet", "backbone": "vit_l16", "k": "32"}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Without results, whose sizes would count.
    return copy.deepcopy(CONFIG)


def job(config, rule, cell=CELL):
    return Job(rule, settings.load(config), cell)


def scoring(m):
    """Count by hand: inputs, held-out ones, their codes, an SAE.

    Inputs of 1,231,167 x 1024 float32 stay on disk, so that it is a quarter GiB.
    """
    held_out = 2 * 50_000 * 1024 * 4 / 1e6
    return (
        360
        + 1.9 * (2**28 / 1e6 + held_out)
        + 4.1 * 8 * 100_000 * 32 / 1e6
        + (2 * 4 * 4096 + 8 * 1024) * m / 1e6
    )


def test_memory_and_limits_of_training_by_hand(config):
    """It takes less than scoring does, beside which the training inputs stay open."""
    used = scoring(8192) + 2**28 / 1e6
    assert memory_request(job(config, "train"), 1) == math.ceil(1.5 * (used + 400))
    config["compute"]["device"] = "cuda"
    config["compute"]["memory_factor"] = 2
    config["compute"]["memory_limit"] = 40_000
    train = job(config, "train")
    assert [memory_request(train, attempt) for attempt in (1, 2, 3)] == [
        math.ceil(1.5 * (used + 3400) * 2),
        math.ceil(1.5 * (used + 3400) * 4),
        40_000,
    ]
    # 51 SAEs x 50 epochs x 601 steps of 6 ms: 153 minutes, of which three times as many
    # are asked for.
    assert 3 * 153 < runtime_request(train, 1) < 4 * 153
    config["compute"].update(time_factor=0.5, time_limit=300)
    train = job(config, "train")
    assert 3 * 153 / 2 < runtime_request(train, 1) < 300 == runtime_request(train, 3)


def test_the_unknown_has_figures_of_its_own_until_its_size_is_known(config, tmp_path):
    config["datasets"]["birds"] = {"type": "image_folder", "root": "birds"}
    config["experiments"]["paper"]["datasets"] = ["birds"]
    birds = {**CELL, "dataset": "birds"}
    figures = settings.costs()
    unknown = figures["memory"]["unknown"]
    assert memory_request(job(config, "train", birds), 1) == 1.5 * (unknown + 400)
    assert (
        runtime_request(job(config, "train", birds), 1) == figures["runtime"]["unknown"]
    )
    manifest = tmp_path / "results/datasets/birds/manifest.json"
    manifest.parent.mkdir(parents=True)
    images = {"train": 1000, "val": 100, "test": 100}
    files.write_json(manifest, {"images": images})
    used = 430 + (1 + 1.9) * 4 * 1000 * 1024 / 1e6 + 5.4 * 8 * 8192 * 1024 / 1e6
    assert memory_request(job(config, "train", birds), 1) == math.ceil(
        1.5 * (used + 400)
    )


def test_a_labelled_dataset_whose_classes_nobody_knows(config, tmp_path):
    """Probes of 1000 classes take hours, of none nothing: neither is assumed."""
    config["datasets"]["birds"] = {"type": "image_folder", "root": "birds"}
    config["experiments"]["paper"]["datasets"] = ["birds"]
    birds = {**CELL, "dataset": "birds"}
    manifest = tmp_path / "results/datasets/birds/manifest.json"
    manifest.parent.mkdir(parents=True)
    images = {"train": 1_231_167, "val": 50_000, "test": 50_000}
    files.write_json(manifest, {"images": images})
    unknown = settings.costs()["runtime"]["unknown"]
    assert runtime_request(job(config, "probe", birds), 1) == unknown
    files.write_json(manifest, {"images": images, "classes": 1000})
    of_birds = job(config, "probe", birds)
    of_imagenet = job(CONFIG, "probe", CELL)
    assert memory_request(of_birds, 1) == memory_request(of_imagenet, 1)
    assert runtime_request(of_birds, 1) == runtime_request(of_imagenet, 1)


def test_given_embeddings_of_which_only_the_manifests_tell(config, tmp_path):
    config["datasets"]["ours"] = {"type": "table", "root": "ours"}
    config["backbones"]["given"] = {
        "loader": "precomputed",
        "family": "ours",
        "model": "given",
    }
    paper = config["experiments"]["paper"]
    paper.update(datasets=["ours"], backbones=["given"], gallery={})
    ours = {**CELL, "dataset": "ours", "backbone": "given"}
    images = {"train": 1000, "val": 100, "test": 100}
    for file, content in (
        ("datasets/ours/manifest.json", {"images": images, "classes": 0}),
        ("activations/ours/given/train/manifest.json", {"shape": [1000, 64]}),
    ):
        (tmp_path / "results" / file).parent.mkdir(parents=True)
        files.write_json(tmp_path / "results" / file, content)
    banks = ("train", "score", "robustness", "probe")
    for rule in ("dataset", "embed", *banks, "probe_embeddings", "collect", "tables"):
        needs = job(config, rule, ours)
        assert memory_request(needs, 1) < 10_000 and runtime_request(needs, 1) <= 30


def test_what_a_method_and_a_sweep_say_of_size_and_time_counts(config):
    """The largest of the swept values counts, and every trial."""
    config["experiments"]["paper"]["sweep"]["reg2"] = {
        "lambda": [0.001],
        "m": [4096, 16384],
        "epochs": [10],
    }
    config["compute"]["saes_at_once"] = 9
    used = 9 * (430 + 1.9 * 2**28 / 1e6 + 5.4 * 8 * 16384 * 1024 / 1e6)
    assert memory_request(job(config, "train"), 1) == math.ceil(
        1.5 * (used + scoring(16384) + 400)
    )
    flop = [
        4 * 2048 * 1024 * (m + 32) * 601 * epochs
        for m, epochs in [*9 * [(8192, 50)], *2 * [(16384, 10)]]
    ]
    # Of `reg1_all` and `reg2_all` an SAE each and seed; what `reg2` sweeps holds for
    # `reg2_all`.
    choosing = (3 + 18 + 6 + 5 * 3 + 6) * 50_000 * 2 * 1024 * 16384 / 1e9
    total = 3 * (sum(flop) + flop[0] + flop[-1]) / 1e9 + choosing
    seconds = total / rate("cpu")
    seconds += rate("start") + 51 * rate("sae")
    seconds = rate("start") + (seconds - rate("start")) / 9
    assert forecast.estimate_seconds(job(config, "train")) == pytest.approx(seconds)
