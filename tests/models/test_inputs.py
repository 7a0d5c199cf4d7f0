"""Norm and scale of the inputs, on which lambda's scale rests."""

import numpy as np
import pytest
import torch

from sae.models import inputs


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_prepare_and_total_variance_equal_numpy_across_chunks(dtype, monkeypatch):
    monkeypatch.setattr(inputs, "_CHUNK", 7)
    stored = (np.random.default_rng(0).normal(size=(40, 5)) + 20).astype(dtype)
    stored[3] = 0
    rows = stored.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    expected = rows / np.where(norms > 0, norms, 1)
    np.testing.assert_allclose(inputs.prepare(stored, "unit_l2", 3.0).numpy(), 3 * expected, rtol=1e-6)
    np.testing.assert_array_equal(inputs.prepare(stored, "none").numpy(), rows.astype(np.float32))
    assert inputs.total_variance(expected) == pytest.approx(expected.var(axis=0).sum(), rel=1e-12)


@pytest.mark.parametrize("norm", ["none", "unit_l2"])
def test_inputs_that_stay_on_disk_are_the_prepared_ones(norm, tmp_path, monkeypatch):
    stored = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)
    np.save(tmp_path / "x.npy", stored)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    prepared = inputs.open_inputs(on_disk, norm, 1.7)
    assert isinstance(prepared, torch.Tensor)
    monkeypatch.setattr(inputs, "RESIDENT", 4 * 50 * 6 - 1)
    lazy = inputs.open_inputs(on_disk, norm, 1.7)
    assert isinstance(lazy, inputs.Inputs) and len(lazy) == 50 and lazy.shape == (50, 6)
    rows = torch.tensor([3, 49, 0, 3])
    assert torch.equal(lazy[rows], prepared[rows]) and torch.equal(lazy[5:9], prepared[5:9])
    assert all(torch.equal(a, b) for a, b in zip(lazy.split(16), prepared.split(16), strict=True))
    assert inputs.total_variance(lazy) == inputs.total_variance(prepared)
