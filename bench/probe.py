"""All probes of one SAE beside scikit-learn's for a single k': `python bench/probe.py`.

Ours are all k' = 1, 2, 4, ..., K with every C of the grid, to our `tol`. scikit-learn's `LogisticRegression` (L-BFGS)
fits the same features with the same C at one k' alone, the dearest: with its default `tol`, and with one at which it
comes near the optimum at every C. They are timed in turn; medians. The images that each predicts right stand beside.

The codes are those of an SAE of the demo where `make demo` has left one. Elsewhere, and with `--generated`, embeddings
are generated (`sae.data.synthetic`), and the SAE is the generator's own dictionary. `--paper` fits 20,000 rows of 200
classes with m = 2048 and K = 32, once, and works out the figures that workflow/resources/costs.yaml has of `paper`.
`--short` leaves out the peer with the smaller `tol`; `--tiny` takes seconds, to see that it runs.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _record as record
import _support  # noqa: F401
import numpy as np
import threadpoolctl
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from support.embeddings import write_store

from sae.data import store, synthetic
from sae.data.splits import SPLITS
from sae.models import saefile
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.scoring.metrics import probe
from sae.scoring.subject import Subject

CELL = "emoji/efficientnet_lite0_fast"
SAE = Path(f"results/demo/saes/{CELL}/k8/topk/default/seed0/sae.safetensors")
ACTIVATIONS = Path(f"results/activations/{CELL}")
TARGET = 2.0  # times the dearest single k' of scikit-learn
PEERS = {"scikit-learn, tol 1e-4": 1e-4, "scikit-learn, tol 1e-6": 1e-6}
EQUAL = "scikit-learn, tol 1e-6"
ITERATIONS = 10_000


class Shape(NamedTuple):
    """Of generated data: images of train (val and test have a seventh of them), classes, d, m, K."""

    rows: int
    classes: int
    d: int
    m: int
    largest: int


DEMO, PAPER, TINY = (
    Shape(5300, 99, 320, 512, 8),
    Shape(20_000, 200, 512, 2048, 32),
    Shape(140, 5, 16, 24, 4),
)
Data = tuple[dict[str, Codes], dict[str, np.ndarray]]


def generated(shape: Shape) -> Data:
    """Codes and labels of generated embeddings, by their own dictionary."""
    world = synthetic.world(shape.d, shape.m, shape.classes)
    coder = Coder(shape.d, shape.m, shape.largest)
    with torch.no_grad():
        coder.W_dec.copy_(torch.from_numpy(world.dictionary))
        coder.W_enc.copy_(coder.W_dec.T)
        coder.b_dec.copy_(torch.from_numpy(world.mean))
    counts = {
        split: shape.rows if split == "train" else shape.rows // 7 for split in SPLITS
    }
    with tempfile.TemporaryDirectory() as folder:
        write_store(world, counts, Path(folder))
        return by_coder(coder, Path(folder))


def by_coder(coder: Coder, activations: Path) -> Data:
    """Codes and labels of the splits of a store."""
    subject = Subject(
        coder, {split: store.read(activations / split) for split in SPLITS}
    )
    labels = {split: subject.labels(split) for split in SPLITS}
    return {split: subject.codes(split) for split in SPLITS}, {
        s: y for s, y in labels.items() if y is not None
    }


def stock(
    x: dict[str, Any], y: dict[str, np.ndarray], grid: list[float], tol: float
) -> list[tuple[int, int]]:
    """Images right on val and test at each C, each fitted from zeros."""
    found = []
    for C in grid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=C, tol=tol, max_iter=ITERATIONS).fit(
                x["train"], y["train"]
            )
        on_val, on_test = (
            int((model.predict(x[split]) == y[split]).sum())
            for split in ("val", "test")
        )
        found.append((on_val, on_test))
    return found


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def chosen(grid: list[float], right: list[tuple[int, int]]) -> tuple[float, int, int]:
    """C, and the images right on val and test, where val is best; the smallest C of equals."""
    best = max(range(len(grid)), key=lambda i: (right[i][0], -i))
    return grid[best], *right[best]


def right(C: float, on_val: int, on_test: int) -> str:
    """The chosen C, and how many images are right, in words."""
    return f"C {C:g}, {on_val} of val, {on_test} of test"


def compare(
    data: Data, largest: int, peers: dict[str, float], rounds: int, where: str
) -> list[dict[str, Any]]:
    """Print both, and return the rows."""
    codes, y = data
    options = probe.Options(**{})
    grid, scale = options.C, probe.rms(codes["train"])
    x = {
        k: {s: probe.truncate(c, k, scale) for s, c in codes.items()}
        for k in probe.budgets(largest)
    }
    first = {k: timed(partial(stock, x[k], y, grid, 1e-4)) for k in x}
    dearest = max(x, key=lambda k: first[k][0])
    runs: dict[str, Callable[[], Any]] = {
        "ours": partial(probe.by_budget, codes, y, largest, options)
    }
    runs |= {
        name: partial(stock, x[dearest], y, grid, tol) for name, tol in peers.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            spent, found[name] = timed(run)
            seconds[name].append(spent)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    n, m = len(codes["train"]), codes["train"].m
    what = f"s, probes at k' up to {largest}, {n} rows, {len(np.unique(y['train']))} classes, m {m}, {len(grid)} C"
    print(
        f"{where}\n{what}; medians of {rounds} rounds\n  ours, all k', tol {options.tol:g}: {medians['ours']:.2f} s"
    )
    for k, p in found["ours"].items():
        said = right(
            p.C, round(p.on_val * len(y["val"])), round(p.top1 * len(y["test"]))
        )
        print(
            f"    k' {k:2}: {said}, {p.passes} passes, converged {p.converged}",
            end="; ",
        )
        print(
            f"scikit-learn, tol 1e-4: {right(*chosen(grid, first[k][1]))}, {first[k][0]:.2f} s"
        )
    for name in peers:
        print(
            f"  {name}, k' {dearest} alone: {medians[name]:.2f} s, {right(*chosen(grid, found[name]))}",
            end="; ",
        )
        print(f"ours: {medians['ours'] / medians[name]:.2f} of it")
    return [
        record.row(
            "5",
            what,
            medians["ours"],
            f"{name}, k' {dearest} alone",
            medians[name],
            TARGET,
            where,
        )
        for name in peers
    ]


def rate(data: Data, largest: int, settings: dict[str, Any]) -> None:
    """Print what `rates` of costs.yaml hold: passes a fit, and core-seconds of a pass of the paper's size."""
    codes, y = data
    scale, passes, options = probe.rms(codes["train"]), [], probe.Options(**settings)
    share = len(y["train"]) / 1e5 * len(np.unique(y["train"])) / 1000
    for k in probe.budgets(largest):
        x = {split: probe.truncate(c, k, scale) for split, c in codes.items()}
        spent, found = timed(partial(probe.fit, x, y, options))
        passes.append(found.passes / len(options.C))
        print(
            f"  k' {k:2}: {spent:6.1f} s, {found.passes} passes, C {found.C:g}, test {found.top1:.4f}",
            end="",
        )
        print(
            f", {1000 * spent / found.passes:.1f} ms a pass: {spent / found.passes / share:.2f} s of 100,000 x 1000"
        )
    print(f"{statistics.mean(passes):.0f} passes a fit, C {options.C}")


def main() -> None:
    """Run the comparison, or measure the rate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sae", type=Path, help="instead of that of the demo")
    parser.add_argument("--activations", type=Path, default=ACTIVATIONS)
    parser.add_argument("--largest", type=int, default=DEMO.largest)
    parser.add_argument("--generated", action="store_true")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    threadpoolctl.threadpool_limits(a.threads)
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if a.paper:
        rate(generated(PAPER), PAPER.largest, {"C": [0.1, 1.0, 10.0]})
        return
    sae = a.sae or SAE
    real = (a.sae or SAE.exists()) and not a.generated and not a.tiny
    shape = TINY if a.tiny else DEMO
    data, largest = (
        (by_coder(saefile.load(sae), a.activations), a.largest)
        if real
        else (generated(shape), shape.largest)
    )
    peers = {name: tol for name, tol in PEERS.items() if not a.short or name != EQUAL}
    rows = compare(
        data, largest, peers, 1 if a.tiny else a.rounds, record.machine(a.threads)
    )
    record.write(a.out, "probe", rows)


if __name__ == "__main__":
    main()
