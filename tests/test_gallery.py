"""What the galleries show is at fixed ranks, and in the order of activation."""

import numpy as np
import pandas as pd
import scipy.sparse

from sae.report import gallery


def table(n_active, ms):
    return pd.DataFrame({"n_active": n_active, "ms": ms})


def test_ranks_are_over_latents_that_fire_often():
    rng = np.random.default_rng(0)
    often = {
        "none": table(rng.integers(0, 90, 200), rng.random(200)),
        "r": table(rng.integers(0, 90, 200), rng.random(200)),
    }
    for rank, pair in gallery._rank_matched(often):
        for method, latent in pair.items():
            shown = often[method][often[method]["n_active"] >= 30].sort_values("ms", ascending=False)
            assert shown.index[int(rank * (len(shown) - 1))] == latent
    both = [set(t.index[t["n_active"] >= 30]) for t in often.values()]
    pairs = list(gallery._unit_matched(often))
    assert [rank for rank, _ in pairs] == list(gallery.RANKS)
    for _, pair in pairs:
        assert pair["none"] == pair["r"] and pair["none"] in both[0] & both[1]
    best = max(both[0] & both[1], key=lambda latent: often["none"]["ms"][latent])
    assert pairs[0][1]["none"] == best


def test_where_few_fire_often_the_tenth_decides_and_nothing_is_nothing():
    rare = table([9, 8, 7, 6, 5, 5, 4, 4, 4, 4, 3, 1], np.linspace(1, 0, 12))
    (first, *_, last) = gallery._rank_matched({"none": rare})
    assert first[1]["none"] == 0 and last[1]["none"] == 4  # half way through the ten that fire 4 times or more
    assert list(gallery._rank_matched({"none": table([2, 1, 0], [0.5, 0.4, np.nan])})) == []


def test_top_middle_and_bottom_are_in_order_of_activation():
    values = np.array([5.0, 0, 1, 4, 2, 0, 3, 6, 7])
    codes = scipy.sparse.csc_matrix(values[:, None])
    shown = list(gallery._activating(codes, 0))
    by_part = {part: [values[row] for p, _, row, _ in shown if p == part] for part in ("top", "middle", "bottom")}
    assert by_part == {"top": [7, 6], "middle": [5, 4], "bottom": [2, 1]}
    assert all(values[row] == activation for _, _, row, activation in shown)
