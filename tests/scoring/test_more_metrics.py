"""The measures beside the paper's, each against brute force, a closed form, or a world where the answer is known."""

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


def subject(tmp_path, made, embeddings, labels=None, coarse=None):
    """A coder, and embeddings of train and test, with labels."""
    for split, x in embeddings.items():
        rows = len(x)
        index = pd.DataFrame(
            {"image_id": [f"{split}{i}" for i in range(rows)], "path": "x"}
        )
        for name, values in (("label", labels), ("label_coarse", coarse)):
            index[name] = pd.array(
                [pd.NA] * rows if values is None else values[split], dtype="Int64"
            )
        index["label_name"], index["group"] = None, index["image_id"]
        about = {"dataset": {"name": "d", "grouped": False}, "backbone": {"name": "b"}}
        write_split(tmp_path / split, [np.asarray(x, np.float32)], index, about)
    return Subject(
        made, {split: store.read(tmp_path / split) for split in embeddings}, {}, {}, "b"
    )


def identity(d, k, decoder=None):
    """Latent j is dimension j."""
    made = Coder(d, d, k)
    with torch.no_grad():
        made.W_dec.copy_(torch.eye(d) if decoder is None else torch.as_tensor(decoder))
        made.W_enc.copy_(torch.eye(d))
    return made.requires_grad_(False)


def test_density_by_hand(tmp_path):
    x = np.zeros((100, 4))
    x[:, 0], x[:11, 1], x[:2, 2], x[0, 3] = (
        1,
        1,
        1,
        1,
    )  # On 100, 11, 2 and 1 % of the images.
    got = density.score(
        subject(tmp_path, identity(4, 4), {"test": x}), "test", Options()
    )
    assert got == {
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
    made = Coder(300, 8, 2)
    made.initialise(torch.zeros(300), 3)
    got = redundancy.score(
        subject(tmp_path, made.requires_grad_(False), {"test": np.ones((3, 300))}),
        "test",
        Options(),
    )
    # Eight random directions of 300 dimensions: the highest of seven cosines of standard deviation 1 / sqrt(300).
    assert (
        got["redundancy_null"] == pytest.approx(1.35 / 300**0.5, abs=0.03)
        and got["redundancy_max"] < 0.3
    )
    assert got["redundancy_null"] < got["redundancy_max_null"] < 0.3


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
    found = uniqueness.highest_jaccard(sets, 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        found >= 1 / 31
    ).all() and peak < 1500**2 * 12  # A number and a column for each pair.


def test_stability_by_all_matchings_and_of_a_shuffled_copy():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, 3, generator=generator) for _ in range(2))
    unit = [(rows / rows.norm(dim=1, keepdim=True)).numpy() for rows in (one, other)]
    cosine = unit[0] @ unit[1].T
    best = max(
        np.mean([cosine[i, j] for i, j in enumerate(order)])
        for order in itertools.permutations(range(5))
    )
    assert stability.matches(one, other).mean() == pytest.approx(best, rel=1e-5)
    shuffled = 3 * one[torch.tensor([3, 1, 4, 0, 2])]
    np.testing.assert_allclose(stability.matches(one, shuffled), 1, rtol=1e-5)


def test_stability_of_the_living_by_all_matchings_whatever_the_dead_are(tmp_path):
    x = (
        np.random.default_rng(1).random((40, 3)) + 0.1
    )  # All above 0: a latent that points below is dead.
    given = subject(tmp_path, coder(0, 3, 7, 7), {"train": x, "test": -x})
    given.siblings = [coder(1, 3, 6, 6), coder(2, 3, 6, 6)]
    own = given.coder
    for made, dead in (
        (own, [2, 5]),
        (given.siblings[0], [0]),
        (given.siblings[1], [4]),
    ):
        made.W_enc.abs_()[:, dead] *= -1
    got = stability_alive.score(given, "test", Options())
    living, means, shares = [0, 1, 3, 4, 6], [], []
    for other, kept in zip(
        given.siblings, ([1, 2, 3, 4, 5], [0, 1, 2, 3, 5]), strict=True
    ):
        unit = [
            torch.nn.functional.normalize(made.W_dec, dim=1).numpy()
            for made in (own, other)
        ]
        cosine = unit[0][living] @ unit[1][kept].T
        matchings = (
            [cosine[i, j] for i, j in enumerate(order)]
            for order in itertools.permutations(range(5))
        )
        best = np.array(max(matchings, key=np.mean))
        means.append(best.mean()), shares.append((best > 0.7).mean())
    assert got["stability_alive"] == pytest.approx(np.mean(means), rel=1e-5)
    assert got["stability_alive_shared"] == pytest.approx(np.mean(shares))
    assert (
        0 < got["stability_alive_null"] < 0.95
    )  # Of five random directions in three dimensions; of the same ones 1.
    own.W_dec[2].neg_()
    assert stability_alive.score(given, "test", Options()) == got
    for other in given.siblings:
        other.W_enc.abs_().neg_()
    assert stability_alive.score(given, "test", Options()) == {}


def test_siblings_are_the_other_seeds_of_a_trial_and_a_new_one_computes_anew(tmp_path):
    write_activations(tmp_path / "own", "b")
    bank = TinyBank(tmp_path / "bank.json")
    for seed in (0, 1):
        bank.add("topk", coder=coder(seed), seed=seed, judged=seed == 0)
        bank.add("reg1", {"lambda": 0.1}, coder=coder(seed + 5), seed=seed)
    bank.add("reg1", {"lambda": 0.2}, coder=coder(9), judged=True)
    bank.add("topk", seed=2, status="diverged")

    def run():
        settings = stage.Settings(metrics={"stability": None})
        stage.run("score", bank.file, tmp_path / "own", settings, tmp_path / "out")
        return files.read_parquet(tmp_path / "out/metrics.parquet").set_index("method")

    got = run()
    expected = stability.matches(coder(0).W_dec, coder(1).W_dec).mean()
    assert got.loc["topk", "stability"] == pytest.approx(expected) and np.isnan(
        got.loc["reg1", "stability"]
    )
    bank.add("topk", coder=coder(4), seed=3)
    more = np.mean([expected, stability.matches(coder(0).W_dec, coder(4).W_dec).mean()])
    assert run().loc["topk", "stability"] == pytest.approx(more)


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
    # On test images alone latent 3 would tell class 0: a ranking that looked there would take it.
    x["test"][labels["test"] == 0, 3] += 9
    x["test"][labels["test"] == 0, 0] = 0
    made = subject(tmp_path, identity(6, 6), x, labels)
    got = sparse_probe.score(made, "test", sparse_probe.Options(ks=[1]))
    areas = [roc_auc_score(labels["test"] == c, x["test"][:, c]) for c in range(3)]
    assert areas[0] < 0.5 and got["sparse_probe_auc_1"] == pytest.approx(
        np.mean(areas), abs=1e-6
    )
    codes = scipy.sparse.csr_matrix(x["train"])
    positive = labels["train"] == 1
    inside, outside = (
        x["train"][positive].mean(axis=0),
        x["train"][~positive].mean(axis=0),
    )
    np.testing.assert_allclose(
        sparse_probe.difference(codes, positive),
        (inside - outside) / x["train"].std(axis=0),
    )
    assert (
        sparse_probe.score(
            subject(tmp_path / "no", identity(6, 6), x), "test", sparse_probe.Options()
        )
        == {}
    )


def test_what_a_classifier_still_sees(tmp_path):
    rng = np.random.default_rng(0)
    labels = {
        split: rng.integers(0, 2, n) for split, n in (("train", 80), ("test", 40))
    }
    x = {split: rng.random((len(y), 4)) for split, y in labels.items()}
    for split, y in labels.items():
        x[split][:, 0] += 5 * y
    whole = preserved.score(
        subject(tmp_path / "a", identity(4, 4), x, labels), "test", preserved.Options()
    )
    assert (
        whole["preserved_top1"]
        == whole["preserved_share"]
        == whole["preserved_agreement"]
        == 1
    )
    # A decoder without dimension 0 leaves nothing to see: all images look as one class.
    blind = identity(4, 4, np.diag([0.0, 1, 1, 1]))
    lost = preserved.score(
        subject(tmp_path / "b", blind, x, labels), "test", preserved.Options()
    )
    share = max((labels["test"] == c).mean() for c in (0, 1))
    assert lost["preserved_share"] in (pytest.approx(share), pytest.approx(1 - share))
    assert whole["preserved_null"] in (pytest.approx(share), pytest.approx(1 - share))


def test_a_fine_latent_that_takes_over_is_absorption(tmp_path):
    """Coarse class 0 lies along dimension 0. On a finer class latent 0 is silent, and latent 1 has its direction."""
    rng = np.random.default_rng(0)
    coarse = {split: np.repeat([0, 1], 40) for split in ("train", "test")}
    x = {}
    for split in coarse:
        x[split] = 0.01 * rng.random((80, 4))
        x[split][:40, 0] += 1  # Class 0,
        x[split][:10, 1] += 1  # a quarter of it of a finer class,
        x[split][40:, 3] += 1  # and class 1.
    made = identity(4, 2)
    with (
        torch.no_grad()
    ):  # Latent 0 does not fire where dimension 1 is on; latent 1 writes both.
        made.W_enc[:, 0] = torch.tensor([1.0, -5, 0, 0])
        made.W_dec[1] = torch.tensor([1.0, 1, 0, 0])
    got = absorption.score(
        subject(tmp_path / "a", made, x, coarse, coarse), "test", absorption.Options()
    )
    assert got["absorption_silent"] == pytest.approx((0.25 + 0) / 2) and got[
        "absorption_rate"
    ] == pytest.approx(0.125)
    whole = absorption.score(
        subject(tmp_path / "b", identity(4, 2), x, coarse, coarse),
        "test",
        absorption.Options(),
    )
    assert whole["absorption_rate"] == whole["absorption_silent"] == 0
    assert (
        absorption.score(
            subject(tmp_path / "c", made, x, coarse), "test", absorption.Options()
        )
        == {}
    )
    # With one latent for each class, permuted labels either find the same two latents or have them the wrong way round.
    for count, turned in ((40, False), (20, True)):
        coarse = dict.fromkeys(("train", "test"), np.repeat([0, 1], count))
        assert (
            (
                np.random.default_rng(0).permutation(coarse["train"]) == coarse["train"]
            ).mean()
            < 0.5
        ) == turned
        x = {split: np.eye(4)[3 * labels] for split, labels in coarse.items()}
        made = subject(tmp_path / f"{count}", identity(4, 1), x, coarse, coarse)
        alone = absorption.score(made, "test", absorption.Options())
        assert alone == {
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
        split: rng.random((len(y), 2)) + 0.3 * y[:, None] for split, y in labels.items()
    }
    x = {split: values * [1000, 1] for split, values in x.items()}
    made = subject(tmp_path, identity(2, 2), x, labels)
    got = sparse_probe.score(made, "test", sparse_probe.Options(ks=[2]))
    scale = x["train"].std(axis=0)
    areas = []
    for label in (0, 1):
        probe = LogisticRegression(max_iter=1000).fit(
            x["train"] / scale, labels["train"] == label
        )
        areas.append(
            roc_auc_score(
                labels["test"] == label, probe.predict_proba(x["test"] / scale)[:, 1]
            )
        )
    alone = roc_auc_score(labels["test"], x["test"][:, 0])
    assert (
        got["sparse_probe_auc_2"] == pytest.approx(np.mean(areas), abs=1e-3)
        and areas[1] > alone + 0.02
    )
