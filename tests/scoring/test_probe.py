"""Probes under truncation, against closed forms and dense fits."""

import numpy as np
import pytest
from scoring.examples import codes_of
from sklearn.linear_model import LogisticRegression

from sae.scoring.metrics import probe


def test_budgets_are_powers_of_2_and_the_largest():
    assert probe.budgets(1) == [1] and probe.budgets(8) == [1, 2, 4, 8] and probe.budgets(6) == [1, 2, 4, 6]


def test_area_in_closed_form():
    ks = [1, 2, 4, 8]
    # A constant c: c (K-1) over K, or over K-1. A line through the points: trapezoids are exact on it.
    assert probe.area(ks, [0.6] * 4) == pytest.approx((0.6 * 7 / 8, 0.6))
    assert probe.area(ks, [k / 10 for k in ks]) == pytest.approx(((64 - 1) / 20 / 8, (64 - 1) / 20 / 7))
    assert np.isnan(probe.area([1], [0.5])).all()


def test_truncation_keeps_the_largest_and_divides_by_one_scalar():
    codes = codes_of(np.array([[3.0, 0, 4, 1], [0, 0, 0, 2]]))
    scale = probe.rms(codes)
    assert scale == pytest.approx(np.sqrt((9 + 16 + 1 + 4) / 4))
    kept = probe.truncate(codes, 2, scale).toarray() * scale
    np.testing.assert_allclose(kept, [[3, 0, 4, 0], [0, 0, 0, 2]], rtol=1e-6)


@pytest.mark.parametrize(("spread", "best"), [(0.5, 0), (1.5, 1), (8.0, 2)])
def test_the_probe_is_the_dense_one_at_the_C_that_validation_prefers(spread, best):
    rng = np.random.default_rng(2)
    y = {split: rng.integers(0, 3, n) for split, n in (("train", 90), ("val", 60), ("test", 60))}
    noise = {split: rng.normal(size=(len(labels), 12)) for split, labels in y.items()}
    dense = {s: np.maximum(noise[s] + spread * (np.arange(12) % 3 == y[s][:, None]), 0) for s in y}
    grid = [0.003, 0.1, 30.0]
    options = probe.Options(C=grid, max_iter=1000)
    found = probe.by_budget({s: codes_of(d) for s, d in dense.items()}, y, 4, options)[4]
    scale = np.sqrt((dense["train"][dense["train"] > 0] ** 2).mean())
    # Dense, and truncated in another way.
    x = {s: np.where(d >= np.sort(d, axis=1)[:, [-4]], d, 0) / scale for s, d in dense.items()}
    models = [LogisticRegression(C=C, max_iter=1000).fit(x["train"], y["train"]) for C in grid]
    val, test = ([model.score(x[split], y[split]) for model in models] for split in ("val", "test"))
    assert grid[int(np.argmax(val))] == found.C and found.converged
    assert found.top1 == pytest.approx(test[int(np.argmax(val))], abs=1 / 60)
    assert found.at_edge == (grid[1] != found.C)


def test_C_is_chosen_on_validation_not_on_test_and_a_cut_fit_is_told():
    rng = np.random.default_rng(0)
    x = {s: rng.normal(size=(60, 6)) for s in ("train", "val", "test")}
    y = {"train": (x["train"][:, 0] + rng.normal(size=60) > 0.5).astype(int)}
    grid = [1e-3, 10.0]
    weak, strong = (LogisticRegression(C=C, max_iter=1000).fit(x["train"], y["train"]) for C in grid)
    # Validation agrees with one fit to the last label, test with the other.
    for C, on_val, on_test in ((1e-3, weak, strong), (10.0, strong, weak)):
        labels = y | {"val": on_val.predict(x["val"]), "test": on_test.predict(x["test"])}
        found = probe.fit(x, labels, probe.Options(C=grid, max_iter=1000))
        assert found.C == C and found.at_edge and found.converged and found.top1 < 1
    assert not probe.fit(x, labels, probe.Options(C=[10.0], max_iter=2)).converged
