"""An SAE that was made elsewhere is taken as it is, or refused.

An error then says what the method has to say instead.
"""

import numpy as np
import pytest
import torch
from scoring.examples import coder as make_coder
from support.errors import refused_naming

from sae.core.errors import UserError
from sae.models import saefile
from sae.training.objectives import imported
from sae.training.recipe import Settings

D = 6
K = 4
RECIPE = {
    "m": 8,
    "epochs": 1,
    "batch_size": 8,
    "lr": 0.1,
    "adam_eps": 1e-8,
    "decay_fraction": 0,
    "auxk_alpha": 0,
    "auxk_k": 1,
    "dead_after": 1,
    "input_norm": "unit_l2",
    "unit_variance": True,
    "tied": False,
    "log_every": 1,
}


def settings(k=K):
    """Return the settings of an imported SAE in a cell of k."""
    return Settings(**RECIPE, k=k, seed=0, objective="imported")


@pytest.fixture
def sae_file(tmp_path):
    """Return the file of an SAE of raw embeddings times 0.5.

    It decodes the two sides of each axis.
    """
    coder = make_coder(0, d=D, m=2 * D, k=K)
    coder.input_norm = "none"
    coder.input_scale = 0.5
    with torch.no_grad():
        coder.W_dec.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
        coder.W_enc.copy_(coder.W_dec.T)
        coder.b_enc.zero_()
        coder.b_dec.fill_(0.25)
    saefile.save(coder, tmp_path / "sae.safetensors")
    return tmp_path / "sae.safetensors"


@pytest.fixture
def embeddings():
    """Return embeddings (200, D), whose dimensions differ in size."""
    normal = np.random.default_rng(0).normal(size=(200, D)).astype(np.float32)
    return normal * np.array([9, 7, 5, 3, 1, 1], np.float32)


def test_an_imported_sae_keeps_its_own_space_and_size(sae_file, embeddings):
    options = imported.Options(file=str(sae_file))
    coder, row = imported.take(options, settings(), embeddings)
    assert (coder.m, coder.input_norm, coder.input_scale) == (2 * D, "none", 0.5)

    # The four largest of |x/2 - 1/4| are kept exactly, the other two are lost.
    sizes = np.sort(np.abs(0.5 * embeddings.astype(np.float64) - 0.25), axis=1)
    lost = (sizes[:, :2] ** 2).sum(axis=1).mean()
    variance = (0.5 * embeddings).var(axis=0).sum()
    assert row["r2"] == pytest.approx(1 - lost / variance, abs=1e-5)
    assert row["l0"] == K


def test_the_place_of_the_file_does_not_count(sae_file):
    moved_file = sae_file.with_name("moved.safetensors")
    moved_file.write_bytes(sae_file.read_bytes())
    contents = [
        imported.content(imported.Options(file=str(file)))
        for file in (sae_file, moved_file)
    ]
    assert contents[0] == contents[1]


def test_an_sae_that_does_not_fit_the_cell_is_refused(sae_file, embeddings):
    options = imported.Options(file=str(sae_file))
    with pytest.raises(
        UserError, match="takes 6 dimensions, and these embeddings have 5"
    ):
        imported.take(options, settings(), embeddings[:, :5])
    with refused_naming("4 latents", "k = 3", "k: 4"):
        imported.take(options, settings(3), embeddings)

    # Embeddings of unit norm are another space: 0.25 away from the mean is far off.
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    of_another_space = embeddings / lengths * 0.01 + 3
    with refused_naming("worse than their mean", "input_norm none", "input_scale 0.5"):
        imported.take(options, settings(), of_another_space)
