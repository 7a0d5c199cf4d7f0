"""No rival is crippled here: it reconstructs as in a maintained package's own training.

Both sides have the same data, start, learning rate and its decay, batch size, steps and
latents; the rest is each side's own. Three seeds. `make test-libraries` runs it.
"""

import itertools
import json

import numpy as np
import pytest
import torch
from models.test_libraries import theirs
from sklearn.datasets import load_digits

from sae.core import registry
from sae.models import convert, inputs
from sae.models.coder import Coder, TopK
from sae.training.loop import train
from sae.training.recipe import Settings

pytestmark = pytest.mark.libraries
SIDE = {"m": 256, "k": 8, "steps": 1500, "batch": 128, "lr": 0.001}
SEEDS = (0, 1, 2)
# Our objectives, by what the libraries call them.
IN_BOTH_LIBRARIES = {
    "topk": "topk",
    "batchtopk": "batch_topk",
    "matryoshka": "matryoshka",
    "jumprelu": "jumprelu",
    "standard": "relu_l1",
}
OURS = IN_BOTH_LIBRARIES | {
    "jumprelu_batch": "jumprelu",
    "multitopk": "multi_topk",
    "multitopk_whole": "multi_topk",
}
# Their options, and ours that say the same. SAELens' quadratic loss is 2 k times ours,
# of each sample's L0.
QUADRATIC = {
    "jumprelu_sparsity_loss_mode": "quadratic",
    "target_l0": 8.0,
    "l0_coefficient": 1 / 16,
}
MATCHED_OPTIONS = {
    ("saelens", "jumprelu"): (QUADRATIC, {"sparsity": 1.0}),
    ("saelens", "jumprelu_batch"): (QUADRATIC, {"sparsity": 1.0}),
    ("saelens", "standard"): ({"l1_coefficient": 0.3}, {"weight": 0.3}),
    ("dictionary_learning", "jumprelu"): ({}, {"theta": 0.001, "bandwidth": 0.001}),
    ("dictionary_learning", "standard"): ({}, {"weight": 0.1}),
}
PAIRS = [
    *itertools.product(("saelens", "dictionary_learning"), IN_BOTH_LIBRARIES),
    ("saelens", "jumprelu_batch"),
    *itertools.product(("sparsify",), ("topk", "multitopk", "multitopk_whole")),
]
# Where theirs is another recipe, ours must be as good. SAELens' JumpReLU loss is about
# each sample's L0; `jumprelu_batch` is its loss of the batch's L0, as ours is.
# dictionary_learning's thresholds end below the budget that it trains with; it warms
# the weight of sparsity up, and its JumpReLU has Adam without momentum. eai-sparsify's
# encoder gets no gradient of the error at 4 k (`multitopk_whole`: with it).
OTHER_RECIPES = [
    ("saelens", "jumprelu"),
    ("sparsify", "multitopk"),
    ("dictionary_learning", "batchtopk"),
    ("dictionary_learning", "matryoshka"),
    ("dictionary_learning", "jumprelu"),
    ("dictionary_learning", "standard"),
]
NEAR = 0.05  # of their FVU, beside three standard errors


@pytest.fixture(scope="module")
def digits():
    """Return real images (1797, 64) of unit norm and total variance 1."""
    x = inputs.unit_rows(load_digits().data).astype(np.float32)
    return x * np.float32(inputs.total_variance(x) ** -0.5)


def fvu(x, reconstructed):
    """Return the fraction of variance that a reconstruction leaves."""
    variance = ((x - x.mean(axis=0)) ** 2).sum()
    return float(((x - reconstructed) ** 2).sum() / variance)


def fvu_at_four_k(coder, digits):
    """Return the FVU with four times the k of training, by our code."""
    x = torch.from_numpy(digits)
    codes = coder.encode(x, TopK(4 * SIDE["k"]))
    return fvu(digits, coder.reconstruct(x, codes).detach().numpy())


def train_theirs(library, kind, options, digits, folder, monkeypatch):
    """Train with their code, and measure on the training images.

    Returns:
        An array (seeds, 3): FVU, L0 and FVU at 4 k; the last of eai-sparsify alone.
    """
    np.save(folder / "x.npy", digits)
    measured = []
    for seed in SEEDS:
        coder = Coder(digits.shape[1], SIDE["m"], SIDE["k"])
        coder.initialise(torch.from_numpy(digits.mean(axis=0)), seed)
        weights = {
            name: getattr(coder, name).detach().numpy()
            for name in ("W_enc", "W_dec", "b_dec")
        }
        np.savez(folder / "start.npz", **weights)
        started = {"seed": seed, "options": options, "start": str(folder / "start.npz")}
        monkeypatch.setenv("SIDE", json.dumps(SIDE | started))
        codes_file = folder / f"{seed}.npz"
        sae_file = folder / f"sae{seed}"
        codes, reconstructed = theirs(
            library, "train", kind, folder / "x.npy", sae_file, codes_file
        )
        l0 = (codes > 0).sum() / len(codes)
        at_four_k = np.nan
        if library == "sparsify":
            coder = convert.load(str(sae_file), "auto", convert.Options(), digits)
            at_four_k = fvu_at_four_k(coder, digits)
        measured.append([fvu(digits, reconstructed), l0, at_four_k])
    return np.array(measured)


def train_ours(objective, k, options, digits):
    """Train with our code, and measure on the training images.

    Returns:
        An array (seeds, 3): FVU, L0 and FVU at 4 k.
    """
    entry = registry.load("objective", objective)
    options = registry.head("objective", objective).options(**options).model_dump()
    x = torch.from_numpy(digits)
    measured = []
    for seed in SEEDS:
        settings = Settings(
            m=SIDE["m"],
            k=k,
            steps=SIDE["steps"],
            batch_size=SIDE["batch"],
            lr=SIDE["lr"],
            epochs=1,
            adam_eps=1e-8,
            decay_fraction=0.2,
            auxk_alpha=1 / 32,
            auxk_k=32,
            dead_after=10_000,
            input_norm="none",
            unit_variance=True,
            tied=False,
            log_every=500,
            objective=objective,
            options=options,
            seed=seed,
        )
        coder, _ = train(x, settings, entry)
        codes = coder.encode(x)
        reconstructed = coder.reconstruct(x, codes).detach().numpy()
        measured.append(
            (fvu(digits, reconstructed), codes.l0(), fvu_at_four_k(coder, digits))
        )
    return np.array(measured)


@pytest.mark.parametrize(("library", "kind"), PAIRS)
def test_ours_reaches_their_fvu_at_their_l0(
    library, kind, digits, tmp_path, monkeypatch
):
    their_options, our_options = MATCHED_OPTIONS.get((library, kind), ({}, {}))
    their_rows = train_theirs(
        library, kind, their_options, digits, tmp_path, monkeypatch
    )

    # Their thresholds and weights come near a budget. Ours has whole ones, so it is
    # read between the two nearest.
    l0 = their_rows[:, 1].mean()
    below = max(1, int(l0))
    rows_below = train_ours(OURS[kind], below, our_options, digits)
    rows_above = train_ours(OURS[kind], below + 1, our_options, digits)
    share = min(1.0, max(0.0, l0 - below))
    our_rows = (1 - share) * rows_below + share * rows_above
    assert our_rows[:, 1].mean() <= 1.01 * l0

    columns = {f"L0 {l0:.1f}": 0}
    if library == "sparsify":
        columns["4 k"] = 2
    for budget, column in columns.items():
        their_fvu = their_rows[:, column]
        our_fvu = our_rows[:, column]
        error = ((their_fvu.var(ddof=1) + our_fvu.var(ddof=1)) / len(SEEDS)) ** 0.5
        print(
            f"{library} {kind}: {budget}, FVU theirs {their_fvu.mean():.4f}, "
            f"ours {our_fvu.mean():.4f}, error {error:.4f}"
        )
        if (library, kind) in OTHER_RECIPES:
            assert our_fvu.mean() <= their_fvu.mean() + 3 * error
        else:
            their_mean = pytest.approx(their_fvu.mean(), rel=NEAR, abs=3 * error)
            assert our_fvu.mean() == their_mean
