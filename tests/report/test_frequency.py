"""bench/fair.py frequency beside means worked out by hand."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

CELL = ("d", "b", 4)


@pytest.fixture
def fair(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.setitem(sys.modules, "fair", None)
    del sys.modules["fair"]
    import fair

    return fair


def test_a_gain_is_weighted_by_how_often_the_baseline_fires(fair):
    # The baseline has three rare latents and a frequent one; the method's second vertex
    # has rare ones alone.
    bands = {
        (*CELL, "topk", "t", 3): {0.01: 0.7, 1.0: 0.5},
        (*CELL, "mine", "t", 3): {0.01: 0.85, 1.0: 0.45},
        (*CELL, "mine", "u", 3): {0.01: 0.45},
    }
    curves = {key: pd.Series(curve) for key, curve in bands.items()}
    counts = {(*CELL, "topk", "t", 3): np.array([3, 0, 0, 1])}
    row = SimpleNamespace(
        dataset="d",
        backbone="b",
        k=4,
        seed=3,
        effect=0.02,
        method="mine",
        baseline="topk",
        vertices="t: 0.750; u: 0.250",
        baseline_vertices="t: 1.000",
    )
    gain = fair.gain_by_band(row, curves, counts)
    assert gain["gain up to 1%"] == pytest.approx(0.75 * 0.85 + 0.25 * 0.45 - 0.7)
    # Of the first vertex, which alone has such latents.
    assert gain["gain up to 100%"] == pytest.approx(-0.05)
    assert np.isnan(gain["gain up to 10%"])
    assert gain["reweighted"] == pytest.approx((3 * 0.05 - 0.05) / 4)
    # Without counts of latents nothing is reweighted.
    assert np.isnan(fair.gain_by_band(row, curves, {})["reweighted"])
