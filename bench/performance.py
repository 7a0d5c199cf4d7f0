"""Figures of docs/performance.md that are measured anew, beside other libraries.

    python bench/performance.py step      # "The training step"
    python bench/performance.py fvu       # "FVU against seconds"
    python bench/performance.py embed     # "From image files to embeddings"
    python bench/performance.py growth    # "Growth"

Several run one after the other, or all if none is named; `--short` takes minutes
(`make bench`). Each prints what it measured, and writes OUT/NAME.csv: ours, the fastest
other one, their ratio, and the ratio that the page has as its goal. What is compared
takes turns, each in a process of its own, so that a machine whose speed drifts slows
all; what counts is the ratio of medians. Other libraries are installed into
environments of their own in .cache/bench (a few minutes, once).
"""

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _growth
import _workers as workers
import numpy as np
import pandas as pd
import torch
from PIL import Image

from sae.core import files
from sae.data.folding import has_bfloat16

ROOT = Path(__file__).parent.parent
WORKERS = str(Path(__file__).with_name("_workers.py"))
# As our jobs set it (`sae.__main__`): large arrays in large pages.
PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
OURS = [sys.executable, WORKERS]
FULL = "full"
SHORT = "short"
TINY = "tiny"


class Run(NamedTuple):
    """A run that was asked for.

    Attributes:
        size: `FULL`, `SHORT`, or `TINY`: seconds, to see that it runs, beside our own
            former recipe in place of other libraries; the figures mean nothing.
        threads: Of each process.
        out: A folder.
    """

    size: str
    threads: int
    out: Path


class Comparison(NamedTuple):
    """Two medians; the goal is met if ours is at most `goal` times the peer's."""

    quantity: str
    ours: float
    peer: str
    peer_value: float
    goal: float


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    size = parser.add_mutually_exclusive_group()
    for name in (SHORT, TINY):
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    arguments = parser.parse_args()
    unknown = sorted({*arguments.names} - {*COMMANDS})
    if unknown:
        parser.error(f"{unknown[0]}: not one of {', '.join(COMMANDS)}")

    machine = describe_machine(arguments.threads)
    print(machine)
    run = Run(arguments.size or FULL, arguments.threads, arguments.out)
    for name in arguments.names or COMMANDS:
        table = pd.DataFrame(COMMANDS[name](run), columns=Comparison._fields)
        table["ratio"] = table["ours"] / table["peer_value"]
        table["met"] = table["ratio"] <= table["goal"]
        print(f"{table.round(3).to_string(index=False)}\n", flush=True)
        table["machine"] = machine
        files.write_text(run.out / f"{name}.csv", table.to_csv(index=False))


def describe_machine(threads: int) -> str:
    """Describe this machine in words, and the versions that it runs."""
    cpu_file = Path("/proc/cpuinfo")
    cpu_text = cpu_file.read_text() if cpu_file.exists() else ""
    names = [line for line in cpu_text.splitlines() if line.startswith("model name")]
    cpu = names[0].partition(": ")[2] if names else platform.machine()
    # ATEN_CPU_CAPABILITY may ask for less than the processor has.
    capability = torch.backends.cpu.get_cpu_capability()
    half = "bfloat16 products" if has_bfloat16("cpu") else "no bfloat16 products"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{cpu} ({capability}, {half}), {threads} threads, {versions}"


def command_of(library: str) -> list[str]:
    """Return the command that runs a library, ours or another one.

    The environment of another one is made if it is not there.
    """
    if library not in workers.OTHERS:
        return OURS
    requirement = workers.REQUIREMENTS[library.split()[0]]
    folder = ROOT / ".cache/bench" / library.split()[0]
    python = str(folder / "bin/python")
    is_complete = folder / ".complete"
    if not is_complete.exists():
        print(f"installing {requirement} into {folder.relative_to(ROOT)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        # The library alone is compared.
        our_torch = f"torch=={torch.__version__.partition('+')[0]}"
        install = [python, "-m", "pip", "install", "--quiet", our_torch, requirement]
        subprocess.run(install, check=True)
        is_complete.touch()
    return [python, WORKERS]


def time_in_turn(
    commands: dict[str, tuple[list[str], dict[str, str]]], rounds: int, warm_up: int
) -> dict[str, float]:
    """Return the median seconds of each process over rounds in turn.

    Args:
        commands: {name: its command, and its environment}.
        rounds: Those that count.
        warm_up: Rounds before, which do not.
    """
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes: dict[str, Any] = {}
    for name, (command, environment) in commands.items():
        environment = {**os.environ, **environment}
        processes[name] = subprocess.Popen(
            command, env=environment, text=True, bufsize=1, **pipes
        )
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(warm_up + rounds):
        for name, process in processes.items():
            process.stdin.write("go\n")
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f"{name}: the process ended; its message is above")
            seconds[name].append(float(answer))
    for process in processes.values():
        process.communicate()
    return {name: statistics.median(times[warm_up:]) for name, times in seconds.items()}


# The training step.

# {size: n, d, m, k, rounds}
STEPS = {
    FULL: (2048, 768, 8192, 64, 7),
    SHORT: (1024, 256, 2048, 32, 7),
    TINY: (32, 16, 64, 4, 1),
}
# {method: what its step may take of the fastest other library's}
STEP_GOALS = {"topk": 0.5, "reg1": 0.6, "reg2": 0.6, "batch_topk": 0.5}


def time_steps(run: Run) -> list[Comparison]:
    """Time a training step of each method beside steps of other libraries.

    The others have no penalty. They run as they are installed, and once more in large
    pages.
    """
    n, d, m, k, rounds = STEPS[run.size]
    numbers = [str(number) for number in (n, d, m, k, run.threads)]
    peers = ["topk float32 former"] if run.size == TINY else [*workers.OTHERS]
    precisions = ["float32", "bfloat16"]
    if not has_bfloat16("cpu"):
        # Emulated, a step may take minutes.
        precisions.remove("bfloat16")
        peers = [name for name in peers if "autocast" not in name]
    goals = {
        f"{method} {precision}": goal
        for precision in precisions
        for method, goal in STEP_GOALS.items()
    }
    commands: dict[str, tuple[list[str], dict[str, str]]] = {}
    for library in peers:
        command = [*command_of(library), "step", library, *numbers]
        commands[library] = (command, {})
        commands[f"{library}, large pages"] = (command, PAGES)
    for library in goals:
        commands[library] = ([*OURS, "step", library, *numbers], PAGES)
    seconds = time_in_turn(commands, rounds, warm_up=2)
    for name, time in seconds.items():
        print(f"  {name:34}{1e3 * time:9.1f} ms")
    fastest = min(seconds.keys() - goals.keys(), key=seconds.__getitem__)
    shape = f"N {n}, d {d}, m {m}, k {k}"
    return [
        Comparison(
            f"ms a step, {shape}, {name}",
            1e3 * seconds[name],
            fastest,
            1e3 * seconds[fastest],
            goal,
        )
        for name, goal in goals.items()
    ]


# Seconds to the same FVU.


class FitShape(NamedTuple):
    """A training: its images, its SAE, its batches and steps, and rates to try."""

    rows: int
    d: int
    m: int
    k: int
    batch: int
    steps: int
    rates: list[float]

    def __str__(self) -> str:
        """Return the shape as it is printed."""
        sizes = f"N {self.rows}, d {self.d}, m {self.m}, k {self.k}"
        return f"{sizes}, {self.steps} steps of {self.batch}"


class Fit(NamedTuple):
    """One training.

    Attributes:
        curve: (looks, 2) seconds of training and validation FVU.
        dead: The share of latents that never fire on training images.
    """

    curve: np.ndarray
    dead: float

    @property
    def end(self) -> float:
        """The validation FVU at the end; infinite if it diverged."""
        return float(np.nan_to_num(self.curve[-1, 1], nan=np.inf))

    def seconds_to(self, fvu: float) -> float:
        """Return the seconds until the FVU is this or less; infinite if it never is."""
        is_there = self.curve[:, 1] <= fvu
        return float(self.curve[is_there.argmax(), 0]) if is_there.any() else np.inf


SMALL = FitShape(6000, 320, 1024, 32, 512, 200, [0.003, 0.005, 0.01, 0.02, 0.05])
FIT_SHAPES = {
    FULL: [
        SMALL,
        # An epoch.
        FitShape(
            *(100_000, 768, 8192, 32, 512, 195), [0.001, 0.002, 0.003, 0.005, 0.01]
        ),
    ],
    SHORT: [SMALL._replace(rates=[0.005, 0.01])],
    TINY: [FitShape(300, 16, 64, 4, 50, 20, [0.001])],
}
FORMER = "ours, former recipe"
OUR_FITS = {
    "ours": "topk float32",
    **({"ours, bfloat16": "topk bfloat16"} if has_bfloat16("cpu") else {}),
    FORMER: "topk float32 former",
}
MOST_DEAD = 0.1
FIT_GOAL = 0.6  # of the fastest other library's seconds


def time_to_fvu(run: Run) -> list[Comparison]:
    """Time ours and other libraries to the same validation FVU.

    A fast step is worth little if it learns little. So each library trains a Top-k SAE,
    without a penalty, on the same generated embeddings (total variance 1) in the same
    batches, at each of a list of learning rates, with the same schedule: constant, then
    to 0 over the last fifth. Chosen is the rate with the lowest validation FVU at the
    end; of ours only among rates at which at most a tenth of the latents never fire on
    training images. The FVU to reach is the worst of those, in any round; the seconds
    are medians of rounds in turn at the chosen rates.
    """
    rounds = 3 if run.size == FULL else 1
    peers = [FORMER] if run.size == TINY else [*workers.REQUIREMENTS]
    comparisons = []
    curves_by_shape = []
    for shape in FIT_SHAPES[run.size]:
        with tempfile.NamedTemporaryFile(suffix=".pt") as embeddings:
            torch.save(generate_embeddings(shape.rows, shape.d), embeddings.name)
            fits = fit_all([*OUR_FITS, *peers], shape, run, embeddings.name, rounds)
        to_reach = max(fit.end for of_one in fits.values() for fit in of_one)
        seconds = {}
        end = {}
        print(f"{shape}; FVU to reach {to_reach:.4f}")
        for name, of_one in fits.items():
            seconds[name] = statistics.median(
                fit.seconds_to(to_reach) for fit in of_one
            )
            end[name] = statistics.median(fit.end for fit in of_one)
            dead = statistics.median(fit.dead for fit in of_one)
            text = f"{seconds[name]:7.2f} s; at the end {end[name]:.4f}"
            print(f"  {name:22}{text}, {dead:.1%} dead", flush=True)
        fastest = min(peers, key=seconds.__getitem__)
        lowest = min(peers, key=end.__getitem__)
        for name in OUR_FITS:
            quantity = f"s to an FVU of {to_reach:.4f}, {shape}, {name}"
            of_seconds = (seconds[name], fastest, seconds[fastest], FIT_GOAL)
            comparisons.append(Comparison(quantity, *of_seconds))
            quantity = f"FVU at the end, {shape}, {name}"
            of_end = (end[name], lowest, end[lowest], 1.0)
            comparisons.append(Comparison(quantity, *of_end))
        curves = {
            name: np.median([fit.curve for fit in of_one], axis=0)
            for name, of_one in fits.items()
        }
        curves_by_shape.append((shape, curves))
    draw_curves(curves_by_shape, run.out)
    return comparisons


def fit_all(
    names: list[str], shape: FitShape, run: Run, embeddings_file: str, rounds: int
) -> dict[str, list[Fit]]:
    """Train in turn, each library at its best rate, round after round.

    Args:
        names: Of `OUR_FITS`, and other libraries.
        shape: The training.
        run: With the threads.
        embeddings_file: Of :func:`generate_embeddings`, saved by torch.
        rounds: How often, after the rates were chosen.
    """

    def fit(name: str, rate: float) -> Fit:
        library = OUR_FITS.get(name, name)
        numbers = [shape.m, shape.k, run.threads, shape.batch, shape.steps, rate]
        command = [*command_of(library), "fit", library, embeddings_file]
        environment = {**os.environ, **(PAGES if name in OUR_FITS else {})}
        process = subprocess.run(
            [*command, *map(str, numbers)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.returncode:
            sys.exit(f"{name}: the process ended; its message is above")
        answer = json.loads(process.stdout)
        return Fit(np.array(answer["curve"]), answer["dead"])

    def loss(name: str, rate: float) -> tuple[bool, float]:
        fit_at_rate = fit(name, rate)
        has_too_many_dead = name in OUR_FITS and fit_at_rate.dead > MOST_DEAD
        return has_too_many_dead, fit_at_rate.end

    rates = {
        name: min(shape.rates, key=functools.partial(loss, name)) for name in names
    }
    print(f"best rates: {rates}", flush=True)
    fits: dict[str, list[Fit]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, rate in rates.items():
            fits[name].append(fit(name, rate))
    return fits


def generate_embeddings(rows: int, d: int) -> dict[str, torch.Tensor]:
    """Generate embeddings of two splits, scaled as the trainer scales them.

    Returns:
        {"train": (rows, d), "val": a fifth of that}: unit rows times one factor, with
        which the total variance of train is 1.
    """
    from sae.data import synthetic

    world = synthetic.world(d, 4 * d, classes=10)
    splits = {}
    for split, count in (("train", rows), ("val", min(rows // 5, 2000))):
        chunks = [chunk for chunk, _ in synthetic.chunks(world, split, count)]
        x = np.concatenate(chunks).astype(np.float64)
        splits[split] = x / np.linalg.norm(x, axis=1, keepdims=True)
    scale = np.sqrt(splits["train"].var(axis=0).sum())
    return {split: torch.from_numpy(x / scale).float() for split, x in splits.items()}


def draw_curves(
    shapes: list[tuple[FitShape, dict[str, np.ndarray]]], out: Path
) -> None:
    """Draw FVU against seconds, a panel per shape, as time_to_fvu.png.

    Args:
        shapes: Of each shape {library: (looks, 2) seconds and FVU}.
        out: A folder.
    """
    from sae.report import style

    own_colors = {"ours": "k", "ours, bfloat16": "C3", FORMER: "k"}
    others = [name for name in shapes[0][1] if name not in OUR_FITS]
    colors = {name: own_colors[name] for name in OUR_FITS}
    colors |= {name: f"C{place}" for place, name in enumerate(others)}
    line_styles = {name: ":" if name == FORMER else "-" for name in colors}
    with style.plt.rc_context(style.RC):
        size = (style.WIDTH, 3.2)
        figure, axes = style.plt.subplots(
            1, len(shapes), figsize=size, squeeze=False, layout="constrained"
        )
        for ax, (shape, curves) in zip(axes[0], shapes, strict=True):
            for library, curve in curves.items():
                ax.plot(*curve.T, line_styles[library], color=colors[library])
            title = f"{shape.rows:,} images, d = {shape.d}, m = {shape.m:,}"
            ax.set(title=title, xlabel="seconds", xscale="log")
        axes[0, 0].set_ylabel("validation FVU")
        entries = [
            style.reference(library, color=color, linestyle=line_styles[library])
            for library, color in colors.items()
        ]
        style.legend(figure, entries)
        style.save(figure, out, "time_to_fvu")


# From image files to embeddings.

CONVOLUTIONAL = [f"tf_efficientnet_lite{number}" for number in range(3)]
VIT = "vit_small_patch16_224"
# {size: models, images, rounds}
EXTRACTIONS = {
    FULL: ([*CONVOLUTIONAL, VIT], 500, 5),
    SHORT: ([*CONVOLUTIONAL, VIT], 250, 5),
    TINY: (["test_efficientnet", "test_vit"], 8, 1),
}
EXTRACTION_GOAL = 1 / 3
# {a loop: its environment}
LOOPS = {
    "ours": PAGES,
    "plain": {"THP_MEM_ALLOC_ENABLE": "0"},
    "plain, large pages": PAGES,
}


def time_embedding(run: Run) -> list[Comparison]:
    """Time the way from image files to embeddings, beside the loop one writes first.

    Images are crops of photographs: PNG of 64 pixels, seen at 96, for convolutional
    models; JPEG of 500 x 375, seen at 224, for a ViT. The plain loop runs as one starts
    it, and once more in large pages.
    """
    models, most_images, rounds = EXTRACTIONS[run.size]
    comparisons = []
    for model in models:
        count = most_images
        if model == VIT:
            # It is slow; still a batch of 16 for each core.
            count = max(16 * run.threads, most_images // 16)
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), count, is_large="vit" in model)
            commands = {
                loop: (
                    [*OURS, "embed", loop, model, "96", folder, str(run.threads)],
                    environment,
                )
                for loop, environment in LOOPS.items()
            }
            seconds = time_in_turn(commands, rounds, warm_up=1)
            ours = np.load(f"{folder}/ours.npy")
            plain = np.load(f"{folder}/plain.npy")
        seconds = {loop: 1000 * time / count for loop, time in seconds.items()}
        lengths = np.linalg.norm(plain, axis=1)
        distance = (np.linalg.norm(ours - plain, axis=1) / lengths).max()
        print(f"{model}, {count} images: within {distance:.1e} of the plain loop's")
        for loop in ("plain", "plain, large pages"):
            quantity = f"s for 1,000 images, {model}"
            pair = (seconds["ours"], loop, seconds[loop])
            comparisons.append(Comparison(quantity, *pair, EXTRACTION_GOAL))
    return comparisons


def write_images(folder: Path, count: int, *, is_large: bool) -> None:
    """Write crops of photographs: JPEG of 500 x 375, like ImageNet's, or small PNG."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    for i in range(count):
        x = int(rng.integers(140))
        y = int(rng.integers(52))
        crop = photographs[i % len(photographs)].crop((x, y, x + 500, y + 375))
        if is_large:
            crop.save(folder / f"{i}.jpg", quality=90)
        else:
            crop.resize((64, 64)).save(folder / f"{i}.png")


def measure_growth(run: Run) -> list[Comparison]:
    """Measure how cost grows with images and with SAEs, as `_growth.py` says."""
    pairs = _growth.measure(run.size, run.threads, run.out / f"growth_{run.size}")
    return [Comparison(*pair, _growth.GOAL) for pair in pairs]


COMMANDS: dict[str, Callable[[Run], list[Comparison]]] = {
    "step": time_steps,
    "fvu": time_to_fvu,
    "embed": time_embedding,
    "growth": measure_growth,
}

if __name__ == "__main__":
    main()
