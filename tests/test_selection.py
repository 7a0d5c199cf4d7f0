"""The choice of lambda, and what the tables make of it."""

import pandas as pd

from sae.selection import chosen, select
from sae.tables import effects, measured


def metrics(baseline, grid, status=None):
    """One cell with one seed: validation R^2 of the baseline and of each lambda; test numbers are 0.1 lower."""
    rows = []
    for split, shift in (("val", 0.0), ("test", -0.1)):
        for regularizer, lam, r2 in [
            ("none", 0.0, baseline),
            *(("off_support_l1", lam, r2) for lam, r2 in grid.items()),
        ]:
            row = {"dataset": "d", "backbone": "b", "k": 4, "regularizer": regularizer, "lambda": lam, "seed": 0}
            row |= {"mask": "batch_active", "split": split, "r2": r2 + shift, "status": (status or {}).get(lam, "ok")}
            rows.append(row | dict.fromkeys(("ms_mean", "ms_median", "ms_mean_alive", "ms_median_alive"), r2))
    extra = {"m": 20, "dead": 1, "dead_train": 0, "ms_floor": 0.3, "n_k_over_m": 20.0}
    return pd.DataFrame(rows).assign(**extra)


def choice(frame):
    """{lambda: selection} of the regularizer's rows, the same on both splits."""
    out = select(frame)
    out = out[out["regularizer"] != "none"]
    by_split = [dict(zip(rows["lambda"], rows["selection"], strict=True)) for _, rows in out.groupby("split")]
    assert by_split[0] == by_split[1]
    assert (out["selected"] == out["selection"].isin(["chosen", "edge"])).all()
    return by_split[0]


def test_largest_acceptable_lambda_also_when_a_smaller_one_is_not():
    got = choice(metrics(0.7, {0.001: 0.71, 0.003: 0.69, 0.01: 0.705, 0.03: 0.6}))
    assert got == {0.001: "not_selected", 0.003: "not_selected", 0.01: "chosen", 0.03: "not_selected"}


def test_a_tie_is_acceptable_and_the_largest_of_the_grid_is_an_edge():
    assert choice(metrics(0.7, {0.001: 0.71, 0.003: 0.7})) == {0.001: "not_selected", 0.003: "edge"}


def test_diverged_is_never_chosen():
    got = choice(metrics(0.7, {0.001: 0.71, 0.003: 0.9}, {0.003: "diverged"}))
    assert got == {0.001: "chosen", 0.003: "not_selected"}


def test_fallback_uses_the_baseline_and_says_so():
    frame = select(metrics(0.7, {0.001: 0.69, 0.003: 0.5}))
    assert set(frame[frame["regularizer"] != "none"]["selection"]) == {"fallback"}
    assert not frame[frame["regularizer"] != "none"]["selected"].any()
    rows = chosen(frame, "test").set_index("regularizer")
    assert rows.loc["off_support_l1", "r2"] == rows.loc["none", "r2"]
    assert rows["fallback"].to_dict() == {"none": False, "off_support_l1": True}
    table = measured(1, frame).set_index("method")
    assert table["mark"].to_dict() == {"Baseline": "", "Reg. 1": "="}
    assert table.loc["Reg. 1", "R2"] == table.loc["Baseline", "R2"]


def test_effects_are_differences_over_cells():
    frame = pd.concat([metrics(0.7, {0.001: 0.71, 0.003: 0.5}), metrics(0.6, {0.001: 0.63, 0.003: 0.5}).assign(k=8)])
    row = effects(1, measured(1, select(frame.reset_index(drop=True)))).set_index("method").loc["Reg. 1"]
    assert row["R2"] == "+0.020 (+0.010 to +0.030), 2/2"
    assert row["dead"] == "+0 (+0 to +0), 0/2"
    assert row["MS_across"] == "-"


def test_a_badly_trained_baseline_is_marked():
    frame = select(metrics(0.7, {0.001: 0.71, 0.003: 0.5})).assign(dead_train=1)  # 1 of 20 is 5 %.
    assert measured(1, frame).set_index("method")["mark"].to_dict() == {"Baseline": "!", "Reg. 1": ""}
