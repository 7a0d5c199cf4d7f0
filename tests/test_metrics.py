"""Scores against brute force, scikit-learn and hand-computed values."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from sae.models.coder import TopKSAE
from sae.models.codes import Codes, encode
from sae.scoring.metrics import monosemanticity as ms
from sae.scoring.metrics import reconstruction


def codes_of(dense):
    """Codes of a dense (N, m) array, as many places as its fullest row."""
    k = max(1, (dense > 0).sum(axis=1).max())
    order = np.argsort(-dense, axis=1, kind="stable")[:, :k]
    return Codes(np.take_along_axis(dense, order, 1).astype(np.float32), order.astype(np.int32), dense.shape[1])


def brute_force(dense, embeddings, groups=None):
    """MS from its definition: a double loop over pairs of images."""
    e = embeddings.astype(np.float64)
    e = e / np.linalg.norm(e, axis=1, keepdims=True)
    out = []
    for column in dense.astype(np.float32).astype(np.float64).T:
        low, high = column.min(), column.max()
        if high == low:
            out.append(np.nan)
            continue
        a = (column - low) / (high - low)
        pairs = [(i, j) for i, j in itertools.combinations(range(len(a)), 2) if a[i] > 0 and a[j] > 0]
        pairs = [(i, j) for i, j in pairs if groups is None or groups[i] != groups[j]]
        weight = sum(a[i] * a[j] for i, j in pairs)
        out.append(sum(a[i] * a[j] * e[i] @ e[j] for i, j in pairs) / weight if pairs else np.nan)
    return np.array(out)


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    dense = np.maximum(rng.normal(size=(30, 8)), 0) * (rng.random((30, 8)) < 0.4)
    dense[:, 0] = 0  # never fires
    dense[:, 1] = np.eye(30)[4] * 2  # once
    dense[:, 2] = np.eye(30)[4] + np.eye(30)[9] * 0.3  # twice
    dense[:, 3] = rng.random(30) + 0.5  # always: its minimum is not 0
    dense[:, 4] = 0.7  # always the same
    dense[:, 5] = (np.arange(30) % 3 == 0) * 0.4  # constant where it fires, silent elsewhere
    return dense, rng.normal(size=(30, 5)) + 0.5, rng.integers(0, 6, 30)


def test_the_matrix_leaves_the_codes_as_they_are(example):
    codes = codes_of(example[0])
    values, indices = codes.values.copy(), codes.indices.copy()
    np.testing.assert_array_equal(codes.matrix().toarray(), example[0].astype(np.float32))
    np.testing.assert_array_equal(codes.matrix().toarray(), example[0].astype(np.float32))
    assert (codes.values == values).all() and (codes.indices == indices).all()


def test_ms_equals_brute_force(example):
    dense, embeddings, groups = example
    scaled = ms.scale_activations(codes_of(dense))
    expected = brute_force(dense, embeddings)
    np.testing.assert_allclose(ms.scores(scaled, embeddings), expected, atol=1e-12)
    assert np.isnan(expected).tolist() == [True, True, False, False, True, False, False, False]
    across = brute_force(dense, embeddings, groups)
    np.testing.assert_allclose(ms.scores(scaled, embeddings, groups), across, atol=1e-12)
    one_group = np.where(dense[:, 2] > 0, "same", groups.astype(str))
    assert np.isnan(ms.scores(scaled, embeddings, one_group)[2])


def test_ms_of_a_pair_is_its_cosine_also_in_float16(example):
    dense, embeddings, _ = example
    scaled = ms.scale_activations(codes_of(dense))
    e = embeddings[[4, 9]] / np.linalg.norm(embeddings[[4, 9]], axis=1, keepdims=True)
    assert ms.scores(scaled, embeddings)[2] == pytest.approx(e[0] @ e[1])
    half = embeddings.astype(np.float16)
    np.testing.assert_allclose(ms.scores(scaled, half), brute_force(dense, half), atol=1e-12)


def test_ms_when_nothing_fires(example):
    silent = Codes(np.zeros((30, 2), np.float32), np.zeros((30, 2), np.int32), 8)
    for groups in (None, example[2]):
        assert np.isnan(ms.scores(ms.scale_activations(silent), example[1], groups)).all()


def test_summary_in_both_conventions():
    summary = ms.summary(np.array([np.nan, 0.2, 0.6, np.nan]))
    assert summary == ms.Summary(pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.4), pytest.approx(0.4))
    none = ms.summary(np.array([np.nan, np.nan]))
    assert none.mean == 0 and np.isnan(none.mean_alive)


def test_floor_equals_brute_force(example):
    e = example[1] / np.linalg.norm(example[1], axis=1, keepdims=True)
    cosines = (e @ e.T)[np.triu_indices(30, 1)]
    assert ms.floor(example[1]) == pytest.approx(cosines.mean())


def mean_predictor(x):
    """An SAE whose latents never fire and whose b_d is the mean."""
    sae = TopKSAE(x.shape[1], 6, 2)
    with torch.no_grad():
        sae.b_dec.copy_(x.double().mean(dim=0))
        sae.b_enc.fill_(-1e6)
    return sae


def test_r2_of_the_mean_predictor_is_zero_even_far_from_the_origin():
    x = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)) + 30.0
    fit = reconstruction.score(mean_predictor(x), x, encode(mean_predictor(x), x))
    assert fit.r2 == pytest.approx(0, abs=1e-6)
    assert fit.r2_dim_mean == pytest.approx(0, abs=1e-6)
    assert fit.l0 == 0


def test_r2_equals_scikit_learn_and_constant_dimensions_are_left_out():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=g) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 10
    x[:, 2] = 10.1
    sae = TopKSAE(6, 12, 3)
    sae.initialise(x.mean(dim=0), seed=0)
    codes = encode(sae, x)
    fit = reconstruction.score(sae, x, codes)
    x_hat = sae.reconstruct(x, *(torch.from_numpy(t) for t in (codes.values, codes.indices))).detach().numpy()
    varies = [0, 1, 3, 4, 5]
    assert fit.constant_dims == 1
    assert fit.r2_dim_mean == pytest.approx(r2_score(x.numpy()[:, varies], x_hat[:, varies]), abs=1e-6)
    residual, variance = ((x.numpy() - x_hat) ** 2).sum(), ((x - x.mean(dim=0)).numpy() ** 2).sum()
    assert fit.r2 == pytest.approx(1 - residual / variance, abs=1e-5)
    assert fit.nmse == 1 - fit.r2 or fit.nmse == pytest.approx(1 - fit.r2)


def test_codes_are_the_topk_and_count_only_what_fires():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(50, 6, generator=g)
    sae = TopKSAE(6, 12, 4)
    sae.initialise(torch.zeros(6), seed=0)
    with torch.no_grad():
        sae.b_enc -= 0.8  # Some samples have fewer than 4 active latents.
    codes = encode(sae, x)
    dense = torch.relu(x @ sae.W_enc + sae.b_enc).detach().numpy()
    for row, activations in enumerate(dense):
        expected = np.sort(activations)[::-1][:4]
        np.testing.assert_allclose(codes.values[row], expected, atol=1e-6)
    assert (codes.values == 0).any()
    kept = [set(codes.indices[row][codes.values[row] > 0]) for row in range(50)]
    assert codes.firing_counts().tolist() == [sum(j in latents for latents in kept) for j in range(12)]
