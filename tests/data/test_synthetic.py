"""The generator is what it says, and recovery measures it."""

import numpy as np
import pytest
import scipy.sparse
import torch
from scoring.examples import codes_of
from support.embeddings import write_split, write_store
from support.errors import refused_naming

from sae.core.options import Options
from sae.data import dataset as datasets
from sae.data import store, synthetic
from sae.data.backbones import generated
from sae.data.entries import parse
from sae.models.coder import Coder
from sae.scoring.metrics import recovery
from sae.scoring.subject import Subject


def test_embeddings_are_the_stated_sum_and_a_smaller_set_is_the_beginning_of_a_larger(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(synthetic, "CHUNK", 64)
    world = synthetic.world(d=16, concepts=40, classes=5)
    counts = {"train": 150, "val": 20, "test": 100}
    write_store(world, counts, tmp_path / "a")
    write_store(world, counts | {"train": 90}, tmp_path / "b")
    large, small = (store.read(tmp_path / name / "train") for name in "ab")
    assert large.embeddings.shape == (150, 16) and large.embeddings.dtype == np.float16
    np.testing.assert_array_equal(large.embeddings[:90], small.embeddings)
    assert large.index["label"][:90].equals(small.index["label"])
    test = store.read(tmp_path / "a/test")
    truth = scipy.sparse.load_npz(tmp_path / "a/truth/test.npz").toarray()
    noise = test.embeddings - (
        truth @ np.load(tmp_path / "a/truth/dictionary.npy") + world.mean
    )
    assert (
        0.8 * synthetic.NOISE
        < np.sqrt((noise**2).sum(axis=1).mean())
        < 1.2 * synthetic.NOISE
    )
    # A class's own concepts are on most of its images, and far more often than on those
    # of other classes.
    labels = test.index["label"].to_numpy()
    of_own_class = world.concepts_of_class[labels]
    share_shown = (truth[np.arange(100)[:, None], of_own_class] > 0).mean()
    assert share_shown > synthetic.SIGNATURE - 0.05


@pytest.mark.parametrize("structure", ["independent", "correlated", "hierarchical"])
def test_concepts_go_together_as_the_structure_says_and_are_as_frequent(
    structure, monkeypatch
):
    monkeypatch.setattr(synthetic, "SIGNATURE", 0.0)
    world = synthetic.world(d=8, concepts=40, classes=5, structure=structure)
    shown = next(synthetic.chunks(world, "train", synthetic.CHUNK))[1].toarray() > 0
    np.testing.assert_allclose(shown.mean(axis=0), world.probability, atol=0.03)
    together = np.corrcoef(shown.T.astype(float))
    # There are 5 groups, and 10 parents.
    siblings = {"correlated": (3, 8), "hierarchical": (3, 13)}.get(structure, (3, 4))
    assert (together[siblings] > 0.15) == (structure != "independent")
    assert abs(together[3, 4]) < 0.05
    child = shown[:, 13]
    parent = shown[:, 3]
    assert ((child & ~parent).sum() == 0) == (structure == "hierarchical")


def test_an_own_concept_brings_its_parent_and_the_metric_knows_the_world(tmp_path):
    spec = {
        "loader": "generated",
        "model": "hierarchical",
        "d": 16,
        "concepts": 24,
        "classes": 3,
        "seed": 1,
    }
    dataset_spec = {
        "type": "generated",
        "counts": {"train": 30, "val": 10, "test": 60},
        "classes": 3,
        "seed": 1,
    }
    dataset_options = parse("dataset", dataset_spec).own_options
    backbone_options = parse("backbone", spec).own_options
    world = generated.world(backbone_options)
    index = datasets.load(dataset_spec, None).index
    assert index["split"].value_counts().to_dict() == dataset_spec["counts"]
    x = generated.embeddings(dataset_options, backbone_options, "test")
    truth = next(synthetic.chunks(world, "test", 60))[1].toarray() > 0
    assert not (truth[:, 6:] & ~truth[:, np.arange(6, 24) % 6]).any()
    labels = index[index["split"] == "test"]["label"].to_numpy()
    assert truth[np.arange(60)[:, None], world.concepts_of_class[labels]].mean() > 0.7
    with refused_naming("world of seed 1", "seed 2"):
        other_seed = parse("dataset", {**dataset_spec, "seed": 2}).own_options
        generated.embeddings(other_seed, backbone_options, "test")
    made_by = {
        "dataset": {"name": "d", "grouped": False},
        "backbone": {"name": "b", "spec": spec},
    }
    write_split(
        tmp_path / "test",
        [x],
        index[index["split"] == "test"].drop(columns="split"),
        made_by,
    )
    coder = Coder(16, 24, 4)
    with torch.no_grad():
        coder.W_dec.copy_(torch.from_numpy(world.dictionary))
        coder.W_enc.copy_(coder.W_dec.T)
        coder.b_dec.copy_(torch.from_numpy(world.mean))
    subject = Subject(coder, {"test": store.read(tmp_path / "test")}, {}, {}, "b")
    scores = recovery.score(subject, "test", Options())
    assert scores["recovery_found"] == 1 and scores["recovery_recall"] > 0.25
    coder.W_dec.data[:12] *= -1  # Half of the directions are gone.
    without_half = Subject(coder, subject.splits, {}, {}, "b")
    assert recovery.score(without_half, "test", Options())["recovery_found"] < 0.7


def test_recovery_of_the_truth_is_perfect_and_every_loss_is_counted():
    rng = np.random.default_rng(0)
    dictionary = np.linalg.qr(rng.normal(size=(8, 8)))[0][:4]
    truth = np.zeros((6, 4))
    truth[[0, 1, 2], 0] = truth[[2, 3], 1] = truth[[4], 2] = (
        1.0  # Concept 3 is on no image: left out.
    )

    order = [
        2,
        0,
        3,
        1,
    ]  # The latents hold the concepts in another order, one of them half as long.
    decoder = dictionary[order] * np.array([[1.0], [0.5], [1.0], [1.0]])
    perfect = recovery.of_codes(
        decoder, codes_of(truth[:, order]), dictionary, scipy.sparse.csr_matrix(truth)
    )
    np.testing.assert_allclose(list(perfect.values()), 1.0)
    z = truth[:, order].copy()
    z[0, 1] = 0  # Latent 1 (concept 0) misses one of its three images,
    z[5, 3] = 1  # latent 3 (concept 1) fires on one too many,
    decoder[0] = -decoder[
        0
    ]  # and concept 2's direction is gone: its latent is another one, of cosine 0.
    lost = recovery.of_codes(
        decoder, codes_of(z), dictionary, scipy.sparse.csr_matrix(truth)
    )
    np.testing.assert_allclose(lost["recovery_cosine"], 2 / 3, atol=1e-9)
    np.testing.assert_allclose(lost["recovery_found"], 2 / 3)
    assert (
        lost["recovery_recall"] <= (2 / 3 + 1 + 1) / 3
        and lost["recovery_precision"] < 1
    )
