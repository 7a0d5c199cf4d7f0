"""The k-curve and the rank profile against separate decodes and plain sorting."""

import numpy as np
import pytest
import torch

from sae.models.coder import Coder, Threshold, TopK
from sae.scoring.metrics import _residuals, rank_profile, robustness


@pytest.fixture(params=["none", "unit_l2_layernorm"])
def example(request, monkeypatch):
    """Make an untrained SAE and its inputs, looked at in small pieces."""
    monkeypatch.setattr(robustness, "_CHUNK", 17)
    monkeypatch.setattr(robustness, "_ROWS", 5)
    monkeypatch.setattr(rank_profile, "_CHUNK", 17)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=g) + 2
    sae = Coder(6, 16, 4, input_norm=request.param)
    sae.initialise(sae.standardise(x)[0].mean(dim=0), seed=0)
    return sae.requires_grad_(False), x


@pytest.mark.parametrize("select", [None, Threshold(torch.full((16,), 0.3))])
def test_incremental_decode_equals_separate_decodes_whatever_the_selection(
    example, select
):
    sae, x = example
    ks = robustness.k_grid(4, 16)
    assert ks == [1, 2, 3, 4, 6, 8, 11, 16]
    separate = [
        _residuals.score_reconstruction(sae, x, sae.encode(x, TopK(k))).nmse for k in ks
    ]
    sae.select = select or sae.select
    np.testing.assert_allclose(robustness.nmse_by_k(sae, x, ks), separate, rtol=1e-5)


def test_rank_profile_equals_sorting(example):
    sae, x = example
    a = torch.relu((sae.standardise(x)[0] - sae.b_dec) @ sae.W_enc + sae.b_enc).numpy()
    np.testing.assert_allclose(
        rank_profile.profile(sae, x),
        np.sort(a, axis=1)[:, ::-1].mean(axis=0),
        atol=1e-5,
    )
    assert rank_profile.profile(sae, x).shape == (16,)
