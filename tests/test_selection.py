"""The choice of lambda, and what the tables make of it."""

import pandas as pd
import pytest
from conftest import ROOT

from sae.report import published
from sae.report.tables import as_text, beside_published, effects, measured
from sae.scoring.selection import chosen, select

PUBLISHED = published.read(ROOT / "workflow/resources/paper")


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
    row = effects(1, measured(1, select(frame.reset_index(drop=True))), PUBLISHED).set_index("difference")
    assert row.loc["R2", "Reg. 1"] == "+0.020 (+0.010 to +0.030), 2/2"
    assert row.loc["R2", "Reg. 1, published"] == "+0.001 (up 11, down 0 of 18)"
    assert row.loc["dead", "Reg. 1"] == "+0 (+0 to +0), 0/2"
    assert row.loc["MS_across", "Reg. 1"] == "-"


def test_the_papers_own_cells_stand_beside_its_numbers():
    frame = metrics(0.874, {0.001: 0.9, 0.003: 0.5}).assign(dataset="imagenet", backbone="clip_vit_l14", k=32)
    table = beside_published(1, measured(1, select(frame)), PUBLISHED).set_index("method")
    # Table 1: CLIP, ImageNet, k = 32: R2 0.774 both; our test R2 is 0.1 below validation.
    assert table["R2_published"].to_dict() == {"Baseline": 0.774, "Reg. 1": 0.774}
    assert table["R2_difference"].to_dict() == pytest.approx({"Baseline": 0.0, "Reg. 1": 0.026})
    assert table["dead_published"].to_dict() == {"Baseline": 29, "Reg. 1": 26}
    assert as_text(1, table.reset_index())["R2"].tolist() == ["0.774 (0.774, +0.000)", "0.800 (0.774, +0.026)"]
    elsewhere = beside_published(1, measured(1, select(metrics(0.7, {0.001: 0.71}))), PUBLISHED)
    assert not [c for c in elsewhere.columns if c.endswith("_published")]


def test_the_ablation_stands_beside_what_it_ablates():
    frame = metrics(0.7, {0.001: 0.71, 0.003: 0.5})
    ablated = frame[frame["lambda"] == 0.001].assign(mask="all", dead=7, ms_mean_alive=0.2)
    table = measured(4, select(pd.concat([frame, ablated], ignore_index=True)))
    assert table["method"].tolist() == ["Reg. 1"]
    row = table.iloc[0]
    assert (row["dead"], row["dead_no_mask"], row["dead_added"]) == (1, 7, 6)
    assert row["MS_mean_alive_added"] == pytest.approx(0.2 - 0.71)


def test_a_badly_trained_baseline_is_marked():
    frame = select(metrics(0.7, {0.001: 0.71, 0.003: 0.5})).assign(dead_train=1)  # 1 of 20 is 5 %.
    assert measured(1, frame).set_index("method")["mark"].to_dict() == {"Baseline": "!", "Reg. 1": ""}
