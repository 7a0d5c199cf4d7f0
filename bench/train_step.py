"""Time one training step of each method beside other libraries' steps without a regularizer: `make bench`, or

    python bench/train_step.py [--n 2048 --d 768 --m 8192 --k 64 --threads 2 --rounds 7]

Each has a process of its own; they are timed in turn, round after round, on the same batch, so that a machine whose
speed drifts slows all of them. What counts is the ratio of the medians. The libraries are installed into environments
of their own in .cache/bench (a few minutes, once). `--plain` compares with a plain step in PyTorch alone: dense
products and autograd for everything, Adam not fused. `--short` takes a smaller shape; `--tiny` seconds, to see that it
runs.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import _peers as peers
import _record as record
import torch

from sae.config.load import read_config
from sae.core import registry
from sae.models.coder import Coder
from sae.training import step
from sae.training.loop import adam, update
from sae.training.recipe import Settings

ROOT = Path(__file__).parent.parent
METHODS = ("topk", "reg1", "reg2", "batch_topk")
TARGETS = {
    "topk": 0.5,
    "batch_topk": 0.5,
    "reg1": 0.6,
    "reg2": 0.6,
}  # of the fastest peer's step
# As our jobs set it (`sae.__main__`): large arrays in large pages.
PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}
SHORT = ["--n", "1024", "--d", "256", "--m", "2048", "--k", "32"]
TINY = ["--n", "32", "--m", "64", "--d", "16", "--rounds", "3", "--k", "4", "--plain"]
Entries = tuple[ModuleType, ModuleType | None]  # An objective and a penalty.


class Shape(NamedTuple):
    """Of what is timed."""

    n: int
    d: int
    m: int
    k: int
    threads: int


def settings_of(name: str, recipe: str, **changed: object) -> tuple[Settings, Entries]:
    """Settings of a method of config.yaml, by one of its recipes, and the modules of its entries."""
    config = read_config(ROOT / "config.yaml")
    method = config.methods[name]
    values = (
        config.training[recipe].model_dump()
        | method.recipe
        | {"seed": 0, "options": method.options}
    )
    values |= {
        "objective": method.objective,
        "penalty": method.penalty,
        "mask": method.mask,
    }
    values |= ({"lam": 1e-3} if method.penalty else {}) | changed
    s = Settings(**values | {"auxk_k": min(values["auxk_k"], values["m"])})
    return s, (
        registry.load("objective", s.objective),
        registry.load("penalty", s.penalty) if s.penalty else None,
    )


def ours(
    x: torch.Tensor, m: int, k: int, name: str, recipe: str, **changed: object
) -> peers.Trainer:
    """The step of `sae.training.loop.train`, with AuxK's bookkeeping."""
    s, entries = settings_of(name, recipe, m=m, k=k, **changed)
    coder = Coder(x.shape[1], m, k)
    coder.initialise(x.mean(dim=0), seed=0, encoder_scale=s.encoder_scale)
    optimiser = adam(coder.parameters(), s)
    objective = step.start(coder, s, *entries)

    def train(x: torch.Tensor) -> None:
        update(coder, optimiser, objective.loss(x, 1)[0])

    return peers.Trainer(
        train,
        lambda x: coder.decode(coder.encode(x)),
        functools.partial(fires, coder),
        optimiser,
    )


def fires(coder: Coder, x: torch.Tensor) -> torch.Tensor:
    """(m,) which latents do on some of the rows `x`."""
    return torch.from_numpy(coder.firing_counts(x) > 0)


def plain(x: torch.Tensor, m: int, k: int, lr: float) -> peers.Trainer:
    """Top-k as its formulas stand."""
    coder = Coder(x.shape[1], m, k)
    coder.initialise(x.mean(dim=0), seed=0)
    optimiser = torch.optim.Adam(coder.parameters(), lr=lr)

    def reconstruct(x: torch.Tensor) -> torch.Tensor:
        a = torch.relu((x - coder.b_dec) @ coder.W_enc + coder.b_enc)
        values, indices = a.topk(k, dim=1)
        return (
            torch.zeros_like(a).scatter(1, indices, values) @ coder.W_dec + coder.b_dec
        )

    def step(x: torch.Tensor) -> None:
        update(coder, optimiser, (x - reconstruct(x)).square().sum(dim=1).mean())

    return peers.Trainer(step, reconstruct, functools.partial(fires, coder), optimiser)


# The recipe of before: what the bench of seconds to an FVU compares with.
FORMER = {
    "encoder_scale": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "auxk_alpha": 0.125,
    "dead_after": 5000,
}


def work(kind: str, name: str, *arguments: str) -> None:
    """As `_peers.py` does for others: steps of ours ("METHOD PRECISION", of before: "... former"), or of `plain`."""
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    method, precision, *former = name.split() if name != "plain" else [name, ""]

    def make(x: torch.Tensor, m: int, k: int, lr: float) -> peers.Trainer:
        if name == "plain":
            return plain(x, m, k, lr)
        if kind == "time":  # As long as no latent is dead.
            return ours(x, m, k, method, "paper", precision=precision, dead_after=10**9)
        return ours(
            x,
            m,
            k,
            method,
            "study",
            lr=lr,
            precision=precision,
            **(FORMER if former else {}),
        )

    peers.KINDS[kind](make, *arguments)


def environment(library: str) -> Path:
    """The Python of an environment that holds a library; made if it is not there."""
    folder = ROOT / ".cache/bench" / library
    python = folder / "bin/python"
    if not (folder / ".complete").exists():
        print(
            f"installing {peers.REQUIREMENTS[library]} into {folder.relative_to(ROOT)} ...",
            flush=True,
        )
        venv.create(folder, with_pip=True, clear=True)
        same = f"torch=={torch.__version__.partition('+')[0]}"  # The library alone is compared.
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            same,
            peers.REQUIREMENTS[library],
        ]
        subprocess.run(command, check=True)
        (folder / ".complete").touch()
    return python


def compare(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """Median milliseconds of a step of each process; the first two rounds do not count.

    Other libraries run as they are installed, unless their name ends in "large pages".
    """
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "bufsize": 1,
    }
    processes = {}
    for name, command in commands.items():
        as_installed = name in peers.MAKERS
        processes[name] = subprocess.Popen(
            command, env={**os.environ, **({} if as_installed else PAGES)}, **pipes
        )
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 2):
        for name, process in processes.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("step\n")
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f"{name}: the process ended; its message is above")
            if number > 1:
                times[name].append(float(answer))
    for process in processes.values():
        process.communicate()
    return {name: statistics.median(ms) for name, ms in times.items()}


def main() -> None:
    """Print a row per step, and write the comparisons with the fastest peer."""
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("n", 2048),
        ("d", 768),
        ("m", 8192),
        ("k", 64),
        ("rounds", 7),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--plain",
        action="store_true",
        help="beside a plain step, not beside other libraries",
    )
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--short", action="store_true", help="a smaller shape")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    if a.tiny or a.short:
        a = parser.parse_args([*(TINY if a.tiny else SHORT), "--out", str(a.out)])
    shape = Shape(a.n, a.d, a.m, a.k, a.threads)
    numbers = list(map(str, shape))
    own = [sys.executable, __file__, "--worker"]
    commands = {"plain": [*own, "time", "plain", *numbers]}
    if not a.plain:
        script = str(Path(__file__).with_name("_peers.py"))
        commands = {
            n: [str(environment(n.split()[0])), script, "time", n, *numbers]
            for n in peers.MAKERS
        }
        commands |= {
            f"{name}, large pages": command for name, command in commands.items()
        }
    ours = {
        f"{name} {precision}": name
        for precision in ("float32", "bfloat16")
        for name in METHODS
    }
    medians = compare(
        commands | {name: [*own, "time", name, *numbers] for name in ours}, a.rounds
    )
    fastest = min(commands, key=medians.__getitem__)
    where = record.machine(a.threads)
    print(
        f"{where}\nN {a.n}, d {a.d}, m {a.m}, k {a.k}; median ms of {a.rounds} steps, in turn"
    )
    for name, ms in medians.items():
        print(f"  {name:34}{ms:9.1f}   {ms / medians[fastest]:5.2f} of {fastest}")
    what = f"ms a step, N {a.n}, d {a.d}, m {a.m}, k {a.k}"
    rows = [
        record.row(
            "1",
            f"{what}, {name}",
            medians[name],
            fastest,
            medians[fastest],
            TARGETS[method],
            where,
        )
        for name, method in ours.items()
    ]
    record.write(a.out, f"train_step_{a.d}x{a.m}", rows)


if __name__ == "__main__":
    main()
