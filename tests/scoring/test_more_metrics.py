"""Scores beside the paper's are those of brute force, or of a world that is known."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scoring.examples import TinyBank, coder, write_activations
from support.embeddings import write_split

from sae.core import files
from sae.core.options import Options
from sae.data import store
from sae.models.coder import Coder
from sae.scoring import stage
from sae.scoring.metrics import density, stability, stability_alive
from sae.scoring.subject import Subject


def make_subject(folder, coder, embeddings):
    """Write embeddings into a folder, and make a subject of them.

    Args:
        embeddings: {split: (N, d)}.
    """
    for split, x in embeddings.items():
        count = len(x)
        image_ids = [f"{split}{i}" for i in range(count)]
        index = pd.DataFrame({"image_id": image_ids, "path": "x"})
        index["label"] = pd.array([pd.NA] * count, dtype="Int64")
        index["label_name"] = None
        index["group"] = index["image_id"]
        provenance = {
            "dataset": {"name": "d", "grouped": False},
            "backbone": {"name": "b"},
        }
        write_split(folder / split, [np.asarray(x, np.float32)], index, provenance)
    splits = {split: store.read(folder / split) for split in embeddings}
    return Subject(coder, splits, {}, {}, "b")


def identity(d, k):
    """Make an SAE whose latent j is dimension j."""
    sae = Coder(d, d, k)
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(d))
        sae.W_enc.copy_(torch.eye(d))
    return sae.requires_grad_(False)


def test_density_is_the_share_of_latents_that_fire_on_more_than_a_share(tmp_path):
    x = np.zeros((100, 4))
    for dimension, images in enumerate((100, 11, 2, 1)):
        x[:images, dimension] = 1
    subject = make_subject(tmp_path, identity(4, 4), {"test": x})
    assert density.score(subject, "test", Options()) == {
        "dense_1": 0.75,
        "dense_10": 0.5,
        "dense_null": 1.0,
        "dense_10_null": 1.0,
    }


def test_stability_by_all_matchings_and_of_a_shuffled_copy():
    generator = torch.Generator().manual_seed(0)
    directions, other_directions = (
        torch.randn(5, 3, generator=generator) for _ in range(2)
    )
    unit = [
        (rows / rows.norm(dim=1, keepdim=True)).numpy()
        for rows in (directions, other_directions)
    ]
    cosine = unit[0] @ unit[1].T
    best = max(
        np.mean([cosine[i, j] for i, j in enumerate(order)])
        for order in itertools.permutations(range(5))
    )
    assert stability.matches(directions, other_directions).mean() == pytest.approx(
        best, rel=1e-5
    )
    shuffled = 3 * directions[torch.tensor([3, 1, 4, 0, 2])]
    np.testing.assert_allclose(stability.matches(directions, shuffled), 1, rtol=1e-5)


def test_stability_of_the_living_by_all_matchings_whatever_the_dead_are(tmp_path):
    # All above 0: a latent that points below is dead.
    x = np.random.default_rng(1).random((40, 3)) + 0.1
    subject = make_subject(tmp_path, coder(0, 3, 7, 7), {"train": x, "test": -x})
    subject.siblings = [coder(1, 3, 6, 6), coder(2, 3, 6, 6)]
    sae = subject.coder
    sae.W_enc.abs_()[:, [2, 5]] *= -1
    subject.siblings[0].W_enc.abs_()[:, [0]] *= -1
    subject.siblings[1].W_enc.abs_()[:, [4]] *= -1
    scores = stability_alive.score(subject, "test", Options())

    live = [0, 1, 3, 4, 6]
    means = []
    shares = []
    for sibling, sibling_live in zip(
        subject.siblings, ([1, 2, 3, 4, 5], [0, 1, 2, 3, 5]), strict=True
    ):
        rows, sibling_rows = (
            torch.nn.functional.normalize(one.W_dec, dim=1).numpy()
            for one in (sae, sibling)
        )
        cosine = rows[live] @ sibling_rows[sibling_live].T
        matchings = (
            [cosine[i, j] for i, j in enumerate(order)]
            for order in itertools.permutations(range(5))
        )
        best = np.array(max(matchings, key=np.mean))
        means.append(best.mean())
        shares.append((best > 0.7).mean())
    assert scores["stability_alive"] == pytest.approx(np.mean(means), rel=1e-5)
    assert scores["stability_alive_shared"] == pytest.approx(np.mean(shares))
    # Of five random directions in three dimensions; of the same ones 1.
    assert 0 < scores["stability_alive_null"] < 0.95

    sae.W_dec[2].neg_()
    assert stability_alive.score(subject, "test", Options()) == scores
    for sibling in subject.siblings:
        sibling.W_enc.abs_().neg_()
    assert stability_alive.score(subject, "test", Options()) == {}


def test_siblings_are_the_other_seeds_of_a_trial_and_a_new_one_computes_anew(tmp_path):
    write_activations(tmp_path / "own", "b")
    bank = TinyBank(tmp_path / "bank.json")
    for seed in (0, 1):
        bank.add("topk", coder=coder(seed), seed=seed, chosen=seed == 0)
        bank.add("reg1", {"lambda": 0.1}, coder=coder(seed + 5), seed=seed)
    bank.add("reg1", {"lambda": 0.2}, coder=coder(9), chosen=True)
    bank.add("topk", seed=2, status="diverged")

    def run():
        settings = stage.StageSettings(metrics={"stability": None})
        stage.run("score", bank.file, tmp_path / "own", settings, tmp_path / "out")
        return files.read_parquet(tmp_path / "out/metrics.parquet").set_index("method")

    metrics = run()
    expected = stability.matches(coder(0).W_dec, coder(1).W_dec).mean()
    assert metrics.loc["topk", "stability"] == pytest.approx(expected)
    assert np.isnan(metrics.loc["reg1", "stability"])
    bank.add("topk", coder=coder(4), seed=3)
    with_new = stability.matches(coder(0).W_dec, coder(4).W_dec).mean()
    mean = np.mean([expected, with_new])
    assert run().loc["topk", "stability"] == pytest.approx(mean)
