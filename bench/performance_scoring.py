"""Figures of scoring in docs/performance.md.

python bench/performance_scoring.py metrics    # "Scoring"
python bench/performance_scoring.py probes     # "Probes"
"""

import argparse
import functools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _record as record
import _support  # noqa: F401
import numpy as np
import pandas as pd
import threadpoolctl
import torch
from _command import add_command, add_numbers, run_script
from _record import Comparison
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from support.embeddings import write_store

from sae.core import registry
from sae.data import store, synthetic
from sae.data.splits import SPLITS
from sae.data.store import Activations
from sae.models import saefile
from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.scoring.metrics import _ms, probe, purity, robustness
from sae.scoring.subject import Subject


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    command = add_command(commands, "metrics", time_metrics, writes=True)
    add_numbers(command, n=50_000, d=768, m=8192, k=64, classes=1000, rounds=5)
    command.add_argument(
        "--encoded",
        type=int,
        default=8192,
        help="images of the robustness curve at the paper's shape",
    )
    command.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    command.add_argument("--short", action="store_true", help="fewer images")

    command = add_command(commands, "probes", time_probes, writes=True)
    command.add_argument("--sae", type=Path, help="instead of that of the demo")
    command.add_argument("--activations", type=Path, default=ACTIVATIONS)
    add_numbers(command, largest=DEMO.largest, rounds=5, threads=1)
    command.add_argument("--generated", action="store_true")
    command.add_argument("--paper", action="store_true")
    command.add_argument(
        "--short", action="store_true", help="without the peer with the smaller `tol`"
    )


# The metrics of one SAE.

EMBEDDED = {"d": 320, "m": 1024, "k": 32}  # the shape of the embedded data
IMAGES = {"train": 6000, "val": 1000, "test": 2000}
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
SHORT_METRICS = {"n": 10_000, "encoded": 2048}
TINY_METRICS = {
    "n": 300,
    "d": 32,
    "m": 128,
    "k": 4,
    "classes": 5,
    "encoded": 100,
    "rounds": 1,
}
CODES_TARGET = 2.0  # times the product
CURVE_TARGET = 1.5  # times its largest k


def time_metrics(arguments: argparse.Namespace) -> None:
    """Time the scoring of one SAE.

    It is behind the table of "Scoring" of docs/performance.md; `make bench` runs the
    short form, which takes half a minute.

    - Monosemanticity and class purity, from codes to scores, beside one sparse-dense
      product of the same codes in SciPy: (N, m)^T @ (N, d), in float64, in which the
      metrics add up, and in float32. The product is the quicker of SciPy's two: of
      compressed columns; its matrices are made before. Codes are generated, with
      latents as frequent as a power law says; embeddings are stored as float16, classes
      drawn at random.
    - The robustness curve, all its k, beside its largest k alone: at the paper's shape,
      and at that of the embedded data.
    - All stages of one SAE but the probes, at the shape of the embedded data, one
      thread: what a job does beside its start.

    What is compared is timed in turn, round after round; what counts is the ratio of
    medians.
    """
    images = IMAGES
    if arguments.short:
        vars(arguments).update(SHORT_METRICS)
    if arguments.tiny:
        vars(arguments).update(TINY_METRICS)
        images = dict.fromkeys(IMAGES, 100)
    n = arguments.n
    classes = arguments.classes
    rounds = arguments.rounds
    shape = {"d": arguments.d, "m": arguments.m, "k": arguments.k}
    comparisons = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        machine = record.machine(threads)
        print(machine)
        sizes = sizes_in_words(n=n, **shape)
        print(
            f"metrics of codes: {sizes}, {classes} classes; "
            f"median ms of {rounds} rounds"
        )
        ms = time_in_turn(metrics_of_codes(n, classes, **shape), rounds)
        for name in ("MS", "purity"):
            comparisons.append(
                Comparison(
                    goal="6",
                    quantity=f"ms, {name}, {sizes}",
                    ours=ms[name],
                    peer="product",
                    peer_value=ms["product, float64"],
                    target=CODES_TARGET,
                    machine=machine,
                )
            )
        for encoded in (
            {"n": arguments.encoded, **shape},
            {"n": images["test"], **EMBEDDED},
        ):
            sizes = sizes_in_words(**encoded)
            print(f"robustness: {sizes}")
            ms = time_in_turn(robustness_curves(**encoded), rounds)
            comparisons.append(
                Comparison(
                    goal="6",
                    quantity=f"ms, robustness curve, {sizes}",
                    ours=ms["all k"],
                    peer="largest k",
                    peer_value=ms["largest k"],
                    target=CURVE_TARGET,
                    machine=machine,
                )
            )
    torch.set_num_threads(1)
    print(f"stages of one SAE: {sizes_in_words(**images, **EMBEDDED)}, one thread")
    time_in_turn(stages_of_scoring(images, **EMBEDDED), rounds)
    record.write(arguments.out, "scoring", comparisons)


def sizes_in_words(**sizes: int) -> str:
    """Return sizes as they are printed."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def time_in_turn(
    functions: dict[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
    """Return the median milliseconds of each function, run in turn, and print them.

    A first round does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(rounds + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if round_number:
                times[name].append(1e3 * (time.perf_counter() - started))
    medians = {name: statistics.median(ms) for name, ms in times.items()}
    for name, ms in medians.items():
        print(f"  {name:20}{ms:9.1f}", flush=True)
    return medians


def metrics_of_codes(
    n: int, classes: int, d: int, m: int, k: int
) -> dict[str, Callable[[], object]]:
    """Return the metrics of codes, and the products, as functions to time."""
    codes = generate_codes(n, m, k)
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((n, d), dtype=np.float32) + 1).astype(np.float16)
    labels = rng.integers(0, classes, n)
    matrix = codes.matrix()
    matrix32 = matrix.astype(np.float32)
    embeddings64 = embeddings.astype(np.float64)
    embeddings32 = embeddings.astype(np.float32)
    return {
        "product, float64": lambda: matrix.T @ embeddings64,
        "product, float32": lambda: matrix32.T @ embeddings32,
        "MS": lambda: _ms.scores(_ms.scale_activations(codes), embeddings),
        "purity": lambda: purity.of_codes(codes, labels),
    }


def generate_codes(n: int, m: int, k: int) -> Codes:
    """Generate codes of n images: k of m latents each, drawn by a power law.

    A latent is drawn at most once for an image; values are log-normal.
    """
    generator = torch.Generator().manual_seed(0)
    frequency = torch.arange(1, m + 1) ** -0.8
    frequency = frequency[torch.randperm(m, generator=generator)]
    # The k smallest of exponential times are a draw without repeats.
    indices = []
    for start in range(0, n, 2048):
        times = torch.empty(min(2048, n - start), m)
        times = times.exponential_(generator=generator) / frequency
        indices.append(times.topk(k, dim=1, largest=False).indices.int())
    values = torch.randn(n, k, generator=generator).mul(0.5).exp()
    values = values.sort(dim=1, descending=True).values
    all_indices = torch.cat(indices).flatten().numpy()
    return Codes(values.flatten().numpy(), all_indices, np.arange(n + 1) * k, m)


def robustness_curves(
    n: int, d: int, m: int, k: int
) -> dict[str, Callable[[], object]]:
    """Return the robustness curve, and its last point alone, as functions to time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator) + 1
    x = torch.nn.functional.normalize(x, dim=1)
    coder = untrained_coder(x.mean(dim=0), m, k)
    ks = robustness.k_grid(k, m)
    return {
        "all k": lambda: robustness.nmse_by_k(coder, x, ks),
        "largest k": lambda: robustness.nmse_by_k(coder, x, ks[-1:]),
    }


def untrained_coder(mean: torch.Tensor, m: int, k: int) -> Coder:
    """Return an SAE as it is before training, for inputs of this mean (d,)."""
    coder = Coder(len(mean), m, k)
    coder.initialise(mean, seed=0)
    return coder.requires_grad_(False)


def stages_of_scoring(
    images: dict[str, int], d: int, m: int, k: int
) -> dict[str, Callable[[], object]]:
    """Return the stages of scoring, each as in a job of its own, as functions to time.

    Codes are fresh, and what a bank shares is made.

    Args:
        images: {split: how many}.
        d: Dimensions.
        m: Latents.
        k: The budget.
    """
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in images.items():
        labels = rng.integers(0, 10, count)
        index = pd.DataFrame(
            {"label": labels, "label_coarse": pd.NA, "label_name": "x"}
        )
        embeddings = rng.standard_normal((count, d), dtype=np.float32) + 1
        splits[split] = Activations(embeddings, index, {"dataset": {"grouped": False}})
    judges = {
        name: {"test": rng.standard_normal((images["test"], d), dtype=np.float32) + 1}
        for name in ("first", "second")
    }
    mean = torch.from_numpy(splits["train"].embeddings.mean(axis=0))
    coder = untrained_coder(mean, m, k)

    def score(names: tuple[str, ...]) -> None:
        subject = Subject(coder, splits, judges)
        for name in names:
            metric = registry.load("metric", name)
            for split in metric.SPLITS:
                metric.score(subject, split, registry.head("metric", name).options())

    return {stage: functools.partial(score, names) for stage, names in STAGES.items()}


# Probes.

DEMO_CELL = "emoji/efficientnet_lite0_fast"
SAE = Path(f"results/demo/saes/{DEMO_CELL}/k8/topk/default/seed0/sae.safetensors")
ACTIVATIONS = Path(f"results/activations/{DEMO_CELL}")
PROBE_TARGET = 2.0  # times the dearest single k' of scikit-learn
DEFAULT_TOL = 1e-4
NEAR_OPTIMUM = "scikit-learn, tol 1e-6"
PEERS = {"scikit-learn, tol 1e-4": DEFAULT_TOL, NEAR_OPTIMUM: 1e-6}
MOST_ITERATIONS = 10_000


class ProbeShape(NamedTuple):
    """Sizes of generated data.

    Attributes:
        rows: Images of train; val and test have a seventh of them.
        classes: Of the labels.
        d: Dimensions.
        m: Latents.
        largest: The largest k' of the probes.
    """

    rows: int
    classes: int
    d: int
    m: int
    largest: int


DEMO = ProbeShape(5300, 99, 320, 512, 8)
PAPER = ProbeShape(20_000, 200, 512, 2048, 32)
TINY_PROBES = ProbeShape(140, 5, 16, 24, 4)


class LabelledCodes(NamedTuple):
    """The codes of an SAE, and the labels of the images, each by split."""

    codes: dict[str, Codes]
    labels: dict[str, np.ndarray]


class FitAtC(NamedTuple):
    """A probe with one C, and how many images it predicts right on val and on test."""

    C: float
    right_on_val: int
    right_on_test: int

    def __str__(self) -> str:
        """Return the probe as it is printed."""
        on_val = f"{self.right_on_val} of val"
        return f"C {self.C:g}, {on_val}, {self.right_on_test} of test"


def time_probes(arguments: argparse.Namespace) -> None:
    """Time all probes of one SAE beside scikit-learn's for a single k'.

    It is behind the table of "Probes" of docs/performance.md; `--paper` is behind
    `probe` of workflow/resources/costs.yaml.

    Ours are all k' = 1, 2, 4, ..., K with every C of the grid, to our `tol`.
    scikit-learn's `LogisticRegression` (L-BFGS) fits the same features with the same C
    at one k' alone, the dearest: with its default `tol`, and with one at which it comes
    near the optimum at every C. They are timed in turn; medians. The images that each
    predicts right stand beside.

    The codes are those of an SAE of the demo where `make demo` has left one. Elsewhere,
    and with `--generated`, embeddings are generated (`sae.data.synthetic`), and the SAE
    is the generator's own dictionary. `--paper` fits 20,000 rows of 200 classes with m
    = 2048 and K = 32, once, and works out the figures that the costs have of `paper`.
    """
    torch.set_num_threads(arguments.threads)
    threadpoolctl.threadpool_limits(arguments.threads)
    torch.set_deterministic_debug_mode("error")
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False
    if arguments.paper:
        print_rate(generate_labelled_codes(PAPER), PAPER.largest, [0.1, 1.0, 10.0])
        return

    sae_file = arguments.sae or SAE
    has_sae = arguments.sae or SAE.exists()
    if has_sae and not arguments.generated and not arguments.tiny:
        largest = arguments.largest
        coder = saefile.load(sae_file)
        labelled = encode_store(coder, arguments.activations)
    else:
        shape = TINY_PROBES if arguments.tiny else DEMO
        largest = shape.largest
        labelled = generate_labelled_codes(shape)
    peers = dict(PEERS)
    if arguments.short:
        del peers[NEAR_OPTIMUM]
    rounds = 1 if arguments.tiny else arguments.rounds
    machine = record.machine(arguments.threads)
    comparisons = compare_probes(labelled, largest, peers, rounds, machine)
    record.write(arguments.out, "probe", comparisons)


def generate_labelled_codes(shape: ProbeShape) -> LabelledCodes:
    """Generate embeddings, and encode them by their own dictionary."""
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
        return encode_store(coder, Path(folder))


def encode_store(coder: Coder, activations: Path) -> LabelledCodes:
    """Encode the splits of a store, and read their labels."""
    splits = {split: store.read(activations / split) for split in SPLITS}
    subject = Subject(coder, splits)
    labels = {}
    for split in SPLITS:
        labels_of_split = subject.labels(split)
        if labels_of_split is not None:
            labels[split] = labels_of_split
    return LabelledCodes({split: subject.codes(split) for split in SPLITS}, labels)


def fit_by_scikit_learn(
    x: dict[str, Any], y: dict[str, np.ndarray], grid: list[float], tol: float
) -> list[FitAtC]:
    """Fit a probe at each C, each from zeros.

    Args:
        x: {split: (images, latents) sparse features}.
        y: {split: labels}.
        grid: Values of C.
        tol: Of the solver.
    """
    fits = []
    for C in grid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=C, tol=tol, max_iter=MOST_ITERATIONS)
            model.fit(x["train"], y["train"])
        right_on_val, right_on_test = (
            int((model.predict(x[split]) == y[split]).sum())
            for split in ("val", "test")
        )
        fits.append(FitAtC(C, right_on_val, right_on_test))
    return fits


def best_on_val(fits: list[FitAtC]) -> FitAtC:
    """Return the fit that is best on validation, of equals that of the smallest C.

    Args:
        fits: In the order of C.
    """
    return max(fits, key=lambda fit: fit.right_on_val)


def run_timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a function takes, and what it returns."""
    started = time.perf_counter()
    answer = run()
    return time.perf_counter() - started, answer


def compare_probes(
    labelled: LabelledCodes,
    largest: int,
    peers: dict[str, float],
    rounds: int,
    machine: str,
) -> list[Comparison]:
    """Time our probes and the peers', and print both.

    Args:
        labelled: Codes and labels.
        largest: The largest k'.
        peers: {peer: its `tol`}.
        rounds: How often each is timed.
        machine: In words.
    """
    codes, y = labelled
    options = probe.Options.model_validate({})
    grid = options.C
    scale = probe.rms(codes["train"])
    features_at = {
        k: {split: probe.truncate(c, k, scale) for split, c in codes.items()}
        for k in probe.budgets(largest)
    }
    # At every k' once, to find the dearest.
    seconds_at = {}
    peer_fits_at = {}
    for k, x in features_at.items():
        fit = functools.partial(fit_by_scikit_learn, x, y, grid, DEFAULT_TOL)
        seconds_at[k], peer_fits_at[k] = run_timed(fit)
    dearest = max(seconds_at, key=seconds_at.__getitem__)

    runs: dict[str, Callable[[], Any]] = {
        "ours": functools.partial(probe.by_budget, codes, y, largest, options)
    }
    for peer, tol in peers.items():
        x = features_at[dearest]
        runs[peer] = functools.partial(fit_by_scikit_learn, x, y, grid, tol)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    probes: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds_of_run, probes[name] = run_timed(run)
            seconds[name].append(seconds_of_run)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    ours = medians["ours"]

    data_in_words = (
        f"{len(codes['train'])} rows, {len(np.unique(y['train']))} classes, "
        f"m {codes['train'].m}, {len(grid)} C"
    )
    title = f"s, probes at k' up to {largest}, {data_in_words}"
    print(f"{machine}\n{title}; medians of {rounds} rounds")
    print(f"  ours, all k', tol {options.tol:g}: {ours:.2f} s")
    for k, fitted in probes["ours"].items():
        our_fit = FitAtC(
            fitted.C,
            round(fitted.on_val * len(y["val"])),
            round(fitted.top1 * len(y["test"])),
        )
        passes = f"{fitted.passes} passes, converged {fitted.converged}"
        peer_fit = f"{best_on_val(peer_fits_at[k])}, {seconds_at[k]:.2f} s"
        print(f"    k' {k:2}: {our_fit}, {passes}; scikit-learn, tol 1e-4: {peer_fit}")
    comparisons = []
    for peer in peers:
        name = f"{peer}, k' {dearest} alone"
        peer_fit = f"{medians[peer]:.2f} s, {best_on_val(probes[peer])}"
        print(f"  {name}: {peer_fit}; ours: {ours / medians[peer]:.2f} of it")
        comparisons.append(
            Comparison("5", title, ours, name, medians[peer], PROBE_TARGET, machine)
        )
    return comparisons


def print_rate(labelled: LabelledCodes, largest: int, grid: list[float]) -> None:
    """Print what `rates` of costs.yaml hold of probes.

    These are passes a fit, and core-seconds of a pass of the paper's size.

    Args:
        labelled: Codes and labels.
        largest: The largest k'.
        grid: Values of C.
    """
    codes, y = labelled
    options = probe.Options.model_validate({"C": grid})
    scale = probe.rms(codes["train"])
    share_of_paper = len(y["train"]) / 1e5 * len(np.unique(y["train"])) / 1000
    passes_a_fit = []
    for k in probe.budgets(largest):
        x = {split: probe.truncate(c, k, scale) for split, c in codes.items()}
        seconds, fitted = run_timed(functools.partial(probe.fit, x, y, options))
        passes_a_fit.append(fitted.passes / len(options.C))
        a_pass = seconds / fitted.passes
        print(
            f"  k' {k:2}: {seconds:6.1f} s, {fitted.passes} passes, C {fitted.C:g}, "
            f"test {fitted.top1:.4f}, {1000 * a_pass:.1f} ms a pass: "
            f"{a_pass / share_of_paper:.2f} s of 100,000 x 1000"
        )
    print(f"{statistics.mean(passes_a_fit):.0f} passes a fit, C {options.C}")


if __name__ == "__main__":
    run_script(__doc__, add_commands)
