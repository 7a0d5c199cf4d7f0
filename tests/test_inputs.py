"""Norm and scale of the inputs, on which lambda's scale rests."""

import numpy as np
import pytest

from sae import inputs


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
