"""Linear probes under truncation (arXiv:2606.27321, Table 3): what each image's largest activations tell of its label.

Keep each image's `budget` (k') largest activations, fit a multinomial logistic regression on the truncated training
codes, report top-1 on test. C is chosen on val, for every SAE and budget anew, from one fixed grid: with a fixed C the
sign of a difference between methods depends on that C. The grid is tried upwards, until one is worse on val (`FALLEN`).
`_softmax` says what is minimised, and how far.

Curve `probe`: top-1 by k', powers of 2 up to K. `probe_auc`, `probe_auc_above_1`: the normalised area under it (over K,
over K - 1); `probe_auc_se`: the standard error of the first by the test images that happened to be drawn, beside which
the solver's `tol` is small (an image or less at each k'); `probe_top1`, `probe_C`: at K; `probe_edges`: probes whose C
is at the grid's edge; `probe_unconverged`: those of which a fit, at any C, stopped at `max_passes`.
"""

from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch
from pydantic import Field

from sae.core import files
from sae.core.options import Count, Grid, Positive
from sae.core.options import Options as Base
from sae.data import store
from sae.models.codes import Codes
from sae.scoring.metrics import _softmax
from sae.scoring.subject import Curve, Scores, Subject

VERSION = 2
STAGE = "probe"
JUDGED = True
SPLITS = ("test",)
READS = ("train", "val")
FILLED = {"largest": "smallest_k"}
FITS = {"images": "max_train", "strengths": "C", "largest": "largest"}
_SPLITS = ("train", "val", "test")
Device = str | torch.device
FALLEN = 0.005  # share of the validation images: a C this much worse than the best so far is the last that is tried


class Options(Base):
    """How the probes are fitted."""

    C: Grid = Field(
        [0.01, 0.1, 1.0, 10.0, 100.0],
        description="inverse strengths of the l2 penalty to choose from",
    )
    tol: Positive = Field(
        0.01,
        description="a fit's weights are this near the optimum, as a share of their norm",
    )
    max_passes: Count = Field(
        5000,
        description="passes over the codes at each C after which a fit ends unconverged",
    )
    max_train: Count = Field(
        100_000, description="training images; of more, a seeded sample is drawn"
    )
    largest: Count | None = None
    """K, the largest k' to probe; by default the experiment's smallest k"""


class Probe(NamedTuple):
    """One fitted probe.

    Attributes:
        right: (N,) bool, whether each test image's label is predicted.
        on_val: share of the validation images whose label is.
        C: the chosen inverse strength of the l2 penalty.
        at_edge: whether C is the grid's first or last value, so that one outside might do better.
        converged: whether every fit came within `tol`; else one stopped at `max_passes`.
        passes: over the training features, of all fits.
    """

    right: np.ndarray
    on_val: float
    C: float
    at_edge: bool
    converged: bool
    passes: int

    @property
    def top1(self) -> float:
        """Share of the test images whose label is predicted."""
        return float(self.right.mean())


def score(subject: Subject, split: str, options: Options) -> Scores:
    """The probes of one SAE; nothing where the dataset has no labels."""
    kept = {"train": options.max_train}
    labels = {s: subject.labels(s, at_most=kept.get(s)) for s in _SPLITS}
    y = {s: of_split for s, of_split in labels.items() if of_split is not None}
    if len(y) < len(labels):
        return {}
    codes = {s: subject.codes(s, kept.get(s)) for s in _SPLITS}
    found = by_budget(
        codes,
        y,
        options.largest or subject.coder.k,
        options,
        subject.coder.b_dec.device,
    )
    ks, top1, last = (
        list(found),
        [p.top1 for p in found.values()],
        list(found.values())[-1],
    )
    auc, auc_above_1 = area(ks, top1)
    return {
        "probe": Curve(ks, top1),
        "probe_auc": auc,
        "probe_auc_above_1": auc_above_1,
        "probe_auc_se": standard_error(ks, np.stack([p.right for p in found.values()])),
        "probe_top1": last.top1,
        "probe_C": last.C,
        "probe_edges": sum(p.at_edge for p in found.values()),
        "probe_unconverged": sum(not p.converged for p in found.values()),
    }


def probe_embeddings(
    activations_dir: Path, settings: Options, out: Path, device: str = "cpu"
) -> None:
    """The probes' reference, the same on the embeddings themselves: writes JSON to `out`.

    Keys: dataset, backbone, top1. `top1` is null for a dataset without labels.

    Args:
        activations_dir: folder of the splits of one (dataset, backbone).
        settings: :class:`Options`.
        out: the file to write.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
    """
    splits = {split: store.read(activations_dir / split) for split in _SPLITS}
    splits["train"] = splits["train"].sample(settings.max_train)
    found = None
    if not any(data.index["label"].isna().any() for data in splits.values()):
        y = {
            split: data.index["label"].to_numpy(dtype=np.int64)
            for split, data in splits.items()
        }
        x = {
            split: np.array(data.embeddings, dtype=np.float32)
            for split, data in splits.items()
        }
        scale = np.sqrt(np.square(x["train"], dtype=np.float64).mean())
        for rows in x.values():
            rows /= scale
        x = _softmax.principal(x, "train")
        found = fit(x, y, settings, device).top1
    cell = {
        what: splits["train"].manifest[what]["name"] for what in ("dataset", "backbone")
    }
    files.write_json(out, cell | {"top1": found})


def budgets(largest: int) -> list[int]:
    """The k' at which to probe: powers of 2 from 1, and `largest` (K)."""
    return sorted({2**e for e in range(largest.bit_length())} | {largest})


def rms(codes: Codes) -> float:
    """Root mean square of the activations > 0: the one scalar that an SAE's codes are divided by."""
    values = codes.values.astype(np.float64)
    return float(np.sqrt((values**2).mean())) if len(values) else 1.0


def truncate(codes: Codes, budget: int, scale: float) -> scipy.sparse.csr_matrix:
    """Each image's `budget` largest activations, divided by `scale`: a csr matrix (N, m), float64."""
    kept = codes.prefix(budget)
    return Codes(
        kept.values / np.float32(scale), kept.indices, kept.offsets, kept.m
    ).matrix()


def fit(
    x: dict[str, Any],
    y: dict[str, np.ndarray],
    options: Options,
    device: Device = "cpu",
) -> Probe:
    """Fit on train, choose C on val (the smallest of equals), report on test.

    Args:
        x, y: {split: (N, m) features, sparse or dense}, {split: (N,) class numbers}.
        options: the grid is tried upwards, as far as `FALLEN` says; the fits of two C say where the next one starts.
        device: to compute on.
    """
    classes, train = np.unique(y["train"], return_inverse=True)
    on = {split: _softmax.features(rows, device) for split, rows in x.items()}
    grid, tried, start = sorted(options.C), [], None
    last: _softmax.Fit | None = None
    for C in grid:
        before, last = (
            last,
            _softmax.fit(
                on["train"],
                train,
                len(classes),
                C,
                options.tol,
                options.max_passes,
                start,
            ),
        )
        start = (
            last._replace(weights=2 * last.weights - before.weights) if before else last
        )
        of_val, of_test = (
            classes[last.predict(on[split])] == y[split] for split in ("val", "test")
        )
        tried.append((float(of_val.mean()), C, of_test, last.converged, last.passes))
        if max(tried)[0] - tried[-1][0] > max(
            FALLEN, 1.5 / len(y["val"])
        ):  # Of few images two at least.
            break
    on_val, C, right, _, _ = max(tried, key=itemgetter(0))
    *_, converged, passes = zip(*tried, strict=True)
    return Probe(
        right,
        on_val,
        C,
        len(grid) > 1 and C in (grid[0], grid[-1]),
        all(converged),
        sum(passes),
    )


def by_budget(
    codes: dict[str, Codes],
    y: dict[str, np.ndarray],
    largest: int,
    options: Options,
    device: Device = "cpu",
) -> dict[int, Probe]:
    """{budget: its probe} of one SAE, ascending.

    Args:
        codes: {split: `Codes`}; a row may have fewer than `largest` active latents.
        largest: K.
        device: to compute on.
    """
    scale = rms(codes["train"])
    return {
        budget: fit(
            {split: truncate(c, budget, scale) for split, c in codes.items()},
            y,
            options,
            device,
        )
        for budget in budgets(largest)
    }


def area(budgets: list[int], top1: list[float]) -> tuple[float, float]:
    """Normalised area under top-1 over k' in [1, K] by trapezoids: divided by K (maximum (K-1)/K), and by K-1.

    With K = 1 there is no area: NaN.
    """
    largest = budgets[-1]
    if largest == 1:
        return float("nan"), float("nan")
    found = float(np.trapezoid(top1, budgets))
    return found / largest, found / (largest - 1)


def standard_error(budgets: list[int], right: np.ndarray) -> float:
    """Of the area over K, by the images: `right` (budgets, N), whether each image's label is predicted at each k'."""
    each = (
        np.asarray(np.trapezoid(right.astype(np.float64), budgets, axis=0))
        / budgets[-1]
    )
    return (
        float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
    )
