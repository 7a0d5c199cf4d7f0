"""Purity against brute force, and its null against the exact expectation."""

import math

import numpy as np
import pytest
from scoring.examples import codes_of

from sae.scoring.metrics import _purity, purity


def purity_by_brute_force(dense, labels):
    """Return mean binary and mean weighted purity, latent by latent."""
    binary, weighted = [], []
    for column in dense.T:
        fires = np.flatnonzero(column > 0)
        if not len(fires):
            continue
        classes = [np.sum(labels[fires] == c) for c in range(labels.max() + 1)]
        of_class = fires[labels[fires] == int(np.argmax(classes))]
        binary.append(len(of_class) / len(fires))
        weighted.append(column[of_class].sum() / column[fires].sum())
    return np.mean(binary), np.mean(weighted)


@pytest.mark.parametrize("bins", [1, 16, 1 << 17])
def test_purity_equals_brute_force(bins, monkeypatch):
    monkeypatch.setattr(_purity, "_BINS", bins)
    rng = np.random.default_rng(0)
    dense = rng.random((60, 9)) * (rng.random((60, 9)) < rng.random(9) ** 2)
    dense[:, 4] = 0
    labels = rng.integers(0, 5, 60)
    averages = purity.of_codes(codes_of(dense), labels)
    assert (averages["binary"], averages["weighted"]) == pytest.approx(
        purity_by_brute_force(dense.astype(np.float32), labels), rel=1e-6
    )
    # Whatever the classes' numbers: so large ones would not fit into memory if it were
    # by number.
    numbers = np.array([3, 7, 10**9, 10**12, 2**63 - 1])
    matrix = codes_of(dense).by_latent()
    small = _purity.per_latent(matrix, labels[None])
    large = _purity.per_latent(matrix, numbers[labels][None])
    np.testing.assert_array_equal(small.binary, large.binary)
    np.testing.assert_array_equal(numbers[small.dominant], large.dominant)
    often = dense[:, (dense > 0).sum(axis=0) >= 10]
    assert averages["binary_min10"] == pytest.approx(
        purity_by_brute_force(often, labels)[0]
    )


def test_purity_is_that_by_hand():
    dense = np.array([[2.0, 0], [1, 3], [1, 0], [0, 0]])
    averages = purity.of_codes(codes_of(dense), np.array([1, 0, 0, 1]))
    # Latent 0 fires on classes 1, 0, 0: class 0, 2/3 of the images, half the
    # activation. Latent 1 fires once: pure.
    assert (averages["binary"], averages["weighted"]) == pytest.approx(
        ((2 / 3 + 1) / 2, (1 / 2 + 1) / 2)
    )
    assert np.isnan(averages["binary_min10"])
    assert np.isnan(
        purity.of_codes(codes_of(dense * 0), np.array([1, 0, 0, 1]))["binary"]
    )


def test_the_null_is_the_chance_level_of_a_latent_that_fires_n_times():
    labels = np.repeat([0, 1], 20)
    dense = np.zeros((40, 200))
    # Each fires on 4 of 40 images, half of them of each class.
    for latent in range(200):
        dense[np.random.default_rng(latent).permutation(40)[:4], latent] = 1
    chance = sum(
        math.comb(20, a) * math.comb(20, 4 - a) * max(a, 4 - a) / 4 for a in range(5)
    ) / math.comb(40, 4)
    assert purity.of_codes(codes_of(dense), labels)["binary_null"] == pytest.approx(
        chance, abs=0.01
    )


def test_the_null_keeps_the_pictures_of_one_thing_together():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([f"g{i}" for i in range(30)], 4))
    of_group = {name: label for label, name in enumerate(np.unique(groups))}
    labels = np.array([of_group[name] % 5 for name in groups])
    # Each latent fires on all four pictures of one thing: as pure as can be, and by
    # chance as pure.
    dense = np.stack([groups == name for name in np.unique(groups)], axis=1).astype(
        float
    )
    averages = purity.of_codes(codes_of(dense), labels, groups)
    assert averages["binary"] == averages["binary_null"] == 1
    assert purity.of_codes(codes_of(dense), labels)["binary_null"] < 0.7
    # Groups of another size do not trade places with these: class 5 has the only pairs.
    pairs, more = np.array(["p"] * 2 + ["q"] * 2), np.array([5] * 4)
    rows = purity._exchangeable(len(groups) + 4, np.concatenate([groups, pairs]))
    moved = purity._permuted(np.concatenate([labels, more]), rows, rng)
    assert sorted(moved) == sorted([*labels, *more]) and (moved[-4:] == 5).all()


def test_the_null_is_of_permuted_labels_alone_and_ten_images_are_enough(monkeypatch):
    labels = np.repeat([0, 1], 10)
    dense = np.zeros((20, 2))
    dense[:10, 0] = dense[10:, 1] = 1
    # Half of each latent's images get the other class: its purity by chance is a half,
    # its own is 1.
    monkeypatch.setattr(
        purity, "_permuted", lambda labels, rows, rng: np.tile([0, 1], 10)
    )
    averages = purity.of_codes(codes_of(dense), labels)
    assert (averages["binary"], averages["binary_null"]) == (1, 0.5)
    assert averages["binary_min10"] == 1
    dense[0, 0] = 0
    dense[10, 1] = 0
    assert np.isnan(purity.of_codes(codes_of(dense), labels)["binary_min10"])
