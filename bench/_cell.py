"""One cell of generated embeddings, the workflow's commands on it, and their cost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _support  # noqa: F401
from support.embeddings import write_store

from sae.core import paths, registry
from sae.data import synthetic

# As of a paper-sized bank.
RECIPE: dict[str, Any] = {
    "m": 8192,
    "epochs": 1,
    "batch_size": 2048,
    "lr": 0.001,
    "adam_eps": 6.25e-10,
    "decay_fraction": 0.2,
    "auxk_alpha": 0.03125,
    "auxk_k": 512,
    "dead_after": 100_000,
    "input_norm": "unit_l2",
    "unit_variance": True,
    "tied": False,
    "log_every": 10,
    "precision": "float32",
}
PENALTIES = {"topk": None, "reg1": "off_support_l1", "reg2": "l1_l2_ratio"}
# Ten passes: after them a fit holds all that it will.
PROBE: dict[str, Any] = {"C": [1.0], "max_passes": 10, "max_train": 100_000}

# The other metrics are optional, and earlier commits lack them.
PAPER_METRICS = [
    "firing",
    "independent",
    "latents",
    "monosemanticity",
    "probe",
    "purity",
    "rank_profile",
    "reconstruction",
    "robustness",
]


def write_command(sizes: list[int], store: Path) -> list[str]:
    """Return the command that writes a store of generated embeddings.

    Args:
        sizes: Rows of train, rows of val and of test, d, concepts, classes.
        store: The folder to write.
    """
    imports = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
    call = f"_cell.write_generated_store(*{sizes}, {str(store)!r})"
    return [sys.executable, "-c", f"{imports}; import _cell; {call}"]


def write_generated_store(
    rows: int, held_out: int, d: int, concepts: int, classes: int, out: str
) -> None:
    """Write a store, in a process of its own, since its memory is measured."""
    world = synthetic.world(d, concepts, classes=classes)
    write_store(world, {"train": rows, "val": held_out, "test": held_out}, Path(out))


def bank_plan(
    k: int,
    recipe: dict[str, Any],
    penalties: dict[str, str | None] = PENALTIES,
    seeds: int = 1,
    lambdas: Sequence[float] = (),
) -> dict[str, Any]:
    """Return the plan of a bank, as `python -m sae train` takes it.

    Args:
        k: The budget.
        recipe: The options of training.
        penalties: {method: its penalty, None of the baseline}.
        seeds: How many seeds each method has.
        lambdas: Weights that each penalty sweeps; without any it has one weight.
    """
    methods: dict[str, dict[str, Any]] = {}
    for name, penalty in penalties.items():
        methods[name] = {
            "objective": "topk",
            "penalty": penalty,
            "mask": "batch_active" if penalty else None,
            "lambda": 0.001 if penalty else None,
            "options": {},
            "recipe": {},
            "sweep": {"lambda": list(lambdas)} if penalty and lambdas else {},
            "at": None,
            "against": "topk" if penalty and "topk" in penalties else None,
            "control": False,
        }
    return {
        "dataset": "synthetic",
        "backbone": "synthetic",
        "k": k,
        "seeds": list(range(seeds)),
        "recipe": recipe,
        "methods": methods,
        "protocols": {"paper": {}},
    }


def cell_commands(
    folder: Path,
    store: Path,
    plan: dict[str, Any],
    probe: dict[str, Any],
    threads: int,
    *options: str,
) -> Iterator[tuple[str, list[str]]]:
    """Yield (rule, command) of all that the workflow does with a bank.

    Args:
        folder: Where the commands write.
        store: The embeddings.
        plan: Of :func:`bank_plan`.
        probe: Options of the probes.
        threads: Of each command.
        options: Further words, which the steps of a bank take.
    """
    reads = ["--activations", str(store), "--threads", str(threads)]
    bank = ["--bank", str(folder / "bank.json")]
    scores = folder / "scores"
    sae = [sys.executable, "-m", "sae"]

    train = [*sae, "train", *reads, *options, *bank, "--settings", json.dumps(plan)]
    train += ["--store", str(folder / "saes"), "--scores", str(scores)]
    yield "train", train

    for stage in paths.STAGES:
        metrics = {
            name: probe if name == "probe" else {} for name in paper_metrics_of(stage)
        }
        settings = json.dumps({"metrics": metrics})
        score = [*sae, "score", *reads, *options, *bank, "--settings", settings]
        yield stage, [*score, "--stage", stage, "--out", str(scores / stage)]

    writes = ["--out", str(folder / "embeddings.json")]
    probe_embeddings = [*sae, "probe", *reads, *writes, "--settings", json.dumps(probe)]
    yield "probe_embeddings", probe_embeddings


def paper_metrics_of(stage: str) -> list[str]:
    """Return the names of the paper's metrics that a stage computes."""
    return [
        name
        for name in PAPER_METRICS
        if registry.head("metric", name).constants["STAGE"] == stage
    ]


@dataclass(frozen=True)
class Cost:
    """The cost of a command.

    Attributes:
        seconds: From its start to its end.
        cpu_seconds: Of all its threads.
        peak_gib: Its peak resident memory; a peak below that of the process that
            measures (about 0.35 GiB) reads as that.
        written_gb: Bytes that it wrote to disk.
        stopped: Whether it was stopped before its end.
    """

    seconds: float
    cpu_seconds: float
    peak_gib: float
    written_gb: float
    stopped: bool


def run_measured(
    command: list[str], at_most: float | None = None, cwd: Path | None = None
) -> Cost:
    """Run a command and measure its cost. The program ends if the command fails.

    Args:
        command: The words of the command.
        at_most: Seconds after which it is stopped.
        cwd: Its working directory, if not that of this process.
    """
    started = time.perf_counter()
    is_stopped = False
    process = subprocess.Popen(command, cwd=cwd)
    wait_options = 0 if at_most is None else os.WNOHANG
    while True:
        process_id, status, usage = os.wait4(process.pid, wait_options)
        if process_id:
            break
        time.sleep(0.05)
        is_late = at_most is not None and time.perf_counter() - started > at_most
        if is_late and not is_stopped:
            process.kill()
            is_stopped = True

    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not is_stopped:
        sys.exit(f"failed: {command}")
    return Cost(
        seconds=round(time.perf_counter() - started, 2),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
        peak_gib=round(usage.ru_maxrss / 2**20, 3),
        written_gb=round(usage.ru_oublock * 512 / 1e9, 3),
        stopped=is_stopped,
    )
