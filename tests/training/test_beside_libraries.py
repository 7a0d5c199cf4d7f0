"""No rival is crippled here: on the same data it reconstructs at least as well as a maintained package's own training.

As many steps, the same batch size, latents and learning rate, each with its own initialisation and schedule; three
seeds. `make test-libraries` runs it.
"""

import json

import numpy as np
import pytest
import torch
from models.test_libraries import theirs
from sklearn.datasets import load_digits

from sae.core import registry
from sae.models import inputs
from sae.training.loop import train
from sae.training.settings import Settings

pytestmark = pytest.mark.libraries
SIDE = {"m": 256, "k": 8, "steps": 1500, "batch": 128, "lr": 0.001}
SEEDS = (0, 1, 2)
OURS = {"topk": "topk", "batchtopk": "batch_topk", "matryoshka": "matryoshka", "jumprelu": "jumprelu"}
OURS |= {"standard": "relu_l1"}
# Their weights of sparsity where there is no target: such that L0 comes near 8, and once to 3.
WEIGHTS = {("saelens", "jumprelu"): {"l0_coefficient": 0.004}, ("saelens", "standard"): {"l1_coefficient": 0.3}}
PAIRS = [
    (library, kind, WEIGHTS.get((library, kind), {})) for library in ("saelens", "dictionary_learning") for kind in OURS
]
FEW = pytest.param(
    *("saelens", "jumprelu", {"l0_coefficient": 0.1}),
    marks=pytest.mark.xfail(strict=True, reason="JumpReLU at 3 of 256 latents is worse here (docs/protocol.md)"),
)


@pytest.fixture(scope="module")
def digits():
    """(1797, 64): real images, 8 x 8 pixels, of unit norm and total variance 1."""
    x = inputs.unit_rows(load_digits().data).astype(np.float32)
    return x * np.float32(inputs.total_variance(x) ** -0.5)


def fvu(x, rebuilt):
    return float(((x - rebuilt) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def of_theirs(library, kind, options, digits, folder, monkeypatch):
    """Rows (FVU, L0) on the training images, by seed."""
    np.save(folder / "x.npy", digits)
    found = []
    for seed in SEEDS:
        monkeypatch.setenv("SIDE", json.dumps(SIDE | {"seed": seed, "options": options}))
        out = folder / f"{seed}.npz"
        codes, rebuilt = theirs(library, "train", kind, folder / "x.npy", folder / f"sae{seed}", out)
        found.append((fvu(digits, rebuilt), (codes > 0).sum() / len(codes)))
    return np.array(found)


def of_ours(objective, k, digits):
    entry = registry.load("objective", objective)
    options = registry.head("objective", objective).options().model_dump()
    found = []
    for seed in SEEDS:
        settings = Settings(
            **{"m": SIDE["m"], "k": k, "steps": SIDE["steps"], "batch_size": SIDE["batch"], "lr": SIDE["lr"]},
            **{"epochs": 1, "adam_eps": 1e-8, "decay_fraction": 0.2, "auxk_alpha": 1 / 32, "auxk_k": 32},
            **{"dead_after": 10_000, "input_norm": "none", "unit_variance": True, "tied": False, "log_every": 500},
            **{"objective": objective, "options": options, "seed": seed},
        )
        x = torch.from_numpy(digits)
        coder, _ = train(x, settings, entry)
        codes = coder.encode(x)
        found.append((fvu(digits, coder.reconstruct(x, codes).detach().numpy()), codes.l0()))
    return np.array(found)


@pytest.mark.parametrize(("library", "kind", "options"), [*PAIRS, FEW])
def test_ours_reaches_their_fvu_at_their_l0(library, kind, options, digits, tmp_path, monkeypatch):
    there = of_theirs(library, kind, options, digits, tmp_path, monkeypatch)
    # Their thresholds and weights come near a budget, so the budget here is what they came to.
    k = round(there[:, 1].mean())
    ours = of_ours(OURS[kind], k, digits)
    error = ((there[:, 0].var(ddof=1) + ours[:, 0].var(ddof=1)) / len(SEEDS)) ** 0.5
    print(f"{library} {kind}: theirs {there.mean(axis=0)}, ours {ours.mean(axis=0)}, error {error:.4f}")
    assert ours[:, 1].mean() <= 1.07 * there[:, 1].mean()
    assert ours[:, 0].mean() <= there[:, 0].mean() + 3 * error
