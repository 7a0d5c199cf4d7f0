"""One cell of generated embeddings, the workflow's own commands on it, and what each of them takes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
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

PAPERS = [
    "firing",
    "independent",
    "latents",
    "monosemanticity",
    "probe",
    "purity",
    "rank_profile",
    "reconstruction",
]
PAPERS += ["robustness"]


def write_command(sizes: list[int], store: Path) -> list[str]:
    """The command that writes a store; sizes: rows of train, of val and test, d, concepts, classes."""
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import _cell; _cell.write"
    return [sys.executable, "-c", f"{program}(*{sizes}, {str(store)!r})"]


def write(
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
    """The plan of a bank with one SAE of each method and seed, or with one for each of the lambdas."""
    methods: dict[str, dict[str, Any]] = {
        name: {
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
        for name, penalty in penalties.items()
    }
    head = {
        "dataset": "synthetic",
        "backbone": "synthetic",
        "k": k,
        "seeds": list(range(seeds)),
    }
    return head | {"recipe": recipe, "methods": methods, "protocols": {"paper": {}}}


def commands(
    folder: Path,
    store: Path,
    plan: dict[str, Any],
    probe: dict[str, Any],
    options: list[str],
) -> Iterator[tuple[str, list[str]]]:
    """(rule, command) of all that the workflow does with a bank, on the embeddings of `store`; the rest in `folder`."""
    bank, scores = folder / "bank.json", folder / "scores"
    given = ["--activations", str(store), *options]

    def step(name: str, settings: dict[str, Any], *more: object) -> list[str]:
        told = [
            "--bank",
            str(bank),
            "--settings",
            json.dumps(settings),
            *map(str, more),
        ]
        return [sys.executable, "-m", "sae", name, *given, *told]

    yield "train", step("train", plan, "--store", folder / "saes", "--scores", scores)
    for stage in paths.STAGES:
        settings = {
            "metrics": {
                name: probe if name == "probe" else {} for name in metrics(stage)
            }
        }
        yield stage, step("score", settings, "--stage", stage, "--out", scores / stage)
    told = ["--out", str(folder / "embeddings.json"), "--settings", json.dumps(probe)]
    where = [
        "--activations",
        str(store),
        "--threads",
        options[options.index("--threads") + 1],
    ]
    yield "probe_embeddings", [sys.executable, "-m", "sae", "probe", *where, *told]


def metrics(stage: str) -> list[str]:
    """The metrics of a stage that are the paper's: the others are optional, and earlier commits lack them."""
    return [
        name
        for name in PAPERS
        if registry.head("metric", name).constants["STAGE"] == stage
    ]


def measured(
    command: list[str],
    at_most: float | None = None,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run a command: seconds, CPU seconds, its peak resident memory and the bytes it wrote to disk.

    A peak below that of this process (about 0.35 GiB) reads as that.

    Args:
        at_most: seconds after which it is stopped; `stopped` says whether it was.
        cwd, environment: of the command, if not this process's.
    """
    started, stopped = time.perf_counter(), False
    process = subprocess.Popen(command, cwd=cwd, env=environment)
    while not (found := os.wait4(process.pid, 0 if at_most is None else os.WNOHANG))[0]:
        time.sleep(0.05)
        if (
            not stopped
            and at_most is not None
            and time.perf_counter() - started > at_most
        ):
            process.kill()
            stopped = True
    _, status, used = found
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not stopped:
        sys.exit(f"failed: {command}")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_gib": round(used.ru_maxrss / 2**20, 3),
        "written_gb": round(used.ru_oublock * 512 / 1e9, 3),
        "stopped": stopped,
    }
