"""What the galleries show is at fixed ranks, and in the order of activation."""

import numpy as np
import pandas as pd
import scipy.sparse
import torch

from sae.bank.read import Bank, BankedSae
from sae.models.coder import Coder, Threshold, TopK
from sae.report import gallery
from sae.report.names import Names


def table(n_active, ms):
    return pd.DataFrame({"n_active": n_active, "ms": ms})


def test_ranks_are_over_latents_that_fire_often():
    rng = np.random.default_rng(0)
    often = {
        "topk": table(rng.integers(0, 90, 200), rng.random(200)),
        "reg1": table(rng.integers(0, 90, 200), rng.random(200)),
    }
    found = list(gallery._matched_latents(often))
    assert [(figure, rank) for figure, rank, _ in found] == [
        (f, r) for f in ("fig2", "fig3") for r in gallery.RANKS
    ]
    for _, rank, pair in found[: len(gallery.RANKS)]:
        for method, latent in pair.items():
            shown = often[method][often[method]["n_active"] >= 30].sort_values(
                "ms", ascending=False
            )
            assert shown.index[int(rank * (len(shown) - 1))] == latent
    both = [set(t.index[t["n_active"] >= 30]) for t in often.values()]
    pairs = [pair for figure, _, pair in found if figure == "fig3"]
    for pair in pairs:
        assert pair["topk"] == pair["reg1"] and pair["topk"] in both[0] & both[1]
    best = max(both[0] & both[1], key=lambda latent: often["topk"]["ms"][latent])
    assert pairs[0]["topk"] == best


def test_where_few_fire_often_the_tenth_decides_and_nothing_is_nothing():
    rare = table([9, 8, 7, 6, 5, 5, 4, 4, 4, 4, 3, 1], np.linspace(1, 0, 12))
    (first, *_, last) = (
        pair
        for figure, _, pair in gallery._matched_latents({"topk": rare})
        if figure == "fig2"
    )
    assert (
        first["topk"] == 0 and last["topk"] == 4
    )  # half way through the ten that fire 4 times or more
    assert (
        list(gallery._matched_latents({"topk": table([2, 1, 0], [0.5, 0.4, np.nan])}))
        == []
    )


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
    ]
    trials += [("topk", {}, True), ("lost", {}, False)]
    common = {
        "protocol": "paper",
        "settings": {},
        "key": "",
        "trained": "",
        "sha256": "",
        "status": "ok",
        "step": 1,
    }
    saes = [
        BankedSae(method=m, trial=trial, seed=seed, judged=judged, path="", **common)
        for m, trial, judged in trials
        for seed in (3, 4)
    ]
    bank = Bank("bank.json", "d", "b", 4, 1.0, "", saes, {})
    chosen = gallery._chosen(bank, names)
    assert gallery._left_out(bank, chosen, names) == "lost"
    assert list(chosen) == ["topk", "other", "reg1"] and {
        entry.seed for entry in chosen.values()
    } == {3}
    assert chosen["reg1"].trial == {"lambda": 0.2}
    assert gallery._compared_methods(list(chosen)) == ["topk", "reg1"]
    assert gallery._compared_methods(["topk", "other"]) == [
        "topk",
        "other",
    ] and gallery._compared_methods(["topk"]) == ["topk"]


def test_a_gallery_names_whose_pictures_it_shows():
    by = {"name": "a", "version": "1", "homepage": "h"}
    sources = [
        by | {"citation": "One, Title", "licence": "MIT"},
        by | {"citation": "Two", "licence": "CC-BY-SA-4.0"},
    ]
    assert (
        gallery.credit(sources)
        == "One, Title. Licence: MIT. Two. Licence: CC-BY-SA-4.0."
    )
    assert gallery.credit([]) == ""


def test_a_sample_shows_what_the_selection_keeps():
    # The latents are the dimensions: what is active is what is positive.
    for select, kept in (
        (TopK(2), [True, True, False]),
        (Threshold(torch.tensor([4.0, 0, 0, 0])), [False, True, True]),
    ):
        coder = Coder(4, 4, 2, select)
        coder.fill({"W_enc": torch.eye(4), "W_dec": torch.eye(4)})
        shown = gallery._sample(
            "m", coder, np.array([[3.0, 2.0, -1.0, 1.0]], dtype=np.float32)
        )
        assert shown["activation"].tolist() == [3, 2, 1] and shown["rank"].tolist() == [
            1,
            2,
            3,
        ]
        assert shown["kept"].tolist() == kept
