"""Time the scoring of one SAE: `python bench/scoring.py`; `--short` takes half a minute, `--tiny` seconds.

- Monosemanticity and class purity, from codes to scores, beside one sparse-dense product of the same codes in SciPy:
  (N, m)^T @ (N, d), in float64, in which the metrics add up, and in float32. The product is the quicker of SciPy's two:
  of compressed columns; its matrices are made before. Codes are generated, with latents as frequent as a power law
  says; embeddings are stored as float16, classes drawn at random.
- The robustness curve, all its k, beside its largest k alone: at the paper's shape, and at that of the embedded data.
- All stages of one SAE but the probes, at the shape of the embedded data, one thread: what a job does beside its start.

What is compared is timed in turn, round after round; what counts is the ratio of medians.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import _record as record
import numpy as np
import pandas as pd
import torch

from sae.core import registry
from sae.data.store import Activations
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.scoring.metrics import _ms, purity, robustness
from sae.scoring.subject import Subject

EMBEDDED = {"d": 320, "m": 1024, "k": 32}
STAGES = {
    "score": (
        "reconstruction",
        "firing",
        "monosemanticity",
        "purity",
        "independent",
        "latents",
    ),
    "robustness": ("robustness", "rank_profile"),
}
Images = dict[str, int]  # {split: count}


def main() -> None:
    """Print the medians, and write the comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("n", 50_000),
        ("d", 768),
        ("m", 8192),
        ("k", 64),
        ("classes", 1000),
        ("rounds", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--encoded",
        type=int,
        default=8192,
        help="images of the robustness curve at the paper's shape",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--short", action="store_true", help="fewer images")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    images = {"train": 6000, "val": 1000, "test": 2000}
    if a.short:
        a.n, a.encoded = 10_000, 2048
    if a.tiny:
        a.n, a.d, a.m, a.k, a.classes, a.encoded, a.rounds = 300, 32, 128, 4, 5, 100, 1
        images = dict.fromkeys(images, 100)
    shape = {"d": a.d, "m": a.m, "k": a.k}
    rows = []
    for threads in a.threads:
        torch.set_num_threads(threads)
        where = record.machine(threads)
        print(where)
        of = words(n=a.n, **shape)
        print(
            f"metrics of codes: {of}, {a.classes} classes; median ms of {a.rounds} rounds"
        )
        ms = compare(metrics(a.n, a.classes, **shape), a.rounds)
        product = ms["product, float64"]
        for name in ("MS", "purity"):
            rows.append(
                record.row(
                    "6", f"ms, {name}, {of}", ms[name], "product", product, 2.0, where
                )
            )
        for encoded in ({"n": a.encoded} | shape, {"n": images["test"]} | EMBEDDED):
            of = words(**encoded)
            print(f"robustness: {of}")
            ms = compare(curves(**encoded), a.rounds)
            rows.append(
                record.row(
                    "6",
                    f"ms, robustness curve, {of}",
                    ms["all k"],
                    "largest k",
                    ms["largest k"],
                    1.5,
                    where,
                )
            )
    torch.set_num_threads(1)
    print(f"stages of one SAE: {words(**images, **EMBEDDED)}, one thread")
    compare(stages(images, **EMBEDDED), a.rounds)
    record.write(a.out, "scoring", rows)


def words(**sizes: int) -> str:
    """Sizes as they are printed."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def compare(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each step, run in turn; a first round does not count. Prints them."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number:
                times[name].append(1e3 * (time.perf_counter() - started))
    medians = {name: statistics.median(ms) for name, ms in times.items()}
    for name, ms in medians.items():
        print(f"  {name:20}{ms:9.1f}", flush=True)
    return medians


def metrics(
    n: int, classes: int, d: int, m: int, k: int
) -> dict[str, Callable[[], object]]:
    """The metrics of codes, and the products."""
    codes = generate(n, m, k)
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((n, d), dtype=np.float32) + 1).astype(np.float16)
    labels = rng.integers(0, classes, n)
    matrix, dense = codes.matrix(), embeddings.astype(np.float64)
    matrix32, dense32 = matrix.astype(np.float32), embeddings.astype(np.float32)
    return {
        "product, float64": lambda: matrix.T @ dense,
        "product, float32": lambda: matrix32.T @ dense32,
        "MS": lambda: _ms.scores(_ms.scale_activations(codes), embeddings),
        "purity": lambda: purity.of_codes(codes, labels),
    }


def generate(n: int, m: int, k: int) -> Codes:
    """Codes of n images: k of m latents each, drawn without repeats by a power law; values are log-normal."""
    generator = torch.Generator().manual_seed(0)
    often = torch.arange(1, m + 1) ** -0.8
    often = often[torch.randperm(m, generator=generator)]
    # The k smallest of exponential times are a draw without repeats.
    times = (
        torch.empty(min(2048, n - i), m).exponential_(generator=generator) / often
        for i in range(0, n, 2048)
    )
    indices = torch.cat(
        [part.topk(k, dim=1, largest=False).indices.int() for part in times]
    )
    values = (
        torch.randn(n, k, generator=generator)
        .mul(0.5)
        .exp()
        .sort(dim=1, descending=True)
        .values
    )
    return Codes(
        values.flatten().numpy(), indices.flatten().numpy(), np.arange(n + 1) * k, m
    )


def curves(n: int, d: int, m: int, k: int) -> dict[str, Callable[[], object]]:
    """The robustness curve, and its last point alone."""
    x = torch.nn.functional.normalize(
        torch.randn(n, d, generator=torch.Generator().manual_seed(0)) + 1, dim=1
    )
    sae, ks = coder(x.mean(dim=0), m, k), robustness.k_grid(k, m)
    return {
        "all k": lambda: robustness.nmse_by_k(sae, x, ks),
        "largest k": lambda: robustness.nmse_by_k(sae, x, ks[-1:]),
    }


def coder(mean: torch.Tensor, m: int, k: int) -> Coder:
    """An SAE as it is before training."""
    sae = Coder(len(mean), m, k)
    sae.initialise(mean, seed=0)
    return sae.requires_grad_(False)


def stages(images: Images, d: int, m: int, k: int) -> dict[str, Callable[[], object]]:
    """The stages of scoring, each as in a job of its own: with fresh codes, and what a bank shares made."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in images.items():
        index = pd.DataFrame(
            {
                "label": rng.integers(0, 10, count),
                "label_coarse": pd.NA,
                "label_name": "x",
            }
        )
        embeddings = rng.standard_normal((count, d), dtype=np.float32) + 1
        splits[split] = Activations(embeddings, index, {"dataset": {"grouped": False}})
    judged = (images["test"], d)
    others = {
        name: {"test": rng.standard_normal(judged, dtype=np.float32) + 1}
        for name in ("first", "second")
    }
    sae = coder(torch.from_numpy(splits["train"].embeddings.mean(axis=0)), m, k)

    def run(names: tuple[str, ...]) -> None:
        subject = Subject(sae, splits, others)
        for name in names:
            metric = registry.load("metric", name)
            for split in metric.SPLITS:
                metric.score(subject, split, registry.head("metric", name).options())

    return {stage: functools.partial(run, names) for stage, names in STAGES.items()}


if __name__ == "__main__":
    main()
