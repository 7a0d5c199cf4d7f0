"""The generator is what it says, and recovery measures it."""

import numpy as np
import scipy.sparse
from scoring.examples import codes_of

from sae.data import store, synthetic
from sae.scoring import recovery


def test_embeddings_are_the_stated_sum_and_a_smaller_set_is_the_beginning_of_a_larger(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "CHUNK", 64)
    world = synthetic.world(d=16, concepts=40, classes=5)
    counts = {"train": 150, "val": 20, "test": 100}
    synthetic.write(world, counts, tmp_path / "a")
    synthetic.write(world, counts | {"train": 90}, tmp_path / "b")
    large, small = (store.read(tmp_path / name / "train") for name in "ab")
    assert large.embeddings.shape == (150, 16) and large.embeddings.dtype == np.float16
    np.testing.assert_array_equal(large.embeddings[:90], small.embeddings)
    assert large.index["label"][:90].equals(small.index["label"])
    test, truth = store.read(tmp_path / "a/test"), scipy.sparse.load_npz(tmp_path / "a/truth/test.npz").toarray()
    noise = test.embeddings - (truth @ np.load(tmp_path / "a/truth/dictionary.npy") + world.mean)
    assert 0.8 * synthetic.NOISE < np.sqrt((noise**2).sum(axis=1).mean()) < 1.2 * synthetic.NOISE
    # A class's own concepts are on most of its images, and far more often than on those of other classes.
    labels = test.index["label"].to_numpy()
    own = (truth[np.arange(100)[:, None], world.own[labels]] > 0).mean()
    assert own > synthetic.SIGNATURE - 0.05


def test_recovery_of_the_truth_is_perfect_and_every_loss_is_counted():
    rng = np.random.default_rng(0)
    dictionary = np.linalg.qr(rng.normal(size=(8, 8)))[0][:4]
    truth = np.zeros((6, 4))
    truth[[0, 1, 2], 0] = truth[[2, 3], 1] = truth[[4], 2] = 1.0  # Concept 3 is on no image: left out.

    order = [2, 0, 3, 1]  # The latents hold the concepts in another order, one of them half as long.
    decoder = dictionary[order] * np.array([[1.0], [0.5], [1.0], [1.0]])
    perfect = recovery.score(decoder, codes_of(truth[:, order]), dictionary, scipy.sparse.csr_matrix(truth))
    np.testing.assert_allclose([perfect.max_cosine, perfect.found, perfect.precision, perfect.recall], 1.0)
    z = truth[:, order].copy()
    z[0, 1] = 0  # Latent 1 (concept 0) misses one of its three images,
    z[5, 3] = 1  # latent 3 (concept 1) fires on one too many,
    decoder[0] = -decoder[0]  # and concept 2's direction is gone: its latent is another one, of cosine 0.
    lost = recovery.score(decoder, codes_of(z), dictionary, scipy.sparse.csr_matrix(truth))
    np.testing.assert_allclose(lost.max_cosine, 2 / 3, atol=1e-9)
    np.testing.assert_allclose(lost.found, 2 / 3)
    assert lost.recall <= (2 / 3 + 1 + 1) / 3 and lost.precision < 1
