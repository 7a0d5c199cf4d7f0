"""The k-curve and the rank profile against separate decodes and plain sorting."""

import numpy as np
import pytest
import torch

from sae.models import codes
from sae.models.coder import TopKSAE
from sae.scoring.metrics import reconstruction, robustness


@pytest.fixture(params=["none", "unit_l2_layernorm"])
def example(request, monkeypatch):
    monkeypatch.setattr(robustness, "_CHUNK", 17)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=g) + 2
    sae = TopKSAE(6, 16, 4, request.param)
    sae.initialise(sae.standardise(x)[0].mean(dim=0), seed=0)
    return sae.requires_grad_(False), x


def test_incremental_decode_equals_separate_decodes(example):
    sae, x = example
    ks = robustness.k_grid(4, 16)
    assert ks == [1, 2, 3, 4, 6, 8, 11, 16]
    separate = [reconstruction.score(sae, x, codes.encode(sae, x, k)).nmse for k in ks]
    np.testing.assert_allclose(robustness.nmse_by_k(sae, x, ks), separate, rtol=1e-5)


def test_rank_profile_equals_sorting(example):
    sae, x = example
    a = torch.relu((sae.standardise(x)[0] - sae.b_dec) @ sae.W_enc + sae.b_enc).numpy()
    np.testing.assert_allclose(robustness.rank_profile(sae, x), np.sort(a, axis=1)[:, ::-1].mean(axis=0), atol=1e-5)
    assert sae.k == 4 and robustness.rank_profile(sae, x).shape == (16,)
