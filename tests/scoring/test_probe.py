"""Probes under truncation agree with dense fits and scikit-learn's optimum."""

import numpy as np
import pytest
import scipy.sparse
import torch
from scoring.examples import codes_of
from sklearn.linear_model import LogisticRegression
from support.embeddings import write_store

from sae.core import files
from sae.data import store, synthetic
from sae.scoring import softmax_solver
from sae.scoring.metrics import probe


def test_budgets_are_powers_of_2_and_the_largest():
    assert (
        probe.budgets(1) == [1]
        and probe.budgets(8) == [1, 2, 4, 8]
        and probe.budgets(6) == [1, 2, 4, 6]
    )


def test_the_area_is_that_in_closed_form():
    ks = [1, 2, 4, 8]
    # A constant c: c (K-1) over K, or over K-1. A line through the points: trapezoids
    # are exact on it.
    assert probe.area(ks, [0.6] * 4) == pytest.approx((0.6 * 7 / 8, 0.6))
    assert probe.area(ks, [k / 10 for k in ks]) == pytest.approx(
        ((64 - 1) / 20 / 8, (64 - 1) / 20 / 7)
    )
    assert np.isnan(probe.area([1], [0.5])).all()


def test_truncation_keeps_the_largest_and_divides_by_one_scalar():
    codes = codes_of(np.array([[3.0, 0, 4, 1], [0, 0, 0, 2]]))
    scale = probe.rms(codes)
    assert scale == pytest.approx(np.sqrt((9 + 16 + 1 + 4) / 4))
    truncated = probe.truncate(codes, 2, scale).toarray() * scale
    np.testing.assert_allclose(truncated, [[3, 0, 4, 0], [0, 0, 0, 2]], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 12])
def test_no_image_is_left_out_where_a_fit_works_on_some_at_once(rows, monkeypatch):
    monkeypatch.setitem(softmax_solver.PART, "cpu", 4 * 3)
    parts = softmax_solver._row_slices(
        softmax_solver.features(np.zeros((rows, 2)), "cpu"), 3
    )
    assert [row for part in parts for row in range(rows)[part]] == [*range(rows)]


@pytest.fixture(scope="module", params=["noisy", "separable"])
def problem(request):
    """Make codes x (N, m) whose classes y overlap, or do not."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 300)
    x = np.maximum(
        rng.normal(size=(300, 20)) - 0.8 + 0.7 * (np.arange(20) % 5 == y[:, None]), 0
    )
    x[:, :5] += {"noisy": 0.2, "separable": 4.0}[request.param] * (
        np.arange(5) == y[:, None]
    )
    return x.astype(np.float32).astype(np.float64), y


def objective(weights, x, y, C):
    """Return f and its gradient (m + 1, q), by the formula, in float64."""
    scores = x @ weights[:-1] + weights[-1]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rest = p - np.eye(weights.shape[1])[y]
    gradient = C * np.vstack([x.T @ rest, rest.sum(axis=0)])
    gradient[:-1] += weights[:-1]
    return -C * np.log(p[np.arange(len(y)), y]).sum() + (
        weights[:-1] ** 2
    ).sum() / 2, gradient


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
def test_a_fit_is_as_near_the_optimum_as_it_says(problem, kind, C):
    x, y = problem
    best = LogisticRegression(C=C, tol=1e-10, max_iter=100_000).fit(x, y)
    optimum = np.vstack([best.coef_.T, best.intercept_])
    f_best = objective(optimum, x, y, C)[0]
    for tol in (0.01, 0.001):
        fitted = softmax_solver.fit(
            softmax_solver.features(kind(x), "cpu"), y, 5, C, tol, 5000
        )
        weights = fitted.weights.numpy().astype(np.float64)
        f, gradient = objective(weights, x, y, C)
        size, slack = np.linalg.norm(weights[:-1]), 1e-5  # Of float32.
        assert fitted.converged and np.linalg.norm(gradient) <= (tol + slack) * size
        assert np.linalg.norm(weights[:-1] - optimum[:-1]) <= (tol + slack) * size
        of_intercepts = gradient[-1] @ (weights[-1] - optimum[-1])
        assert (
            -1e-6 * f
            <= f - f_best
            <= (gradient[:-1] ** 2).sum() / 2 + of_intercepts + 1e-6 * f
        )
    assert (
        fitted.predict(softmax_solver.features(kind(x), "cpu")) == best.predict(x)
    ).mean() >= 1 - 1 / len(y)


def test_where_a_fit_starts_does_not_decide_where_it_ends(problem):
    x, y = problem
    on_device = softmax_solver.features(scipy.sparse.csr_matrix(x), "cpu")
    cold = softmax_solver.fit(on_device, y, 5, 100.0, 0.001, 5000)
    # Not farther: in float32 a fit that starts at saturated probabilities may stall
    # short of 0.001.
    away = torch.randn(cold.weights.shape, generator=torch.Generator().manual_seed(0))
    far = softmax_solver.SoftmaxFit(away, True, 0)
    for start in (softmax_solver.fit(on_device, y, 5, 1.0, 0.001, 5000), far):
        warm = softmax_solver.fit(on_device, y, 5, 100.0, 0.001, 5000, start)
        # Both within 0.001 of the optimum; and the larger C was tried, though its start
        # was an optimum too.
        assert warm.converged and warm.passes > 1
        assert (warm.weights - cold.weights)[:-1].norm() <= 0.002 * cold.weights[
            :-1
        ].norm()


def test_principal_axes_change_no_probability():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(6, 6))
    x = {
        s: (rng.normal(size=(n, 6)) @ mixed + 3).astype(np.float32)
        for s, n in (("train", 90), ("test", 40))
    }
    y = (x["train"][:, 0] > 3).astype(int) + (x["train"][:, 1] > 3)
    turned = softmax_solver.principal(x, "train")
    gram = turned["train"].T @ turned["train"]
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-4 * gram.max()
    assert np.abs(turned["train"].mean(axis=0)).max() < 1e-4
    plain, other = (
        LogisticRegression(solver="newton-cg", tol=1e-7).fit(v["train"], y)
        for v in (x, turned)
    )
    np.testing.assert_allclose(
        plain.predict_proba(x["test"]), other.predict_proba(turned["test"]), atol=1e-4
    )


def test_embeddings_are_probed_up_to_scale_and_shift(tmp_path):
    world = synthetic.world(12, 20, classes=4)
    counts = {"train": 120, "val": 40, "test": 50}
    write_store(world, counts, tmp_path / "store")
    settings = probe.Options(C=[0.1, 10.0], max_train=100)
    probe.probe_embeddings(tmp_path / "store", settings, tmp_path / "out.json")
    data = {split: store.read(tmp_path / "store" / split) for split in counts}
    data["train"] = data["train"].sample(100)
    x = {split: d.embeddings.astype(np.float64) for split, d in data.items()}
    y = {split: d.index["label"].to_numpy() for split, d in data.items()}
    scale = np.sqrt((x["train"] ** 2).mean())
    models = [
        LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(
            x["train"] / scale, y["train"]
        )
        for C in (0.1, 10)
    ]
    best = max(models, key=lambda model: model.score(x["val"] / scale, y["val"]))
    top1 = files.read_json(tmp_path / "out.json", "probe")["top1"]
    assert top1 == pytest.approx(
        best.score(x["test"] / scale, y["test"]), abs=1 / 50 + 1e-9
    )


@pytest.mark.parametrize(("spread", "best"), [(0.5, 0), (1.5, 1), (8.0, 2)])
def test_the_probe_is_the_dense_one_at_the_C_that_validation_prefers(spread, best):
    rng = np.random.default_rng(2)
    y = {
        split: rng.integers(0, 3, n)
        for split, n in (("train", 90), ("val", 60), ("test", 60))
    }
    noise = {split: rng.normal(size=(len(labels), 12)) for split, labels in y.items()}
    dense = {
        s: np.maximum(noise[s] + spread * (np.arange(12) % 3 == y[s][:, None]), 0)
        for s in y
    }
    grid = [0.003, 0.1, 30.0]
    options = probe.Options(C=grid)
    fitted = probe.by_budget({s: codes_of(d) for s, d in dense.items()}, y, 4, options)[
        4
    ]
    scale = np.sqrt((dense["train"][dense["train"] > 0] ** 2).mean())
    # Dense, and truncated in another way.
    x = {
        s: np.where(d >= np.sort(d, axis=1)[:, [-4]], d, 0) / scale
        for s, d in dense.items()
    }
    models = [
        LogisticRegression(C=C, max_iter=1000).fit(x["train"], y["train"]) for C in grid
    ]
    val, test = (
        [model.score(x[split], y[split]) for model in models]
        for split in ("val", "test")
    )
    assert grid[int(np.argmax(val))] == fitted.C and fitted.converged
    assert fitted.top1 == pytest.approx(test[int(np.argmax(val))], abs=1 / 60)
    assert fitted.at_edge == (grid[1] != fitted.C)


def test_C_is_chosen_on_validation_not_on_test_and_a_cut_fit_is_told():
    rng = np.random.default_rng(0)
    x = {s: rng.normal(size=(60, 6)) for s in ("train", "val", "test")}
    y = {"train": (x["train"][:, 0] + rng.normal(size=60) > 0.5).astype(int)}
    grid = [1e-3, 10.0]
    weak, strong = (
        LogisticRegression(C=C, max_iter=1000).fit(x["train"], y["train"]) for C in grid
    )
    # Validation agrees with one fit to the last label, test with the other.
    for C, on_val, on_test in ((1e-3, weak, strong), (10.0, strong, weak)):
        labels = y | {
            "val": on_val.predict(x["val"]),
            "test": on_test.predict(x["test"]),
        }
        fitted = probe.fit(x, labels, probe.Options(C=grid))
        assert fitted.C == C and fitted.at_edge and fitted.converged and fitted.top1 < 1
        if (
            grid[0] == C
        ):  # The second C is clearly worse on validation: a third is not tried.
            assert (
                probe.fit(x, labels, probe.Options(C=[*grid, 1e3])).passes
                == fitted.passes
            )
    assert not probe.fit(x, labels, probe.Options(C=[10.0], max_passes=2)).converged
