"""Linear probes under truncation (arXiv:2606.27321, Table 3): what each sample's largest activations tell of its label.

Keep each sample's `budget` (k') largest activations, fit a multinomial logistic regression on the truncated training
codes, report top-1 on test. C is chosen on val, for every model and budget anew, from one fixed grid: with a fixed C
the sign of a difference between methods depends on that C.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sae.models.codes import Codes


@dataclass(frozen=True)
class Probe:
    """One fitted probe.

    Attributes:
        top1: share of test samples whose label is predicted.
        C: the chosen inverse strength of the l2 penalty.
        at_edge: whether C is the grid's first or last value, so that one outside might do better.
        converged: whether its fit did; else it stopped at `max_iter`, and depends on where it started.
    """

    top1: float
    C: float
    at_edge: bool
    converged: bool


def budgets(largest):
    """The k' at which to probe: powers of 2 from 1, and `largest` (K)."""
    return sorted({2**e for e in range(largest.bit_length()) if 2**e <= largest} | {largest})


def rms(codes):
    """Root mean square of the non-zero activations: the one scalar that a model's codes are divided by."""
    values = codes.values[codes.values > 0].astype(np.float64)
    return float(np.sqrt((values**2).mean())) if len(values) else 1.0


def truncate(codes, budget, scale):
    """Each sample's `budget` largest activations, divided by `scale`: a csr matrix (N, m), float64."""
    return Codes(codes.values[:, :budget] / np.float32(scale), codes.indices[:, :budget], codes.m).matrix()


def precision(y):
    """The dtype to fit in: float32 where a score for each training sample and class would take over 200 MB in float64.

    The fit holds several such arrays. Where memory allows, float64 it is, in which a fit stops where it should.
    """
    return np.float32 if 8 * len(y) * len(np.unique(y)) > 2e8 else np.float64


def fit(x, y, grid, max_iter):
    """Fit on train, choose C on val (the smallest of equals), report on test.

    Args:
        x, y: {split: (N, d) features, sparse or dense}, {split: (N,) class numbers}.
        grid: values of C, ascending; each fit starts from the one before.
        max_iter: iterations of L-BFGS at each C.
    """
    model = LogisticRegression(max_iter=max_iter, warm_start=True)
    best = None
    for C in grid:
        model.C = C
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x["train"], y["train"])
        on_val = model.score(x["val"], y["val"])
        if best is None or on_val > best[0]:
            best = on_val, C, model.score(x["test"], y["test"]), bool(model.n_iter_.max() < max_iter)
    _, C, top1, converged = best
    return Probe(float(top1), float(C), len(grid) > 1 and C in (grid[0], grid[-1]), converged)


def by_budget(codes, y, largest, grid, max_iter):
    """[(budget, `Probe`)] of one model.

    Args:
        codes: {split: `Codes`}, at least `largest` wide, largest activation first.
        largest: K, the smallest training k of the experiment.
    """
    scale = rms(codes["train"])
    found = []
    for budget in budgets(largest):
        x = {split: truncate(c, budget, scale).astype(precision(y["train"])) for split, c in codes.items()}
        found.append((budget, fit(x, y, grid, max_iter)))
    return found


def auc(budgets, top1):
    """Normalised area under top-1 over k' in [1, K] by trapezoids: divided by K (maximum (K-1)/K), and by K-1.

    With K = 1 there is no area: NaN.
    """
    largest = budgets[-1]
    if largest == 1:
        return float("nan"), float("nan")
    area = float(np.trapezoid(top1, budgets))
    return area / largest, area / (largest - 1)
