"""What jobs ask for, against numbers worked out by hand."""

import copy
import math
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT

from workflow import costs
from workflow.needs import Needs

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
