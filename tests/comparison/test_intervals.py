"""Intervals, Holm's correction and outcomes, against scipy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae.comparison import intervals


def test_student_and_holm():
    values = np.random.default_rng(0).normal(0.3, 1, 7)
    mean, half, p = intervals.student(values)
    expected = stats.ttest_1samp(values, 0)
    assert p == pytest.approx(expected.pvalue) and mean == pytest.approx(values.mean())
    assert (mean - half, mean + half) == pytest.approx(
        tuple(expected.confidence_interval(0.95))
    )
    assert np.isnan(intervals.student(values[:1])[1:]).all()
    got = intervals.holm(pd.Series([0.04, 0.01, np.nan, 0.03]))
    assert (
        got.tolist()[:2] == pytest.approx([0.06, 0.03])
        and got[3] == pytest.approx(0.06)
        and np.isnan(got[2])
    )


def effects(
    by_block, score="ms", method="reg", width=0.01, shortfall=0.0, seeds=(0,), noise=0.0
):
    found = []
    for number, effect in enumerate(by_block):
        for k, seed in [(k, seed) for k in (8, 32) for seed in seeds]:
            row = {
                "dataset": f"d{number % 2}",
                "backbone": f"b{number // 2}",
                "k": k,
                "method": method,
                "score": score,
            }
            row |= {
                "width": width,
                "status": "ok",
                "effect": effect + noise * (seed - np.mean(seeds)),
                "seed": seed,
            }
            found.append(
                row
                | {
                    "shortfall": shortfall,
                    "gain": 0.0,
                    "level": 0.5,
                    "r2_difference": 0.0,
                    "fresh": len(seeds) > 1,
                }
            )
    return found


@pytest.mark.parametrize(
    ("by_block", "outcome"),
    [
        ([0.03, 0.035, 0.032, 0.029], "shown higher"),
        ([-0.03, -0.035, -0.032, -0.029], "shown lower"),
        ([0.004, 0.005, 0.0045, 0.0042], "shown higher, small"),
        ([0.001, -0.001, 0.002, -0.001], "equivalent"),
        ([0.03, -0.03, 0.02, -0.01], "undecided"),
        ([0.03, 0.03], "not tested"),
    ],
)
def test_outcomes(by_block, outcome):
    row = intervals.means(pd.DataFrame(effects(by_block))).iloc[0]
    assert row["outcome"] == outcome and row["cells"] == 2 * len(by_block)
    assert row["effect"] == pytest.approx(np.mean(by_block)) and row["up"] == 2 * sum(
        e > 0 for e in by_block
    )
    assert np.isnan(row["low_seeds"])


def test_holm_goes_over_methods_and_endpoints_of_a_width():
    ps = []
    parts = []
    for method, shift in (("one", 0.0), ("two", 0.002)):
        for score in ("ms", "detection_alive", "purity"):
            by_block = [0.01 + shift, 0.03, 0.002, 0.018]
            parts += effects(by_block, score, method) + effects(
                by_block, score, method, width=0.02
            )
            ps.append(stats.ttest_1samp(by_block, 0).pvalue)
    table = intervals.means(pd.DataFrame(parts))
    own = table[(table["width"] == 0.01) & (table["score"] != "purity")]
    assert (
        own["p_holm"].min() == pytest.approx(4 * min(ps))
        and table.loc[table["score"] == "purity", "outcome"].isna().all()
    )


def test_fresh_seeds_have_an_interval_of_their_own_and_lower_r2_is_said():
    table = pd.DataFrame(
        effects(
            [0.03, 0.035, 0.032, 0.029], seeds=(3, 4, 5), noise=0.001, shortfall=0.02
        )
    )
    row = intervals.means(table).iloc[0]
    half = stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
    assert (
        row["high_seeds"] - row["low_seeds"] == pytest.approx(2 * half)
        and row["at_lower_r2"]
    )


def test_an_infeasible_cell_is_counted_and_not_averaged():
    rows = effects([0.03, 0.035, 0.032])
    lost = {
        name: np.nan
        for name in ("effect", "level", "shortfall", "gain", "r2_difference", "seed")
    }
    rows.append(
        rows[0] | {"dataset": "other", "status": "infeasible", "fresh": np.nan} | lost
    )
    row = intervals.means(pd.DataFrame(rows)).iloc[0]
    assert (row["cells"], row["infeasible"]) == (6, 1) and row[
        "effect"
    ] == pytest.approx(0.097 / 3)


@pytest.mark.slow
def test_size_and_power_by_simulation():
    # Blocks vary by .01, cells in them by .004; 6 blocks of 2 cells, as in `fair`; 2 methods, 2 endpoints.
    rng = np.random.default_rng(0)
    shown = {0.0: 0, 0.02: 0}
    for true in shown:
        for _ in range(1000):
            parts = []
            for method, score in (
                ("one", "ms"),
                ("one", "detection_alive"),
                ("two", "ms"),
                ("two", "detection_alive"),
            ):
                of_block = (
                    true
                    + 0.01 * rng.normal(size=6)
                    + 0.004 / 2**0.5 * rng.normal(size=6)
                )
                parts += effects(of_block, score, method)
            shown[true] += (
                intervals.means(pd.DataFrame(parts))["outcome"]
                .str.startswith("shown")
                .any()
            )
    assert shown[0.0] / 1000 < 0.065 and shown[0.02] / 1000 > 0.95
