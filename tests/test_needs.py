"""What jobs ask for, against numbers worked out by hand."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT
from sae_workflow import costs, needs
from sae_workflow.needs import Needs

from sae.models import codes, inputs

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
CELL = SimpleNamespace(experiment="paper", dataset="imagenet", backbone="vit_l16", k="32")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Without results, whose sizes would count.
    return copy.deepcopy(CONFIG)


def test_memory_of_training_by_hand(config):
    """Inputs of 1,231,167 x 1024 float32 stay on disk, so a quarter GiB of them; an SAE has 2 x 8192 x 1024 float32."""
    used = 430 + 1.9 * 2**28 / 1e6 + 5.4 * 8 * 8192 * 1024 / 1e6
    ask = Needs(config).memory("train")
    assert ask(CELL, 1) == math.ceil(1.5 * (used + 400))
    config["compute"] |= {"device": "cuda", "memory_factor": 2, "memory_limit": 30_000}
    ask = Needs(config).memory("train")
    assert [ask(CELL, attempt) for attempt in (1, 2, 3)] == [
        math.ceil(1.5 * (used + 3400) * 2),
        math.ceil(1.5 * (used + 3400) * 4),
        30_000,
    ]


def test_time_of_a_bank_and_of_its_parts(config):
    """39 SAEs x 50 epochs x 601 steps of at least 6 ms on a GPU, a quarter of it in each of 4 parts."""
    config["compute"] |= {"device": "cuda", "threads": 8}
    step = max(0.006, 4 * 2048 * 1024 * (8192 + 32) / 1e12 / costs.rate("gpu_bfloat16"))
    whole = 39 * 50 * 601 * step
    assert Needs(config).runtime("train")(CELL, 1) == math.ceil(10 + 3 * (whole + 5) / 60)
    config["compute"]["saes_per_job"] = 10
    needs = Needs(config)
    part = SimpleNamespace(**vars(CELL), part="0", parts="4")
    assert needs.runtime("train")(part, 1) == math.ceil(10 + 3 * (whole / 4 + 5) / 60)
    assert needs.runtime("train")(CELL, 1) == math.ceil(10 + 3 * 5 / 60)  # It only joins.
    config["compute"] |= {"time_factor": 0.5, "time_limit": 60}
    assert [Needs(config).runtime("train")(part, attempt) for attempt in (1, 3)] == [50, 60]


def test_the_unknown_has_figures_of_its_own_until_its_size_is_known(config, tmp_path):
    config["datasets"]["birds"] = {"type": "image_folder", "root": "birds"}
    config["experiments"]["paper"]["datasets"] = ["birds"]
    birds = SimpleNamespace(**vars(CELL) | {"dataset": "birds"})
    figures = costs.figures()
    assert Needs(config).memory("train")(birds, 1) == 1.5 * (figures["memory"]["unknown"] + 400)
    assert Needs(config).runtime("train")(birds, 1) == figures["runtime"]["unknown"]
    manifest = tmp_path / "results/datasets/birds/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"images": {"train": 1000, "val": 100, "test": 100}}')
    used = 430 + 1.9 * 4 * 1000 * 1024 / 1e6 + 5.4 * 8 * 8192 * 1024 / 1e6
    assert Needs(config).memory("train")(birds, 1) == math.ceil(1.5 * (used + 400))


def test_a_labelled_dataset_whose_classes_nobody_knows(config, tmp_path):
    """Probes of 1000 classes take hours, of none nothing: neither is assumed."""
    config["datasets"]["birds"] = {"type": "image_folder", "root": "birds"}
    config["experiments"]["paper"]["datasets"] = ["birds"]
    birds = SimpleNamespace(**vars(CELL) | {"dataset": "birds"})
    manifest = tmp_path / "results/datasets/birds/manifest.json"
    manifest.parent.mkdir(parents=True)
    images = {"train": 1_231_167, "val": 50_000, "test": 50_000}
    manifest.write_text(json.dumps({"images": images}))
    assert Needs(config).runtime("evaluate")(birds, 1) == costs.figures()["runtime"]["unknown"]
    manifest.write_text(json.dumps({"images": images, "classes": 1000}))
    of_imagenet = Needs(CONFIG).memory("evaluate")(CELL, 1), Needs(CONFIG).runtime("evaluate")(CELL, 1)
    assert (Needs(config).memory("evaluate")(birds, 1), Needs(config).runtime("evaluate")(birds, 1)) == of_imagenet


def test_given_embeddings_of_which_only_the_manifests_tell(config, tmp_path):
    config["datasets"]["ours"] = {"type": "table", "root": "ours"}
    config["backbones"]["given"] = {"loader": "precomputed", "model": "given"}
    config["experiments"]["paper"] |= {"datasets": ["ours"], "backbones": ["given"]}
    ours = SimpleNamespace(**vars(CELL) | {"dataset": "ours", "backbone": "given"})
    for file, content in (
        ("datasets/ours/manifest.json", {"images": {"train": 1000, "val": 100, "test": 100}, "classes": 0}),
        ("activations/ours/given/train/manifest.json", {"shape": [1000, 64]}),
    ):
        (tmp_path / "results" / file).parent.mkdir(parents=True)
        (tmp_path / "results" / file).write_text(json.dumps(content))
    needs = Needs(config)
    for rule in ("dataset", "embed", "train", "score", "ablate", "evaluate", "probe_embeddings"):
        assert needs.runtime(rule)(ours, 1) <= 30 and needs.memory(rule.replace("ablate", "train"))(ours, 1) < 10_000


def test_sizes_are_those_of_the_library():
    assert (needs.RESIDENT, needs.CHUNK) == (inputs.RESIDENT, codes._CHUNK)
