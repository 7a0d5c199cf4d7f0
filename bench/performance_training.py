"""Figures of training in docs/performance.md.

    python bench/performance_training.py step           # "The training step"
    python bench/performance_training.py time-to-fvu    # "FVU against seconds"
    python bench/performance_training.py accelerator    # "An accelerator"

Other libraries are installed into environments of their own in .cache/bench (a few
minutes, once), and run by `_peers.py`.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import _peers as peers
import _record as record
import numpy as np
import torch
from _command import add_command, add_numbers, run_script
from _record import Comparison

from sae.config.load import read_config
from sae.core import registry
from sae.models.coder import Coder
from sae.training import step as training_step
from sae.training.adam import Adam
from sae.training.loop import remove_parallel, unit_rows_, update
from sae.training.recipe import Settings

ROOT = Path(__file__).parent.parent
METHODS = ("topk", "reg1", "reg2", "batch_topk")
# As our jobs set it (`sae.__main__`): large arrays in large pages.
PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
WORKER = [sys.executable, __file__, "--worker"]
Entries = tuple[ModuleType, ModuleType | None]  # An objective and a penalty.


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    command = add_command(commands, "step", time_steps, writes=True)
    add_numbers(command, n=2048, d=768, m=8192, k=64, rounds=7)
    command.add_argument("--threads", type=int, default=os.cpu_count())
    command.add_argument(
        "--plain",
        action="store_true",
        help="beside a plain step, not beside other libraries",
    )
    command.add_argument("--short", action="store_true", help="a smaller shape")

    command = add_command(commands, "time-to-fvu", time_to_fvu, writes=True)
    add_numbers(command, rounds=3)
    command.add_argument("--threads", type=int, default=os.cpu_count())
    command.add_argument(
        "--figure", type=Path, help="a PNG; by default OUT/time_to_fvu.png"
    )
    command.add_argument(
        "--chosen",
        type=json.loads,
        default=[],
        help="the best rates that a run before printed, a shape each",
    )
    command.add_argument("--short", action="store_true", help="two minutes")

    command = add_command(commands, "accelerator", time_accelerator)
    command.add_argument("--device", default="cuda", help="cuda, mps or cpu")
    add_numbers(command, n=2048, d=1024, m=8192, k=64, steps=50, rows=200_000)
    command.add_argument(
        "--compile", action="store_true", help="also through torch.compile"
    )
    command.add_argument("--backbone", default="vit_large_patch16_224")
    command.add_argument("--batch", type=int, default=256)
    command.add_argument("--size", type=int, default=224, help="pixels of an image")


# The trainers that are timed: ours, and a plain one.

# The values of the recipe `study` of before.
FORMER = {
    "encoder_scale": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "auxk_alpha": 0.125,
    "dead_after": 5000,
}


def settings_of(name: str, recipe: str, **changed: object) -> tuple[Settings, Entries]:
    """Return the settings of a method of config.yaml, and the modules of its entries.

    Args:
        name: The method.
        recipe: One of the config's recipes.
        changed: Options with other values.
    """
    config = read_config(ROOT / "config.yaml")
    method = config.methods[name]
    options = {
        **config.training[recipe].model_dump(),
        **method.recipe,
        "seed": 0,
        "options": method.options,
        "objective": method.objective,
        "penalty": method.penalty,
        "mask": method.mask,
    }
    if method.penalty:
        options["lam"] = 1e-3
    options.update(changed)
    options["auxk_k"] = min(options["auxk_k"], options["m"])

    settings = Settings(**options)
    objective = registry.load("objective", settings.objective)
    penalty = None
    if settings.penalty:
        penalty = registry.load("penalty", settings.penalty)
    return settings, (objective, penalty)


def make_ours(
    x: torch.Tensor, m: int, k: int, name: str, recipe: str, **changed: object
) -> peers.Trainer:
    """Make the step of `sae.training.loop.train`, with AuxK's bookkeeping.

    Args:
        x: (n, d) a batch, which decides d and the initial bias.
        m: Latents.
        k: The budget.
        name: The method.
        recipe: One of the config's recipes.
        changed: Options with other values.
    """
    settings, entries = settings_of(name, recipe, m=m, k=k, **changed)
    coder = Coder(x.shape[1], m, k)
    coder.initialise(x.mean(dim=0), seed=0, encoder_scale=settings.encoder_scale)
    optimiser = Adam(coder.parameters(), settings)
    objective = training_step.start(coder, settings, *entries)

    def train(x: torch.Tensor) -> None:
        loss, _ = objective.loss(x, 1)
        update(coder, optimiser, loss)

    def reconstruct(x: torch.Tensor) -> torch.Tensor:
        return coder.decode(coder.encode(x))

    def set_rate(rate: float) -> None:
        optimiser.lr = rate

    return peers.Trainer(
        train, reconstruct, functools.partial(fires_on, coder), set_rate
    )


def make_plain(x: torch.Tensor, m: int, k: int, lr: float) -> peers.Trainer:
    """Make a step of Top-k as its formulas stand: dense products, Adam not fused."""
    coder = Coder(x.shape[1], m, k)
    coder.initialise(x.mean(dim=0), seed=0)
    optimiser = torch.optim.Adam(coder.parameters(), lr=lr)

    def reconstruct(x: torch.Tensor) -> torch.Tensor:
        activations = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
        values, indices = activations.topk(k, dim=1)
        codes = torch.zeros_like(activations).scatter(1, indices, values)
        return codes @ coder.W_dec + coder.b_dec

    def train(x: torch.Tensor) -> None:
        loss = (x - reconstruct(x)).square().sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        remove_parallel(coder.W_dec)
        optimiser.step()
        unit_rows_(coder.W_dec)

    set_rate = functools.partial(peers.set_rate_of, optimiser)
    return peers.Trainer(
        train, reconstruct, functools.partial(fires_on, coder), set_rate
    )


def fires_on(coder: Coder, x: torch.Tensor) -> torch.Tensor:
    """Return (m,) which latents fire on some of the rows `x` (n, d)."""
    return torch.from_numpy(coder.firing_counts(x) > 0)


def work(kind: str, name: str, *arguments: str) -> None:
    """Do for our steps what `_peers.py` does for those of others.

    Args:
        kind: "time" or "fit".
        name: "METHOD PRECISION", "METHOD PRECISION former" with the recipe of before,
            or "plain".
        arguments: As `_peers.py` takes them.
    """
    torch.set_deterministic_debug_mode("error")
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False

    def make(x: torch.Tensor, m: int, k: int, lr: float) -> peers.Trainer:
        if name == "plain":
            return make_plain(x, m, k, lr)
        method, precision, *former = name.split()
        if kind == "time":
            # As long as no latent is dead.
            changed = {"precision": precision, "dead_after": 10**9}
            return make_ours(x, m, k, method, "paper", **changed)
        changed = {"lr": lr, "precision": precision}
        if former:
            changed.update(FORMER)
        return make_ours(x, m, k, method, "study", **changed)

    peers.KINDS[kind](make, *arguments)


def python_with(library: str) -> Path:
    """Return the Python of an environment that holds a library.

    The environment is made if it is not there.
    """
    folder = ROOT / ".cache/bench" / library
    python = folder / "bin/python"
    is_complete = folder / ".complete"
    if not is_complete.exists():
        requirement = peers.REQUIREMENTS[library]
        place = folder.relative_to(ROOT)
        print(f"installing {requirement} into {place} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        # The library alone is compared.
        our_torch = f"torch=={torch.__version__.partition('+')[0]}"
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, our_torch, requirement], check=True)
        is_complete.touch()
    return python


PEERS_SCRIPT = str(Path(__file__).with_name("_peers.py"))


# The training step.

# Of the fastest peer's step.
STEP_TARGETS = {"topk": 0.5, "batch_topk": 0.5, "reg1": 0.6, "reg2": 0.6}
SHORT_STEP = {"n": 1024, "d": 256, "m": 2048, "k": 32}
TINY_STEP = {"n": 32, "m": 64, "d": 16, "rounds": 3, "k": 4, "plain": True}


def time_steps(arguments: argparse.Namespace) -> None:
    """Time a training step of each method beside steps of other libraries.

    It is behind the first table of "The training step" of docs/performance.md, and the
    row of `--short` in the second; `make bench` runs that.

    The others have no regularizer. Each has a process of its own; they are timed in
    turn, round after round, on the same batch, so that a machine whose speed drifts
    slows all of them. What counts is the ratio of the medians. `--plain` compares with
    a plain step in PyTorch alone: dense products and autograd for everything, Adam not
    fused.
    """
    if arguments.short:
        vars(arguments).update(SHORT_STEP)
    if arguments.tiny:
        vars(arguments).update(TINY_STEP)
    n = arguments.n
    d = arguments.d
    m = arguments.m
    k = arguments.k
    numbers = list(map(str, (n, d, m, k, arguments.threads)))

    commands = {}
    if arguments.plain:
        commands["plain"] = [*WORKER, "time", "plain", *numbers]
    else:
        for name in peers.MAKERS:
            python = str(python_with(name.split()[0]))
            commands[name] = [python, PEERS_SCRIPT, "time", name, *numbers]
        for name in peers.MAKERS:
            commands[f"{name}, large pages"] = commands[name]
    peer_names = list(commands)
    method_of = {
        f"{method} {precision}": method
        for precision in ("float32", "bfloat16")
        for method in METHODS
    }
    for name in method_of:
        commands[name] = [*WORKER, "time", name, *numbers]

    medians = time_in_turn(commands, arguments.rounds)
    fastest = min(peer_names, key=medians.__getitem__)
    machine = record.machine(arguments.threads)
    shape = f"N {n}, d {d}, m {m}, k {k}"
    print(f"{machine}\n{shape}; median ms of {arguments.rounds} steps, in turn")
    for name, ms in medians.items():
        print(f"  {name:34}{ms:9.1f}   {ms / medians[fastest]:5.2f} of {fastest}")
    comparisons = [
        Comparison(
            goal="1",
            quantity=f"ms a step, {shape}, {name}",
            ours=medians[name],
            peer=fastest,
            peer_value=medians[fastest],
            target=STEP_TARGETS[method],
            machine=machine,
        )
        for name, method in method_of.items()
    ]
    record.write(arguments.out, f"train_step_{d}x{m}", comparisons)


def time_in_turn(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of a step of each process.

    The first two rounds do not count. Other libraries run as they are installed, unless
    their name ends in "large pages".
    """
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "bufsize": 1,
    }
    processes = {}
    for name, command in commands.items():
        environment = dict(os.environ)
        if name not in peers.MAKERS:
            environment.update(PAGES)
        processes[name] = subprocess.Popen(command, env=environment, **pipes)

    times: dict[str, list[float]] = {name: [] for name in commands}
    for round_number in range(rounds + 2):
        for name, process in processes.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("step\n")
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f"{name}: the process ended; its message is above")
            if round_number > 1:
                times[name].append(float(answer))
    for process in processes.values():
        process.communicate()
    return {name: statistics.median(ms) for name, ms in times.items()}


# Seconds to the same FVU.


class FitShape(NamedTuple):
    """The training that is timed: its images, its SAE, its batches and steps."""

    rows: int
    d: int
    m: int
    k: int
    batch: int
    steps: int

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
        """The validation FVU at the end."""
        return float(self.curve[-1, 1])

    def seconds_to(self, fvu: float) -> float:
        """Return the seconds until the FVU is this or less; infinite if it never is."""
        for seconds, fvu_then in self.curve.tolist():
            if fvu_then <= fvu:
                return seconds
        return float("inf")


FIT_SHAPES = [
    FitShape(6000, 320, 1024, 32, 512, 200),
    FitShape(100_000, 768, 8192, 32, 512, 195),  # An epoch.
]
TINY_FIT = FitShape(300, 16, 64, 4, 50, 20)
# Of each shape.
RATES = [[0.003, 0.005, 0.01, 0.02, 0.05], [0.001, 0.002, 0.003, 0.005, 0.01]]
MOST_DEAD = 0.1
FIT_TARGET = 0.6  # of the fastest peer's seconds
OURS = {
    "ours": "topk float32",
    "ours, bfloat16": "topk bfloat16",
    "ours, former recipe": "topk float32 former",
}


def time_to_fvu(arguments: argparse.Namespace) -> None:
    """Time ours and other libraries to the same validation FVU.

    It is behind both tables and the figure of "FVU against seconds" of
    docs/performance.md; `make bench` runs the short form.

    A fast step is worth little if it learns little. So each library trains a Top-k SAE,
    without a regularizer, on the same generated embeddings (total variance 1) in the
    same batches, at two shapes, at each of a list of learning rates, with the same
    schedule: constant, then to 0 over the last fifth. Chosen is the rate with the
    lowest validation FVU at the end; of ours only among rates at which at most a tenth
    of the latents never fire on training images. The FVU to reach is the worst of
    those, in any round; the seconds are medians of rounds in turn at the chosen rates.
    Time spent on looking at the FVU does not count. Ours trains by the recipe `study`,
    once more with bfloat16 products, and once more by its values of before. `--tiny`
    runs beside a plain loop in PyTorch instead of other libraries.
    """
    shapes = FIT_SHAPES
    rates = RATES
    rounds = arguments.rounds
    if arguments.short:
        shapes = FIT_SHAPES[:1]
        rates = [[0.005, 0.01]]
        rounds = 1
    if arguments.tiny:
        shapes = [TINY_FIT]
        rates = [[0.001]]
        rounds = 1

    commands = {name: [*WORKER, "fit", variant] for name, variant in OURS.items()}
    if arguments.tiny:
        commands["plain"] = [*WORKER, "fit", "plain"]
    else:
        for name in peers.REQUIREMENTS:
            commands[name] = [str(python_with(name)), PEERS_SCRIPT, "fit", name]
    lacking = {
        name
        for rates_of_shape in arguments.chosen
        for name in commands.keys() - rates_of_shape.keys()
    }
    if lacking:
        sys.exit(f"error: --chosen lacks {', '.join(sorted(lacking))}")

    machine = record.machine(arguments.threads)
    print(machine)
    comparisons = []
    curves_by_shape = []
    for shape, listed_rates, chosen_rates in itertools.zip_longest(
        shapes, rates, arguments.chosen[: len(shapes)]
    ):
        with tempfile.NamedTemporaryFile(suffix=".pt") as embeddings:
            torch.save(generate_embeddings(shape.rows, shape.d), embeddings.name)
            runner = FitRunner(shape, commands, arguments.threads, embeddings.name)
            best = chosen_rates or runner.choose_rates(listed_rates)
            text = json.dumps(best)
            print(f"best rates: {text}; now the rounds that are timed", flush=True)
            fits_by_library = runner.repeat(best, rounds)
        comparisons += report_fits(shape, fits_by_library, best, machine)
        curves = {
            name: np.median([fit.curve for fit in repeated], axis=0)
            for name, repeated in fits_by_library.items()
        }
        curves_by_shape.append((shape, curves))

    record.write(arguments.out, "time_to_fvu", comparisons)
    figure = arguments.figure or arguments.out / "time_to_fvu.png"
    draw_curves(curves_by_shape, figure.parent, figure.stem)


class FitRunner(NamedTuple):
    """Trains each library's SAE on the same embeddings, each in a process of its own.

    Attributes:
        shape: The training.
        commands: {library: the command, without its numbers}.
        threads: Of each process.
        embeddings_file: Of :func:`generate_embeddings`, saved by torch.
    """

    shape: FitShape
    commands: dict[str, list[str]]
    threads: int
    embeddings_file: str

    def run(self, library: str, rate: float) -> Fit:
        """Train at a learning rate. The program ends if the process fails."""
        shape = self.shape
        numbers = [shape.m, shape.k, self.threads, shape.batch, shape.steps, rate]
        command = [*self.commands[library], self.embeddings_file, *map(str, numbers)]
        environment = dict(os.environ)
        if library in OURS:
            environment.update(PAGES)
        process = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True
        )
        if process.returncode:
            sys.exit(f"{library}: the process ended; its message is above")
        answer = json.loads(process.stdout)
        return Fit(np.array(answer["curve"]), answer["dead"])

    def choose_rates(self, rates: list[float]) -> dict[str, float]:
        """Return the best rate of each library."""

        def loss(library: str, rate: float) -> tuple[bool, float]:
            fit = self.run(library, rate)
            too_many_dead = library in OURS and fit.dead > MOST_DEAD
            return too_many_dead, fit.end if np.isfinite(fit.end) else np.inf

        return {
            library: min(rates, key=functools.partial(loss, library))
            for library in self.commands
        }

    def repeat(self, rates: dict[str, float], rounds: int) -> dict[str, list[Fit]]:
        """Train all libraries in turn, each at its rate, round after round."""
        fits: dict[str, list[Fit]] = {library: [] for library in self.commands}
        for _ in range(rounds):
            for library, rate in rates.items():
                fits[library].append(self.run(library, rate))
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


def report_fits(
    shape: FitShape,
    fits_by_library: dict[str, list[Fit]],
    rates: dict[str, float],
    machine: str,
) -> list[Comparison]:
    """Print a row per library, and compare ours with the best other one."""
    goal = max(fit.end for fits in fits_by_library.values() for fit in fits)
    print(f"{shape}; FVU to reach {goal:.4f}")
    seconds = {}
    end = {}
    for library, fits in fits_by_library.items():
        seconds[library] = float(np.median([fit.seconds_to(goal) for fit in fits]))
        end[library] = float(np.median([fit.end for fit in fits]))
        dead = float(np.median([fit.dead for fit in fits]))
        at_end = f"at the end {end[library]:.4f}, {dead:.1%} dead"
        rate = f"lr {rates[library]:<6g}"
        print(f"  {library:22}{rate}{seconds[library]:7.2f} s; {at_end}")

    peer_names = [library for library in fits_by_library if library not in OURS]
    fastest = min(peer_names, key=seconds.__getitem__)
    lowest = min(peer_names, key=end.__getitem__)
    comparisons = []
    for library in OURS:
        of_seconds = Comparison(
            goal="1",
            quantity=f"s to a validation FVU of {goal:.4f}, {shape}, {library}",
            ours=seconds[library],
            peer=fastest,
            peer_value=seconds[fastest],
            target=FIT_TARGET,
            machine=machine,
        )
        of_end = Comparison(
            goal="1",
            quantity=f"FVU at the end, {shape}, {library}",
            ours=end[library],
            peer=lowest,
            peer_value=end[lowest],
            target=1.0,
            machine=machine,
        )
        comparisons += [of_seconds, of_end]
    return comparisons


def draw_curves(
    shapes: list[tuple[FitShape, dict[str, np.ndarray]]], out: Path, name: str
) -> None:
    """Draw FVU against seconds, a panel per shape, as `out`/`name`.png.

    Args:
        shapes: Of each shape {library: (looks, 2) seconds and FVU}.
        out: A folder.
        name: Of the file.
    """
    from sae.report import style

    libraries = list(shapes[0][1])
    colors = dict(zip(libraries, ("k", "C3", "k", "C0", "C1", "C2"), strict=False))
    line_styles = {name: ":" if "former" in name else "-" for name in colors}
    with style.plt.rc_context(style.RC):
        figure, axes = style.plt.subplots(
            1,
            len(shapes),
            figsize=(style.WIDTH, 3.2),
            squeeze=False,
            layout="constrained",
        )
        for ax, (shape, curves) in zip(axes[0], shapes, strict=True):
            for library, curve in curves.items():
                ax.plot(*curve.T, line_styles[library], color=colors[library])
            ax.set(
                title=f"{shape.rows:,} images, d = {shape.d}, m = {shape.m:,}",
                xlabel="seconds",
                xscale="log",
            )
        axes[0, 0].set_ylabel("validation FVU")
        entries = [
            style.reference(library, color=color, linestyle=line_styles[library])
            for library, color in colors.items()
        ]
        style.legend(figure, entries)
        style.save(figure, out, name)


# An accelerator.

WARM_UP = 5  # steps that do not count
TINY_ACCELERATOR = {
    "device": "cpu",
    "n": 32,
    "d": 16,
    "m": 64,
    "k": 4,
    "steps": 2,
    "rows": 200,
    "backbone": "test_vit",
    "batch": 2,
    "size": 160,
}


def time_accelerator(arguments: argparse.Namespace) -> None:
    """Time a paper-sized step on an accelerator.

    It is named in "An accelerator" of docs/performance.md, and measures what
    workflow/resources/costs.yaml assumes.

    For the baseline, both regularizers and BatchTopK at N = 2048, d = 1024, m = 8192:
    ms a step and samples/s in float32, in bfloat16 and, with `--compile`, compiled. The
    inputs are prepared and lie on the device. On CUDA it also checks that a step never
    waits for the device. Then it times the forward pass of the paper's largest timm
    backbone (random weights) in images/s, and works out from both the hours that the
    whole paper takes.
    """
    if arguments.tiny:
        vars(arguments).update(TINY_ACCELERATOR)
    n = arguments.n
    d = arguments.d
    device = arguments.device
    card = torch.cuda.get_device_name() if device == "cuda" else device
    shape = f"N {n}, d {d}, m {arguments.m}, k {arguments.k}"
    steps = f"median of {arguments.steps} steps"
    print(f"{card}, torch {torch.__version__}, {shape}; {steps}")

    x = torch.nn.functional.normalize(
        torch.randn(arguments.rows, d, device=device), dim=1
    )
    seconds_of = {}
    for precision in ("float32", "bfloat16"):
        for is_compiled in (False, True) if arguments.compile else (False,):
            for method in METHODS:
                seconds = time_step_on(arguments, x, method, precision, is_compiled)
                seconds_of[precision, is_compiled, method] = seconds
                name = f"{precision}, compiled" if is_compiled else precision
                line = f"  {name:20} {method:15} {1e3 * seconds:8.2f} ms"
                print(f"{line} {n / seconds:10,.0f} samples/s", flush=True)
    rate = time_backbone(arguments)
    batch = arguments.batch
    print(f"  {arguments.backbone}, bfloat16, batch {batch}: {rate:,.0f} images/s")

    from sae_workflow import settings

    of_paper = settings.read_config(ROOT / "config.yaml").experiments["paper"].methods
    methods = [method for method in METHODS if method in of_paper]
    mean_seconds = {
        precision: statistics.mean(
            seconds_of[precision, False, method] for method in methods
        )
        for precision in ("float32", "bfloat16")
    }
    print_hours_of_paper(mean_seconds, rate)


def wait_for(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def time_step_on(
    arguments: argparse.Namespace,
    x: torch.Tensor,
    method: str,
    precision: str,
    is_compiled: bool,
) -> float:
    """Return the median seconds of a step, as `sae.training.loop.train` makes it.

    Args:
        arguments: Those of the command.
        x: (rows, d) prepared inputs on the device.
        method: One of the config's methods.
        precision: "float32" or "bfloat16".
        is_compiled: Whether torch.compile has the loss.
    """
    d = arguments.d
    m = arguments.m
    k = arguments.k
    device = arguments.device
    settings, entries = settings_of(method, "paper", m=m, k=k, precision=precision)
    coder = Coder(d, m, k).to(device)
    coder.initialise(x[:1000].mean(dim=0), seed=0)
    optimiser = Adam(coder.parameters(), settings)
    objective = training_step.start(coder, settings, *entries)
    loss_of = torch.compile(objective.loss) if is_compiled else objective.loss
    batches = torch.randperm(arguments.rows, device=device).split(arguments.n)

    seconds = []
    for step_number in range(arguments.steps + WARM_UP):
        batch = x[batches[step_number % (len(batches) - 1)]]
        wait_for(device)
        started = time.perf_counter()
        is_watched = device == "cuda" and step_number >= WARM_UP
        if is_watched:
            # A step that waits for the device is an error.
            torch.cuda.set_sync_debug_mode("error")
        loss, _ = loss_of(batch, 0)
        update(coder, optimiser, loss)
        if is_watched:
            torch.cuda.set_sync_debug_mode("default")
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


@torch.inference_mode()
def time_backbone(arguments: argparse.Namespace) -> float:
    """Return the images per second of a backbone's forward pass."""
    import timm

    device = arguments.device
    size = arguments.size
    # torch's stub lacks `memory_format`.
    model = cast(Any, timm.create_model(arguments.backbone, num_classes=0).eval())
    model.to(device, memory_format=torch.channels_last)
    images = torch.randn(arguments.batch, 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(8):
        wait_for(device)
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            model(images)
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    return arguments.batch / statistics.median(seconds[3:])


def print_hours_of_paper(
    seconds_a_step: dict[str, float], images_a_second: float
) -> None:
    """Print the hours of the experiment `paper` at these rates.

    Args:
        seconds_a_step: {precision: seconds}.
        images_a_second: Of the largest backbone.
    """
    from sae_workflow import costs, settings

    config = settings.read_config(ROOT / "config.yaml")
    embeddings, _ = costs.list_embeddings(config, "paper")
    recipe = config.training[config.experiments["paper"].training]
    steps = 0
    images = 0
    for embedding in embeddings:
        steps_of_sae = recipe.steps_on(embedding.images_by_split["train"])
        for plan in costs.list_plans_on(config, "paper", embedding):
            steps += costs.count_saes(plan) * steps_of_sae
        images += embedding.dataset.image_count
    hours_of_images = images / images_a_second / 3600
    embedding_hours = (
        f"{images:,} embeddings, {hours_of_images:,.1f} hours "
        "if all took as long as this one's"
    )
    for precision, seconds in seconds_a_step.items():
        hours = steps * seconds / 3600
        training = f"{steps:,} steps, {hours:,.1f} hours of training"
        print(f"  paper, {precision}: {training}; {embedding_hours}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        run_script(__doc__, add_commands)
