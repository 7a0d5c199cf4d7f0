"""An SAE that was made elsewhere is taken as it is, or refused with what to say."""

import numpy as np
import pytest
import torch
from scoring.examples import coder as make_coder

from sae.core.errors import UserError
from sae.models import saefile
from sae.training.objectives import imported
from sae.training.recipe import Settings

D, M, K = 6, 16, 4
RECIPE = {
    "m": 8,
    "epochs": 1,
    "batch_size": 8,
    "lr": 0.1,
    "adam_eps": 1e-8,
    "decay_fraction": 0,
    "auxk_alpha": 0,
}
RECIPE |= {
    "auxk_k": 1,
    "dead_after": 1,
    "input_norm": "unit_l2",
    "unit_variance": True,
    "tied": False,
    "log_every": 1,
}


def settings(k=K):
    return Settings(**RECIPE, k=k, seed=0, objective="imported")


@pytest.fixture
def made(tmp_path):
    """A file of an SAE that decodes the two sides of each axis, of raw embeddings times 0.5; and embeddings."""
    coder = make_coder(0, d=D, m=2 * D, k=K)
    coder.input_norm, coder.input_scale = "none", 0.5
    with torch.no_grad():
        coder.W_dec.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
        coder.W_enc.copy_(coder.W_dec.T)
        coder.b_enc.zero_(), coder.b_dec.fill_(0.25)
    saefile.save(coder, tmp_path / "sae.safetensors")
    x = np.random.default_rng(0).normal(size=(200, D)).astype(np.float32) * np.array(
        [9, 7, 5, 3, 1, 1], np.float32
    )
    return tmp_path / "sae.safetensors", x


def test_it_keeps_its_own_space_and_size_and_says_what_it_gives(made):
    file, x = made
    options = imported.Options(file=str(file))
    coder, row = imported.take(options, settings(), x)
    assert (coder.m, coder.input_norm, coder.input_scale) == (2 * D, "none", 0.5)
    # The four largest of |x/2 - 1/4| are kept exactly, the other two are lost.
    centred = np.sort(np.abs(0.5 * x.astype(np.float64) - 0.25), axis=1)
    lost, variance = (
        (centred[:, :2] ** 2).sum(axis=1).mean(),
        (0.5 * x).var(axis=0).sum(),
    )
    assert row["r2"] == pytest.approx(1 - lost / variance, abs=1e-5) and row["l0"] == K
    moved = file.with_name("moved.safetensors")
    moved.write_bytes(file.read_bytes())
    assert imported.content(options) == imported.content(
        imported.Options(file=str(moved))
    )


def test_what_does_not_fit_the_cell_is_refused_with_what_to_say(made):
    file, x = made
    options = imported.Options(file=str(file))
    with pytest.raises(
        UserError, match="takes 6 dimensions, and these embeddings have 5"
    ):
        imported.take(options, settings(), x[:, :5])
    with pytest.raises(
        UserError,
        match=r"keeps 4 latents of an image, and this cell has k = 3: .*place: ..., k: 4 }",
    ):
        imported.take(options, settings(3), x)
    # Embeddings of unit norm are another space: what is 0.25 away from the mean there is far off.
    unit = x / np.linalg.norm(x, axis=1, keepdims=True) * 0.01
    with pytest.raises(
        UserError,
        match=r"worse than their mean does .*input_norm none, input_scale 0\.5: say",
    ):
        imported.take(options, settings(), unit + 3)
