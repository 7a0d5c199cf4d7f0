"""The Monosemanticity Score is that of its definition."""

import decimal
import itertools

import numpy as np
import pytest
import torch
from scoring.examples import codes_of, ms_by_definition

from sae.scoring.metrics import _ms


@pytest.fixture(params=["whole", "in small pieces"])
def example(request, monkeypatch):
    """Make codes whose latents fire never, once, twice, always; embeddings; groups."""
    if request.param != "whole":
        for name, size in (("_ROWS", 3), ("_DIMENSIONS", 2), ("_CHUNK", 7)):
            monkeypatch.setattr(_ms, name, size)
    rng = np.random.default_rng(0)
    dense = np.maximum(rng.normal(size=(30, 8)), 0) * (rng.random((30, 8)) < 0.4)
    dense[:, 0] = 0  # never fires
    dense[:, 1] = np.eye(30)[4] * 2  # once
    dense[:, 2] = np.eye(30)[4] + np.eye(30)[9] * 0.3  # twice
    dense[:, 3] = rng.random(30) + 0.5  # always: its minimum is not 0
    dense[:, 4] = 0.7  # always the same
    dense[:, 5] = (
        np.arange(30) % 3 == 0
    ) * 0.4  # constant where it fires, silent elsewhere
    return dense, rng.normal(size=(30, 5)) + 0.5, rng.integers(0, 6, 30)


def test_ms_equals_its_definition(example):
    dense, embeddings, groups = example
    scaled = _ms.scale_activations(codes_of(dense))
    expected = ms_by_definition(dense, embeddings)
    np.testing.assert_allclose(_ms.scores(scaled, embeddings), expected, atol=1e-12)
    assert np.isnan(expected).tolist() == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    across = ms_by_definition(dense, embeddings, groups)
    np.testing.assert_allclose(
        _ms.scores(scaled, embeddings, groups), across, atol=1e-12
    )
    one_group = np.where(dense[:, 2] > 0, "same", groups.astype(str))
    assert np.isnan(_ms.scores(scaled, embeddings, one_group)[2])


def test_ms_of_a_pair_is_its_cosine_also_in_float16(example):
    dense, embeddings, _ = example
    scaled = _ms.scale_activations(codes_of(dense))
    e = embeddings[[4, 9]] / np.linalg.norm(embeddings[[4, 9]], axis=1, keepdims=True)
    assert _ms.scores(scaled, embeddings)[2] == pytest.approx(e[0] @ e[1])
    half = embeddings.astype(np.float16)
    np.testing.assert_allclose(
        _ms.scores(scaled, half), ms_by_definition(dense, half), atol=1e-12
    )


def test_ms_is_undefined_where_nothing_fires(example):
    silent = codes_of(np.zeros((30, 8)))
    for groups in (None, example[2]):
        assert np.isnan(
            _ms.scores(_ms.scale_activations(silent), example[1], groups)
        ).all()


def test_a_summary_counts_undefined_scores_as_0_or_leaves_them_out():
    summary = _ms.summary(np.array([np.nan, 0.2, 0.6, np.nan]))
    assert summary == _ms.Summary(
        pytest.approx(0.2), pytest.approx(0.1), pytest.approx(0.4), pytest.approx(0.4)
    )
    none = _ms.summary(np.array([np.nan, np.nan]))
    assert none.mean == 0 and np.isnan(none.mean_alive)


def test_floor_equals_ms_by_definition(example):
    e = example[1] / np.linalg.norm(example[1], axis=1, keepdims=True)
    cosines = (e @ e.T)[np.triu_indices(30, 1)]
    assert _ms.floor(example[1]) == pytest.approx(cosines.mean())


def test_ms_is_bitwise_the_same_with_any_number_of_threads(example):
    dense, embeddings, groups = example
    scaled = _ms.scale_activations(codes_of(dense))
    threads = torch.get_num_threads()
    scores_by_count = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            ms = _ms.scores(scaled, embeddings, groups)
            scores_by_count.append(ms.tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(set(scores_by_count)) == 1


def ms_in_60_digits(dense, embeddings, groups):
    """Compute MS by its definition; inputs are taken as they stand in float32."""
    rows = [[decimal.Decimal(float(v)) for v in row] for row in embeddings]
    rows = [[v / sum(w * w for w in row).sqrt() for v in row] for row in rows]
    ms = []
    for column in dense.astype(np.float32).T:
        a = [decimal.Decimal(float(v)) for v in column]
        a = [(v - min(a)) / (max(a) - min(a)) for v in a]
        pairs = itertools.combinations([i for i, v in enumerate(a) if v > 0], 2)
        weights = {(i, j): a[i] * a[j] for i, j in pairs if groups[i] != groups[j]}
        of_pairs = sum(
            w * sum(p * q for p, q in zip(rows[i], rows[j], strict=True))
            for (i, j), w in weights.items()
        )
        ms.append(float(of_pairs / sum(weights.values())))
    return np.array(ms)


def test_one_activation_may_outweigh_all_others(example):
    rng = np.random.default_rng(1)
    columns = []
    for ratio in (3e-3, 1e-6, 1e-9, 1e-12, 1e-20):
        largest = np.eye(30)[3] * 1.7
        columns += [
            largest + ratio * np.eye(30)[8],
            largest + ratio * rng.random(30) * (rng.random(30) < 0.8),
        ]
        # One of the others outweighs all the rest.
        columns.append(largest + ratio * np.eye(30)[20] + ratio**2 * rng.random(30))
        # Two images share the weight; they are of one group.
        columns.append(np.where(np.arange(30) < 2, 1.7, ratio * rng.random(30)))
    # It fires everywhere, all but twice the same.
    columns.append(1 + np.eye(30)[3] + np.eye(30)[8] * 2.0**-23)
    dense = np.array(columns).T
    groups = np.arange(30) // 2
    scaled = _ms.scale_activations(codes_of(dense))
    with decimal.localcontext(prec=60):
        for parted in (None, groups):
            expected = ms_in_60_digits(
                dense, example[1], np.arange(30) if parted is None else parted
            )
            np.testing.assert_allclose(
                _ms.scores(scaled, example[1], parted), expected, rtol=0, atol=1e-13
            )
