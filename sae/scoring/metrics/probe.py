"""Fit linear probes under truncation (arXiv:2606.27321, Table 3).

They say what each image's largest activations tell of its label.

Keep each image's `budget` (k') largest activations, fit a multinomial logistic
regression on the truncated training codes, report top-1 on test. C is chosen on val,
for every SAE and budget anew, from one fixed grid: with a fixed C the sign of a
difference between methods depends on that C. The grid is tried upwards, until one is
worse on val (`FALLEN`). `sae.scoring.softmax_solver` says what is minimised, and how
far.

Curve `probe`: top-1 by k', powers of 2 up to K. `probe_auc`, `probe_auc_above_1`: the
normalised area under it (over K, over K - 1); `probe_top1`: at K; `probe_edges`: probes
whose C is at the grid's edge; `probe_unconverged`: those of which a fit, at any C,
stopped at `max_passes`.
"""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int
from pydantic import Field
from scipy.sparse import csr_matrix

from sae.core import files
from sae.core.options import Count, FromExperiment, Grid, Positive
from sae.core.options import Options as Base
from sae.data import store
from sae.models.codes import Codes
from sae.scoring import softmax_solver
from sae.scoring.subject import Curve, Scores, Subject

VERSION = 2
STAGE = "probe"
SPLITS = ("test",)
READS = ("train", "val")
_SPLITS = ("train", "val", "test")
Device = str | torch.device
# Share of the validation images: a C this much worse than the best so far is the last
# that is tried.
FALLEN = 0.005


class Options(Base):
    """Options say how the probes are fitted."""

    C: Grid = Field(
        [0.01, 0.1, 1.0, 10.0, 100.0],
        description="inverse strengths of the l2 penalty to choose from",
    )
    tol: Positive = Field(
        0.01,
        description="a fit's weights are this near the optimum, as a share of their "
        "norm",
    )
    max_passes: Count = Field(
        5000,
        description="passes over the codes at each C after which a fit ends "
        "unconverged",
    )
    max_train: Count = Field(
        100_000, description="training images; of more, a seeded sample is drawn"
    )
    largest: Annotated[Count | None, FromExperiment("smallest_k")] = None
    """K, the largest k' to probe; by default the experiment's smallest k"""


class Probe(NamedTuple):
    """One fitted probe.

    Attributes:
        top1: share of the test images whose label is predicted.
        C: the chosen inverse strength of the l2 penalty.
        at_edge: whether C is the grid's first or last value, so that one outside might
            do better.
        converged: whether every fit came within `tol`; else one stopped at
            `max_passes`.
        passes: over the training features, of all fits.
    """

    top1: float
    C: float
    at_edge: bool
    converged: bool
    passes: int


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Probe one SAE; nothing where the dataset has no labels."""
    at_most = {"train": options.max_train}
    labels = {}
    for probed_split in _SPLITS:
        y = subject.labels(probed_split, at_most=at_most.get(probed_split))
        if y is not None:
            labels[probed_split] = y
    if len(labels) < len(_SPLITS):
        return {}

    codes = {
        probed_split: subject.codes(probed_split, at_most.get(probed_split))
        for probed_split in _SPLITS
    }
    largest = options.largest or subject.coder.k
    device = subject.coder.b_dec.device
    probe_by_budget = by_budget(codes, labels, largest, options, device)

    ks = list(probe_by_budget)
    probes = list(probe_by_budget.values())
    top1 = [probe.top1 for probe in probes]
    auc, auc_above_1 = area(ks, top1)
    return {
        "probe": Curve(ks, top1),
        "probe_auc": auc,
        "probe_auc_above_1": auc_above_1,
        "probe_top1": probes[-1].top1,
        "probe_edges": sum(probe.at_edge for probe in probes),
        "probe_unconverged": sum(not probe.converged for probe in probes),
    }


def probe_embeddings(
    activations_dir: Path, settings: Options, out: Path, device: str = "cpu"
) -> None:
    """Probe the embeddings themselves, as a reference; write JSON to `out`.

    Keys: dataset, backbone, top1. `top1` is null for a dataset without labels.

    Args:
        activations_dir: folder of the splits of one (dataset, backbone).
        settings: :class:`Options`.
        out: the file to write.
        device: of PyTorch: cpu, cuda, cuda:1, mps, or auto for the best there is.
    """
    splits = {split: store.read(activations_dir / split) for split in _SPLITS}
    splits["train"] = splits["train"].sample(settings.max_train)

    top1 = None
    has_labels = not any(
        images.index["label"].isna().any() for images in splits.values()
    )
    if has_labels:
        y = {}
        x = {}
        for split, images in splits.items():
            y[split] = images.index["label"].to_numpy(dtype=np.int64)
            x[split] = np.array(images.embeddings, dtype=np.float32)
        scale = np.sqrt(np.square(x["train"], dtype=np.float64).mean())
        for rows in x.values():
            rows /= scale
        x = softmax_solver.principal(x, "train")
        top1 = fit(x, y, settings, device).top1

    manifest = splits["train"].manifest
    reference = {
        "dataset": manifest["dataset"]["name"],
        "backbone": manifest["backbone"]["name"],
        "top1": top1,
    }
    files.write_json(out, reference)


def budgets(largest: int) -> list[int]:
    """Return the k' at which to probe: powers of 2 from 1, and `largest` (K)."""
    powers = {2**exponent for exponent in range(largest.bit_length())}
    return sorted(powers | {largest})


def rms(codes: Codes) -> float:
    """Return the root mean square of the activations > 0.

    It is the one scalar that an SAE's codes are divided by.
    """
    values = codes.values.astype(np.float64)
    return float(np.sqrt((values**2).mean())) if len(values) else 1.0


def truncate(
    codes: Codes, budget: int, scale: float
) -> Float64[csr_matrix, "images latents"]:
    """Return each image's `budget` largest activations, divided by `scale`."""
    largest = codes.prefix(budget)
    scaled = largest.values / np.float32(scale)
    return Codes(scaled, largest.indices, largest.offsets, largest.m).matrix()


def fit(
    x: dict[str, Any],
    y: dict[str, Int[np.ndarray, " images"]],
    options: Options,
    device: Device = "cpu",
) -> Probe:
    """Fit on train, choose C on val (the smallest of equals), report on test.

    The grid is tried upwards, as far as `FALLEN` says; the fits of two C say where the
    next one starts.

    Args:
        x: {split: (N, m) features, sparse or dense}.
        y: {split: class numbers}.
        options: the grid of C, and how exact a fit is.
        device: to compute on.
    """
    classes, y_train = np.unique(y["train"], return_inverse=True)
    features = {
        split: softmax_solver.features(rows, device) for split, rows in x.items()
    }
    grid = sorted(options.C)
    # Of few validation images two at least.
    much_worse = max(FALLEN, 1.5 / len(y["val"]))

    # Of each C the shares of images whose label is predicted.
    on_val: list[float] = []
    on_test: list[float] = []
    converged = True
    passes = 0
    # The last two alone: weights of the whole grid are large.
    last_fits: list[softmax_solver.SoftmaxFit] = []
    for C in grid:
        fitted = softmax_solver.fit(
            features["train"],
            y_train,
            len(classes),
            C,
            options.tol,
            options.max_passes,
            _extrapolate(last_fits),
        )
        right_on_val = classes[fitted.predict(features["val"])] == y["val"]
        right_on_test = classes[fitted.predict(features["test"])] == y["test"]
        on_val.append(float(right_on_val.mean()))
        on_test.append(float(right_on_test.mean()))
        converged &= fitted.converged
        passes += fitted.passes
        last_fits = [*last_fits[-1:], fitted]
        if max(on_val) - on_val[-1] > much_worse:
            break

    # Of equals the first, which has the smallest C.
    best = on_val.index(max(on_val))
    return Probe(
        top1=on_test[best],
        C=grid[best],
        at_edge=len(grid) > 1 and grid[best] in (grid[0], grid[-1]),
        converged=converged,
        passes=passes,
    )


def _extrapolate(
    fits: list[softmax_solver.SoftmaxFit],
) -> softmax_solver.SoftmaxFit | None:
    """Return a start as far beyond the last fit as that is from the one before it."""
    if not fits:
        return None
    last = fits[-1]
    if len(fits) == 1:
        return last
    return last._replace(weights=2 * last.weights - fits[-2].weights)


def by_budget(
    codes: dict[str, Codes],
    y: dict[str, Int[np.ndarray, " images"]],
    largest: int,
    options: Options,
    device: Device = "cpu",
) -> dict[int, Probe]:
    """Fit the probes of one SAE.

    Args:
        codes: {split: `Codes`}; a row may have fewer than `largest` active latents.
        y: {split: class numbers}.
        largest: K.
        options: how a probe is fitted.
        device: to compute on.

    Returns:
        {k': its probe}, ascending.
    """
    scale = rms(codes["train"])
    probes = {}
    for budget in budgets(largest):
        x = {
            split: truncate(of_split, budget, scale)
            for split, of_split in codes.items()
        }
        probes[budget] = fit(x, y, options, device)
    return probes


def area(budgets: list[int], top1: list[float]) -> tuple[float, float]:
    """Return the normalised area under top-1 over k' in [1, K], by trapezoids.

    Returns:
        It divided by K (maximum (K-1)/K), and by K-1. With K = 1 there is no area: NaN.
    """
    largest = budgets[-1]
    if largest == 1:
        return float("nan"), float("nan")
    under = float(np.trapezoid(top1, budgets))
    return under / largest, under / (largest - 1)
