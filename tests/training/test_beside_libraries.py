"""No rival is crippled here: on the same data and settings it reconstructs as a maintained package's own training does.

Same start, learning rate and its decay, batch size, steps and latents; the rest is each side's own. Three seeds.
`make test-libraries` runs it.
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
OURS = {
    "topk": "topk",
    "batchtopk": "batch_topk",
    "matryoshka": "matryoshka",
    "jumprelu": "jumprelu",
}
OURS |= {"standard": "relu_l1"}
# Their options, and ours that say the same. SAELens' quadratic loss is 2 k times ours, of each sample's L0.
QUADRATIC = {
    "jumprelu_sparsity_loss_mode": "quadratic",
    "target_l0": 8.0,
    "l0_coefficient": 1 / 16,
}
SAME = {
    ("saelens", "jumprelu"): (QUADRATIC, {"sparsity": 1.0}),
    ("saelens", "jumprelu_batch"): (QUADRATIC, {"sparsity": 1.0}),
    ("saelens", "standard"): ({"l1_coefficient": 0.3}, {"weight": 0.3}),
    ("dictionary_learning", "jumprelu"): ({}, {"theta": 0.001, "bandwidth": 0.001}),
    ("dictionary_learning", "standard"): ({}, {"weight": 0.1}),
}
PAIRS = list(itertools.product(("saelens", "dictionary_learning"), OURS))
PAIRS += [
    ("saelens", "jumprelu_batch"),
    *(("sparsify", kind) for kind in ("topk", "multitopk", "multitopk_whole")),
]
# Where theirs is another recipe, ours must be as good: SAELens' JumpReLU loss is about each sample's L0, and
# `jumprelu_batch` has the same of the batch's, as ours. dictionary_learning's thresholds end below the budget that it
# trains with; it warms the weight of sparsity up, and its JumpReLU has Adam without momentum. eai-sparsify's encoder
# gets no gradient of the error at 4 k (`multitopk_whole`: with it).
OTHERS = [("saelens", "jumprelu"), ("sparsify", "multitopk")]
OTHERS += [("dictionary_learning", kind) for kind in OURS if kind != "topk"]
OURS |= {
    "jumprelu_batch": "jumprelu",
    "multitopk": "multi_topk",
    "multitopk_whole": "multi_topk",
}
NEAR = 0.05  # of their FVU, beside three standard errors


@pytest.fixture(scope="module")
def digits():
    """(1797, 64): real images, 8 x 8 pixels, of unit norm and total variance 1."""
    x = inputs.unit_rows(load_digits().data).astype(np.float32)
    return x * np.float32(inputs.total_variance(x) ** -0.5)


def fvu(x, rebuilt):
    return float(((x - rebuilt) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def at_four_k(coder, digits):
    """FVU with four times the k of training, by our code."""
    x = torch.from_numpy(digits)
    return fvu(
        digits,
        coder.reconstruct(x, coder.encode(x, TopK(4 * SIDE["k"]))).detach().numpy(),
    )


def of_theirs(library, kind, options, digits, folder, monkeypatch):
    """Rows (FVU, L0, FVU at 4 k) on the training images, by seed; the last of eai-sparsify alone."""
    np.save(folder / "x.npy", digits)
    found = []
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
        out = folder / f"{seed}.npz"
        codes, rebuilt = theirs(
            library, "train", kind, folder / "x.npy", folder / f"sae{seed}", out
        )
        found.append([fvu(digits, rebuilt), (codes > 0).sum() / len(codes), np.nan])
        if library == "sparsify":
            coder = convert.load(
                str(folder / f"sae{seed}"), "auto", convert.Options(), digits
            )
            found[-1][2] = at_four_k(coder, digits)
    return np.array(found)


def of_ours(objective, k, options, digits):
    entry = registry.load("objective", objective)
    options = registry.head("objective", objective).options(**options).model_dump()
    found = []
    for seed in SEEDS:
        settings = Settings(
            **{
                "m": SIDE["m"],
                "k": k,
                "steps": SIDE["steps"],
                "batch_size": SIDE["batch"],
                "lr": SIDE["lr"],
            },
            **{
                "epochs": 1,
                "adam_eps": 1e-8,
                "decay_fraction": 0.2,
                "auxk_alpha": 1 / 32,
                "auxk_k": 32,
            },
            **{
                "dead_after": 10_000,
                "input_norm": "none",
                "unit_variance": True,
                "tied": False,
                "log_every": 500,
            },
            **{"objective": objective, "options": options, "seed": seed},
        )
        x = torch.from_numpy(digits)
        coder, _ = train(x, settings, entry)
        codes = coder.encode(x)
        found.append(
            (
                fvu(digits, coder.reconstruct(x, codes).detach().numpy()),
                codes.l0(),
                at_four_k(coder, digits),
            )
        )
    return np.array(found)


@pytest.mark.parametrize(("library", "kind"), PAIRS)
def test_ours_reaches_their_fvu_at_their_l0(
    library, kind, digits, tmp_path, monkeypatch
):
    their_options, our_options = SAME.get((library, kind), ({}, {}))
    there = of_theirs(library, kind, their_options, digits, tmp_path, monkeypatch)
    # Their thresholds and weights come near a budget; ours has whole ones, so it is read between the two nearest.
    l0 = there[:, 1].mean()
    below = max(1, int(l0))
    ours = [of_ours(OURS[kind], k, our_options, digits) for k in (below, below + 1)]
    share = min(1.0, max(0.0, l0 - below))
    here = (1 - share) * ours[0] + share * ours[1]
    assert here[:, 1].mean() <= 1.01 * l0
    for at, place in (
        {f"L0 {l0:.1f}": 0} | ({"4 k": 2} if library == "sparsify" else {})
    ).items():
        theirs_mean, mean = there[:, place].mean(), here[:, place].mean()
        error = (
            (there[:, place].var(ddof=1) + here[:, place].var(ddof=1)) / len(SEEDS)
        ) ** 0.5
        print(
            f"{library} {kind}: {at}, FVU theirs {theirs_mean:.4f}, ours {mean:.4f}, error {error:.4f}"
        )
        if (library, kind) in OTHERS:
            assert mean <= theirs_mean + 3 * error
        else:
            assert mean == pytest.approx(theirs_mean, rel=NEAR, abs=3 * error)
