"""Scores elsewhere than on the CPU: on `support/pretend_device.py`.

The numbers are those of the CPU. Two metrics go another way there, to the same numbers:
`rank_profile` sorts on the device, not by NumPy, and `probe` takes all rows at once,
which this few rows are on a CPU too.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from scoring.examples import TinyBank, coder, write_activations
from support.pretend_device import DEVICE, TO_CPU, pretend_device

from sae.config.entries import backbones_named
from sae.core import files, registry
from sae.data import synthetic
from sae.data.backbones import generated
from sae.data.concepts import from_keywords
from sae.data.store import Activations
from sae.models import inputs
from sae.models.coder import Coder, Threshold
from sae.scoring import stage
from sae.scoring.metrics import probe
from sae.scoring.subject import Curve, PerLatent, Subject

COUNTS = {"train": 240, "val": 120, "test": 120}
# A world whose concepts are known, for the metric `recovery`.
WORLD = generated.Options(model="correlated", d=12, concepts=24, classes=6, seed=0)
# Of a tiny split.
OPTIONS = {"detection": {"least_train": 5, "least_test": 2}}


def activations(split, world):
    """Make a split of the world: two images a group."""
    count = COUNTS[split]
    ((embeddings, _),) = synthetic.chunks(world, split, count)
    labels = synthetic.labels_of(WORLD.seed, WORLD.classes, split, count)
    index = pd.DataFrame(
        {
            "image_id": [f"{split}{row}" for row in range(count)],
            "label": pd.array(labels, dtype="Int64"),
            "label_name": [f"class {label}" for label in labels],
            "group": [f"{split}{row // 2}" for row in range(count)],
        }
    )
    spec = {"loader": "generated"} | WORLD.model_dump()
    manifest = {"dataset": {"name": "d", "grouped": True}, "backbone": {"spec": spec}}
    return Activations(embeddings, index, manifest)


@pytest.fixture(scope="module")
def images():
    """{split: activations}, and {split: what another backbone makes of its images}."""
    world = generated.world(WORLD)
    splits = {split: activations(split, world) for split in COUNTS}
    turn = np.random.default_rng(0).normal(size=(WORLD.d, 9))
    judged = {split: part.embeddings @ turn for split, part in splits.items()}
    return splits, judged


def make_coder(kind, seed):
    """Make an SAE of 32 latents, all parameters away from where training starts."""
    select = Threshold(torch.linspace(0.05, 0.4, 32)) if kind == "threshold" else None
    sae = Coder(12, 32, 4, select, input_norm="unit_l2_layernorm", input_scale=2.0)
    sae.initialise(torch.zeros(12), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return sae.requires_grad_(False)


def scores_on(device, name, kind, split, images):
    """Return {score: its numbers} of one metric for an SAE on a device."""
    module = registry.load("metric", name)
    splits, judge = images
    class_names = {name: part.index["label_name"] for name, part in splits.items()}
    keywords = from_keywords(
        {name: [[word] for word in words] for name, words in class_names.items()}
    )
    sae = make_coder(kind, 0).to(device)
    (backbone,) = backbones_named(vars(module)) or ["judge"]
    subject = Subject(sae, splits, {backbone: judge}, {}, "b", keywords)
    view = subject.limited({split, *module.READS})
    view.siblings = [make_coder(kind, seed).to(device) for seed in (1, 2)]
    options = registry.head("metric", name).options(**OPTIONS.get(name, {}))
    scores = module.score(view, split, options)
    numbers = {}
    for score, value in scores.items():
        if isinstance(value, Curve):
            numbers[f"{score}, x"] = list(value.x)
            numbers[f"{score}, y"] = list(value.y)
        else:
            numbers[score] = list(
                value.values if isinstance(value, PerLatent) else [value]
            )
    return numbers


# With the inputs on the device as a whole, or some rows at a time.
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("kind", ["topk", "threshold"])
@pytest.mark.parametrize("name", registry.names("metric"))
def test_a_metric_scores_the_same_on_a_device(
    name, kind, resident, images, monkeypatch
):
    for split in registry.head("metric", name).constants["SPLITS"]:
        expected = scores_on("cpu", name, kind, split, images)
        if not resident:
            monkeypatch.setattr(inputs, "RESIDENT", 0)
        with pretend_device():
            scores = scores_on(DEVICE, name, kind, split, images)
        assert any(pd.Series(numbers).notna().any() for numbers in expected.values())
        assert scores.keys() == expected.keys()
        for score, numbers in expected.items():
            message = f"{score} on {split}"
            np.testing.assert_array_equal(scores[score], numbers, message)


@pytest.fixture
def cell(tmp_path):
    """A folder of embeddings, and a bank of two judged SAEs, which differ in seed."""
    write_activations(tmp_path / "embeddings", "b")
    bank = TinyBank(tmp_path / "bank.json")
    for seed in (0, 1):
        bank.add("topk", seed=seed, coder=coder(seed), chosen=True)
    return tmp_path


def test_a_stage_opens_each_sae_on_its_device(cell):
    # Two that read the SAE, its inputs and codes, and its siblings.
    metrics = dict.fromkeys(("reconstruction", "stability_alive"))
    tables = {}
    for device in ("cpu", DEVICE.type):
        with pretend_device() as pretended:
            stage.run(
                "score",
                cell / "bank.json",
                cell / "embeddings",
                stage.StageSettings(metrics=metrics),
                cell / device / "score",
                device=device,
            )
        assert (pretended.waits[TO_CPU] > 0) is (device != "cpu")
        tables[device] = files.read_parquet(cell / device / "score/metrics.parquet")
    assert {"r2", "stability_alive"} <= set(tables["cpu"])
    pd.testing.assert_frame_equal(tables[DEVICE.type], tables["cpu"], check_exact=True)


def test_probes_read_embeddings_on_a_device(cell):
    settings = probe.Options(C=[0.1, 1.0])
    written = []
    for device in ("cpu", DEVICE.type):
        with pretend_device() as pretended:
            file = cell / f"{device}.json"
            probe.probe_embeddings(cell / "embeddings", settings, file, device)
        assert (pretended.waits[TO_CPU] > 0) is (device != "cpu")
        written.append(files.read_json(file))
    assert written[0]["top1"] > 0.4
    assert written[1] == written[0]
