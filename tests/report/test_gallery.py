"""What the galleries show is at fixed ranks, and in the order of activation."""

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from sae.bank.read import Bank
from sae.bank.sae import Sae
from sae.models.coder import Coder, Threshold, TopK
from sae.report import gallery
from sae.report.names import Names
from sae.training.recipe import Settings


def table(n_active, ms):
    return pd.DataFrame({"n_active": n_active, "ms": ms})


def test_ranks_are_over_latents_that_fire_often():
    rng = np.random.default_rng(0)
    often = {
        "topk": table(rng.integers(0, 90, 200), rng.random(200)),
        "reg1": table(rng.integers(0, 90, 200), rng.random(200)),
    }
    matched = list(gallery._matched_latents(often))
    assert [(figure, rank) for figure, rank, _ in matched] == [
        (f, r) for f in ("fig2", "fig3") for r in gallery.RANKS
    ]
    for _, rank, pair in matched[: len(gallery.RANKS)]:
        for method, latent in pair.items():
            shown = often[method][often[method]["n_active"] >= 30].sort_values(
                "ms", ascending=False
            )
            assert shown.index[int(rank * (len(shown) - 1))] == latent
    of_topk, of_reg1 = (set(t.index[t["n_active"] >= 30]) for t in often.values())
    often_in_both = of_topk & of_reg1
    pairs = [pair for figure, _, pair in matched if figure == "fig3"]
    for pair in pairs:
        assert pair["topk"] == pair["reg1"] and pair["topk"] in often_in_both
    best = max(often_in_both, key=lambda latent: often["topk"]["ms"][latent])
    assert pairs[0]["topk"] == best


def test_where_few_fire_often_the_tenth_decides_and_nothing_is_nothing():
    rare = table([9, 8, 7, 6, 5, 5, 4, 4, 4, 4, 3, 1], np.linspace(1, 0, 12))
    (first, *_, last) = (
        pair
        for figure, _, pair in gallery._matched_latents({"topk": rare})
        if figure == "fig2"
    )
    # Half way through the ten that fire 4 times or more.
    assert first["topk"] == 0 and last["topk"] == 4
    hardly_fires = table([2, 1, 0], [0.5, 0.4, np.nan])
    assert list(gallery._matched_latents({"topk": hardly_fires})) == []


def test_top_middle_and_bottom_are_in_order_of_activation():
    values = np.array([5.0, 0, 1, 4, 2, 0, 3, 6, 7])
    codes = scipy.sparse.csc_matrix(values[:, None])
    shown = list(gallery._activating_images(codes, 0))
    by_part = {
        part: [values[row] for p, _, row, _ in shown if p == part]
        for part in ("top", "middle", "bottom")
    }
    assert by_part == {"top": [7, 6], "middle": [5, 4], "bottom": [2, 1]}
    assert all(values[row] == activation for _, _, row, activation in shown)


def test_what_was_chosen_comes_baseline_first_and_reg_1_stands_beside_it():
    names = Names(
        methods={
            "other": {"against": "topk"},
            "reg1": {"against": "topk"},
            "topk": {},
            "lost": {},
        }
    )
    trials = [
        ("other", {"lr": 0.001}, True),
        ("reg1", {"lambda": 0.1}, False),
        ("reg1", {"lambda": 0.2}, True),
        ("topk", {}, True),
        ("lost", {}, False),
    ]
    settings = Settings.model_construct()
    saes = [
        Sae("d", "b", 4, m, trial, seed, "paper", settings, status="ok", chosen=chosen)
        for m, trial, chosen in trials
        for seed in (3, 4)
    ]
    bank = Bank("bank.json", "d", "b", 4, 1.0, "", saes, {})
    chosen = gallery._chosen(bank, names)
    assert gallery._left_out(bank, chosen, names) == "lost"
    assert list(chosen) == ["topk", "other", "reg1"]
    assert {entry.seed for entry in chosen.values()} == {3}
    assert chosen["reg1"].trial == {"lambda": 0.2}
    assert gallery._compared_methods(list(chosen)) == ["topk", "reg1"]
    assert gallery._compared_methods(["topk", "other"]) == ["topk", "other"]
    assert gallery._compared_methods(["topk"]) == ["topk"]


def test_a_sample_shows_what_the_selection_keeps():
    # The latents are the dimensions: what is active is what is positive.
    for select, is_kept in (
        (TopK(2), [True, True, False]),
        (Threshold(torch.tensor([4.0, 0, 0, 0])), [False, True, True]),
    ):
        coder = Coder(4, 4, 2, select)
        coder.fill({"W_enc": torch.eye(4), "W_dec": torch.eye(4)})
        shown = gallery._sample(
            "m", coder, np.array([[3.0, 2.0, -1.0, 1.0]], dtype=np.float32)
        )
        assert shown["activation"].tolist() == [3, 2, 1]
        assert shown["rank"].tolist() == [1, 2, 3]
        assert shown["kept"].tolist() == is_kept
