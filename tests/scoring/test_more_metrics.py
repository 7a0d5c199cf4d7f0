"""Scores beside the paper's are those of brute force, or of a world that is known."""

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from scoring.examples import TinyBank, coder, codes_of, write_activations
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from support.embeddings import write_split

from sae.core import files
from sae.core.options import Options
from sae.data import store
from sae.models.coder import Coder
from sae.scoring import stage
from sae.scoring.metrics import (
    absorption,
    density,
    preserved,
    redundancy,
    sparse_probe,
    stability,
    stability_alive,
    uniqueness,
)
from sae.scoring.subject import Subject


def make_subject(folder, coder, embeddings, labels=None, coarse=None):
    """Write embeddings with labels into a folder, and make a subject of them.

    Args:
        embeddings: {split: (N, d)}.
        labels: {split: (N,)}, or None.
        coarse: {split: (N,) coarse labels}, or None.
    """
    for split, x in embeddings.items():
        count = len(x)
        image_ids = [f"{split}{i}" for i in range(count)]
        index = pd.DataFrame({"image_id": image_ids, "path": "x"})
        for name, classes in (("label", labels), ("label_coarse", coarse)):
            of_split = [pd.NA] * count if classes is None else classes[split]
            index[name] = pd.array(of_split, dtype="Int64")
        index["label_name"] = None
        index["group"] = index["image_id"]
        provenance = {
            "dataset": {"name": "d", "grouped": False},
            "backbone": {"name": "b"},
        }
        write_split(folder / split, [np.asarray(x, np.float32)], index, provenance)
    splits = {split: store.read(folder / split) for split in embeddings}
    return Subject(coder, splits, {}, {}, "b")


def identity(d, k, decoder=None):
    """Make an SAE whose latent j is dimension j.

    Args:
        decoder: (d, d) another decoder.
    """
    sae = Coder(d, d, k)
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(d) if decoder is None else torch.as_tensor(decoder))
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


@pytest.mark.parametrize("part", [3, 4096])
def test_redundancy_by_brute_force_and_its_null(part, monkeypatch, tmp_path):
    monkeypatch.setattr(redundancy, "_PART", part)
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    rows[6] = 2 * rows[1]
    unit = (rows / rows.norm(dim=1, keepdim=True)).numpy()
    expected = [max(unit[i] @ unit[j] for j in range(7) if j != i) for i in range(7)]
    np.testing.assert_allclose(redundancy.highest_cosines(rows), expected, rtol=1e-5)
    sae = Coder(300, 8, 2)
    sae.initialise(torch.zeros(300), 3)
    subject = make_subject(
        tmp_path, sae.requires_grad_(False), {"test": np.ones((3, 300))}
    )
    scores = redundancy.score(subject, "test", Options())
    # Eight random directions of 300 dimensions: the highest of seven cosines of
    # standard deviation 1 / sqrt(300).
    assert scores["redundancy_null"] == pytest.approx(1.35 / 300**0.5, abs=0.03)
    assert scores["redundancy_max"] < 0.3
    assert scores["redundancy_null"] < scores["redundancy_max_null"] < 0.3


@pytest.mark.parametrize("part", [2, 512])
def test_uniqueness_by_sets(part, monkeypatch):
    monkeypatch.setattr(uniqueness, "_PART", part)
    rng = np.random.default_rng(0)
    dense = rng.random((60, 6)) * (rng.random((60, 6)) < 0.6)
    dense[:, 3] = dense[:, 2]  # The same top images.
    dense[:, 4] = 0
    dense[:15, 4] = 1  # Too few.
    tops = uniqueness.top_images(codes_of(dense).by_latent())
    expected = [
        set(np.argsort(-dense[:, j], kind="stable")[:16]) for j in (0, 1, 2, 3, 5)
    ]
    assert [set(row) for row in tops] == expected
    jaccard = [
        max(len(a & b) / len(a | b) for j, b in enumerate(expected) if j != i)
        for i, a in enumerate(expected)
    ]
    np.testing.assert_allclose(uniqueness.highest_jaccard(tops, 60), jaccard)
    assert jaccard[2] == jaccard[3] == 1


def test_uniqueness_takes_little_memory_where_all_sets_share_an_image():
    rng = np.random.default_rng(0)
    sets = np.array(
        [[0, *rng.choice(np.arange(1, 500), 15, replace=False)] for _ in range(1500)]
    )
    tracemalloc.start()
    jaccard = uniqueness.highest_jaccard(sets, 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (jaccard >= 1 / 31).all()
    # A number and a column for each pair.
    assert peak < 1500**2 * 12


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
        bank.add("topk", coder=coder(seed), seed=seed, judged=seed == 0)
        bank.add("reg1", {"lambda": 0.1}, coder=coder(seed + 5), seed=seed)
    bank.add("reg1", {"lambda": 0.2}, coder=coder(9), judged=True)
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


def test_a_class_with_a_latent_of_its_own_is_read_off_one_and_ranked_on_training_images_alone(
    tmp_path,
):
    rng = np.random.default_rng(0)
    labels = {
        split: rng.integers(0, 3, n) for split, n in (("train", 90), ("test", 60))
    }
    x = {split: rng.random((len(y), 6)) * 0.5 for split, y in labels.items()}
    for split, y in labels.items():
        x[split][np.arange(len(y)), y] += 1  # Latent c is class c's.
    # On test images alone latent 3 would tell class 0: a ranking that looked there
    # would take it.
    x["test"][labels["test"] == 0, 3] += 9
    x["test"][labels["test"] == 0, 0] = 0
    subject = make_subject(tmp_path, identity(6, 6), x, labels)
    scores = sparse_probe.score(subject, "test", sparse_probe.Options(ks=[1]))
    areas = [roc_auc_score(labels["test"] == c, x["test"][:, c]) for c in range(3)]
    assert areas[0] < 0.5
    assert scores["sparse_probe_auc_1"] == pytest.approx(np.mean(areas), abs=1e-6)

    codes = scipy.sparse.csr_matrix(x["train"])
    positive = labels["train"] == 1
    inside = x["train"][positive].mean(axis=0)
    outside = x["train"][~positive].mean(axis=0)
    np.testing.assert_allclose(
        sparse_probe.difference(codes, positive),
        (inside - outside) / x["train"].std(axis=0),
    )
    unlabelled = make_subject(tmp_path / "no", identity(6, 6), x)
    assert sparse_probe.score(unlabelled, "test", sparse_probe.Options()) == {}


def test_a_classifier_sees_all_in_a_copy_and_nothing_without_its_dimension(tmp_path):
    rng = np.random.default_rng(0)
    labels = {
        split: rng.integers(0, 2, n) for split, n in (("train", 80), ("test", 40))
    }
    x = {split: rng.random((len(y), 4)) for split, y in labels.items()}
    for split, y in labels.items():
        x[split][:, 0] += 5 * y
    subject = make_subject(tmp_path / "a", identity(4, 4), x, labels)
    copied = preserved.score(subject, "test", preserved.Options())
    for name in ("preserved_top1", "preserved_share", "preserved_agreement"):
        assert copied[name] == 1
    # A decoder without dimension 0 leaves nothing to see: all images look as one class.
    blind = identity(4, 4, np.diag([0.0, 1, 1, 1]))
    subject = make_subject(tmp_path / "b", blind, x, labels)
    lost = preserved.score(subject, "test", preserved.Options())
    share = max((labels["test"] == c).mean() for c in (0, 1))
    one_class = (pytest.approx(share), pytest.approx(1 - share))
    assert lost["preserved_share"] in one_class
    assert copied["preserved_null"] in one_class


def test_a_fine_latent_that_takes_over_is_absorption(tmp_path):
    """Latent 0 is silent on a finer class, and latent 1 has its direction.

    Coarse class 0 lies along dimension 0.
    """
    rng = np.random.default_rng(0)
    coarse = {split: np.repeat([0, 1], 40) for split in ("train", "test")}
    x = {}
    for split in coarse:
        x[split] = 0.01 * rng.random((80, 4))
        x[split][:40, 0] += 1  # Class 0,
        x[split][:10, 1] += 1  # a quarter of it of a finer class,
        x[split][40:, 3] += 1  # and class 1.
    sae = identity(4, 2)
    with torch.no_grad():
        # Latent 0 does not fire where dimension 1 is on; latent 1 writes both.
        sae.W_enc[:, 0] = torch.tensor([1.0, -5, 0, 0])
        sae.W_dec[1] = torch.tensor([1.0, 1, 0, 0])
    subject = make_subject(tmp_path / "a", sae, x, coarse, coarse)
    scores = absorption.score(subject, "test", absorption.Options())
    assert scores["absorption_silent"] == pytest.approx((0.25 + 0) / 2)
    assert scores["absorption_rate"] == pytest.approx(0.125)

    subject = make_subject(tmp_path / "b", identity(4, 2), x, coarse, coarse)
    scores = absorption.score(subject, "test", absorption.Options())
    assert scores["absorption_rate"] == scores["absorption_silent"] == 0

    without_coarse = make_subject(tmp_path / "c", sae, x, coarse)
    assert absorption.score(without_coarse, "test", absorption.Options()) == {}


@pytest.mark.parametrize(("count", "turned"), [(40, False), (20, True)])
def test_with_a_latent_for_each_class_permuted_labels_find_both_or_swap_them(
    count, turned, tmp_path
):
    coarse = dict.fromkeys(("train", "test"), np.repeat([0, 1], count))
    permuted = np.random.default_rng(0).permutation(coarse["train"])
    assert ((permuted == coarse["train"]).mean() < 0.5) == turned
    x = {split: np.eye(4)[3 * labels] for split, labels in coarse.items()}
    subject = make_subject(tmp_path, identity(4, 1), x, coarse, coarse)
    assert absorption.score(subject, "test", absorption.Options()) == {
        "absorption_rate": 0,
        "absorption_silent": 0,
        "absorption_null": turned,
    }


def test_probes_on_several_latents_weigh_them_in_units_of_their_own_on_both_splits(
    tmp_path,
):
    rng = np.random.default_rng(0)
    labels = {
        split: rng.integers(0, 2, n) for split, n in (("train", 200), ("test", 100))
    }
    # Either latent tells a little of the class; one is a thousand times as large.
    x = {
        split: (rng.random((len(y), 2)) + 0.3 * y[:, None]) * [1000, 1]
        for split, y in labels.items()
    }
    subject = make_subject(tmp_path, identity(2, 2), x, labels)
    scores = sparse_probe.score(subject, "test", sparse_probe.Options(ks=[2]))

    scale = x["train"].std(axis=0)
    areas = []
    for label in (0, 1):
        probe = LogisticRegression(max_iter=1000)
        probe.fit(x["train"] / scale, labels["train"] == label)
        share = probe.predict_proba(x["test"] / scale)[:, 1]
        areas.append(roc_auc_score(labels["test"] == label, share))
    assert scores["sparse_probe_auc_2"] == pytest.approx(np.mean(areas), abs=1e-3)
    of_one_latent = roc_auc_score(labels["test"], x["test"][:, 0])
    assert areas[1] > of_one_latent + 0.02
