"""SAEs that were changed to raise detection do not have more of it, and are told.

They are trained on handwritten digits of 8 x 8 pixels, and judged by random features of
these. `python bench/cheats.py results/demo` does so with the SAEs of an experiment.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from training.common import entries, settings

from bench import cheats
from sae.data import store
from sae.models import inputs
from sae.training.loop import train

SETTINGS = {
    "m": 96,
    "k": 8,
    "epochs": 40,
    "batch_size": 128,
    "lr": 0.005,
    "encoder_scale": 0.3,
    "dead_after": 2000,
    "input_norm": "none",
}
PARTS = {"train": slice(1100), "val": slice(1100, 1400), "test": slice(1400, None)}


@pytest.fixture(scope="module")
def images():
    pixels, labels = load_digits(return_X_y=True)
    x = inputs.unit_rows(pixels)
    x *= inputs.total_variance(x) ** -0.5
    rng = np.random.default_rng(0)
    seen = np.tanh(x @ rng.normal(0, 2, (64, 200)) + rng.normal(size=200))
    order = rng.permutation(len(x))
    splits = {}
    for split, part in PARTS.items():
        rows = order[part]
        index = pd.DataFrame({"label": pd.array(labels[rows], "Int64")})
        manifest = {"dataset": {"grouped": False}}
        splits[split] = store.Activations(x[rows].astype(np.float32), index, manifest)
    judge = {split: seen[order[part]] for split, part in PARTS.items()}
    return cheats.Images(splits, {"judge": judge}, {})


@pytest.fixture(scope="module")
def differences(images):
    """What every cheat changes, mean over SAEs, and the largest rise of detection."""
    x = torch.tensor(images.splits["train"].embeddings)
    tables = []
    for seed in (0, 1):
        recipe = settings(seed=seed, **SETTINGS)
        coder, log = train(x, recipe, *entries(recipe))
        assert log[-1]["r2"] > 0.85
        tables.append(cheats.compare(coder.requires_grad_(False), images))
    summary = cheats.summarise(tables)
    print(summary.to_string(float_format="{:+.3f}".format))
    return summary


# What each changes most plainly.
TOLD_BY = {
    "copies, half each": ("copies", 0.03),
    "copies, .65 and .35": ("nested", 0.05),
    "copies, half each, turned": ("copies", 0.03),
    "rarest quarter dropped": ("coverage", -0.1),
    "one fires everywhere": ("nested", 0.9),
    "ten indicate classes": ("purity_binary", 0.03),
    "copies, weaker and turned far": ("nested", 0.05),
}
# Their latents are found better indeed: a class is, and these copies are no cluster.
RAISES = {"ten indicate classes", "copies, weaker and turned far"}


@pytest.mark.parametrize("cheat", cheats.CHEATS)
def test_a_cheat_does_not_raise_detection_and_a_column_tells_it(differences, cheat):
    difference = differences.loc[cheat]
    assert -0.04 < difference["r2"] <= 0
    assert (difference["detection"] > 0.003) == (cheat in RAISES)
    column, least = TOLD_BY[cheat]
    assert difference[column] / least > 1


def test_copies_add_to_a_reconstruction_what_their_latents_did(images):
    x = torch.tensor(images.splits["train"].embeddings)
    recipe = settings(**SETTINGS | {"epochs": 2})
    coder = train(x, recipe, *entries(recipe))[0].requires_grad_(False)
    before = coder.W_dec.clone()
    latents = np.arange(coder.m)
    known = cheats.Known(latents, latents[::-1], x, np.zeros(len(x)))
    cheats.copy_easiest(coder, known, strength=0.6, cosine=0.85)
    copies, easiest = torch.arange(10), torch.arange(95, 85, -1)
    kept, copied = coder.W_dec[easiest], coder.W_dec[copies]
    torch.testing.assert_close(kept + 0.6 * copied, before[easiest])
    cosines = torch.cosine_similarity(kept, copied)
    torch.testing.assert_close(cosines, torch.full((10,), 0.85))
