"""R^2 is that of scikit-learn, and that by hand."""

import pytest
import torch
from sklearn.metrics import r2_score

from sae.models.coder import Coder
from sae.scoring.metrics import _residuals


def make_mean_predictor(x):
    """Make an SAE whose latents never fire and whose b_d is the mean."""
    sae = Coder(x.shape[1], 6, 2)
    with torch.no_grad():
        sae.b_dec.copy_(x.double().mean(dim=0))
        sae.b_enc.fill_(-1e6)
    return sae


def test_r2_of_the_mean_predictor_is_zero_even_far_from_the_origin():
    x = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)) + 30.0
    sae = make_mean_predictor(x)
    fit = _residuals.score_reconstruction(sae, x, sae.encode(x))
    assert fit.r2 == pytest.approx(0, abs=1e-6)
    assert fit.r2_dim_mean == pytest.approx(0, abs=1e-6)
    assert sae.encode(x).l0() == 0


def test_r2_equals_scikit_learn_and_constant_dimensions_are_left_out():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=g) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 10
    x[:, 2] = 10.1
    sae = Coder(6, 12, 3)
    sae.initialise(x.mean(dim=0), seed=0)
    codes = sae.encode(x)
    fit = _residuals.score_reconstruction(sae, x, codes)
    x_hat = (
        codes.matrix().toarray() @ sae.W_dec.detach().numpy()
        + sae.b_dec.detach().numpy()
    )
    varies = [0, 1, 3, 4, 5]
    assert fit.constant_dims == 1
    assert fit.r2_dim_mean == pytest.approx(
        r2_score(x.numpy()[:, varies], x_hat[:, varies]), abs=1e-6
    )
    residual = ((x.numpy() - x_hat) ** 2).sum()
    variance = ((x - x.mean(dim=0)).numpy() ** 2).sum()
    assert fit.r2 == pytest.approx(1 - residual / variance, abs=1e-5)
    assert fit.nmse == 1 - fit.r2 or fit.nmse == pytest.approx(1 - fit.r2)
