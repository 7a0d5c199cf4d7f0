"""How cost grows with images and with SAEs: `python bench/performance.py growth`.

For each number of training images it writes a store of generated embeddings (d = 320;
val and test have 1/25 of its rows each), and trains and scores a bank of 3 SAEs and one
of 30 by the workflow's own commands: one epoch, m = 512, k = 16. The 3 are the
baseline, Reg. 1 and Reg. 2; the 30 are two seeds of the baseline and of both penalties
at 7 lambdas. Beyond what a step takes on 1,000 rows (its start),

- images: the seconds at the largest size are compared with those of the size before in
  proportion to the rows;
- SAEs: the seconds for 30 with ten times those for 3.

Starts vary from run to run, so what takes less than three times its start is not
compared. All times are written to times.csv. The whole takes about an hour and a half
on 2 cores.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sae.config.load import read_config
from sae.data import synthetic

ROOT = Path(__file__).parent.parent
# At the end: a folder such as tests/bank is not to stand for a module of ours.
sys.path.append(str(ROOT / "tests"))

START = 1_000  # rows of the run that tells a step's start
SHARE = 25  # rows for each row of val, and of test, as ImageNet has
FEW = 3
MANY = 30
# {SAEs: seeds, lambdas of each penalty}
BANKS: dict[int, tuple[int, list[float]]] = {
    FEW: (1, []),
    MANY: (2, [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]),
}
# {size: {SAEs: rows}, rounds}
SIZES: dict[str, tuple[dict[int, list[int]], int]] = {
    "full": (
        {FEW: [10_000, 100_000, 300_000, 1_000_000], MANY: [10_000, 100_000, 300_000]},
        2,
    ),
    "short": ({FEW: [2_000, 20_000], MANY: [2_000, 20_000]}, 1),
    "tiny": ({FEW: [2_000]}, 1),
}
SHAPE = {"d": 320, "concepts": 1024, "classes": 100, "k": 16}
TINY_SHAPE = {"d": 16, "concepts": 32, "classes": 5, "k": 4}
TINY_RECIPE = {"m": 32, "batch_size": 256, "auxk_k": 8}
GOAL = 1.1  # of proportional
LEAST = 3.0  # times its start: what takes less tells little
PENALTIES = {"topk": None, "reg1": "off_support_l1", "reg2": "l1_l2_ratio"}
METRICS = ["firing", "independent", "latents", "monosemanticity", "reconstruction"]
# What is measured, ours, beside what, its value.
Pair = tuple[str, float, str, float]


def measure(size: str, threads: int, folder: Path) -> list[Pair]:
    """Run every step at every size, and compare the two largest.

    Args:
        size: Of `SIZES`.
        threads: Of each step.
        folder: For stores and banks, which are made anew, and times.csv.
    """
    rows_by_bank, rounds = SIZES[size]
    shape = TINY_SHAPE if size == "tiny" else SHAPE
    recipe = read_config(ROOT / "config.yaml").training["small"].model_dump()
    recipe = {**recipe, "epochs": 1, **(TINY_RECIPE if size == "tiny" else {})}
    shutil.rmtree(folder, ignore_errors=True)
    times = []
    # All sizes in turn, round after round, since a machine's speed drifts.
    for round_number in range(rounds):
        for rows in [START, *rows_by_bank[FEW]]:
            place = folder / f"{rows}_{round_number}"
            for saes, step, command in commands(
                place, rows, rows_by_bank, shape, recipe, threads
            ):
                started = time.perf_counter()
                subprocess.run(command, check=True)
                seconds = time.perf_counter() - started
                times.append((rows, saes, step, seconds))
                print(f"  {rows:>9,} {saes:>3} {step:<6}{seconds:9.1f} s", flush=True)
            shutil.rmtree(place)
    columns = ["rows", "saes", "step", "seconds"]
    by_step = pd.DataFrame(times, columns=columns).groupby(columns[:3], sort=False)
    table = by_step.median().reset_index()
    table.to_csv(folder / "times.csv", index=False)
    return [*compare_rows(table), *compare_saes(table)]


def commands(
    folder: Path,
    rows: int,
    rows_by_bank: dict[int, list[int]],
    shape: dict[str, int],
    recipe: dict[str, Any],
    threads: int,
) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (SAEs, step, command) of one number of images.

    Args:
        folder: Where they write.
        rows: Training images.
        rows_by_bank: {SAEs: numbers of images at which they are measured}.
        shape: d, concepts, classes, k.
        recipe: The options of training.
        threads: Of each command.
    """
    store = folder / "store"
    sizes = [rows, rows // SHARE, shape["d"], shape["concepts"], shape["classes"]]
    imports = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
    call = f"_growth.write_generated_store(*{sizes}, {str(store)!r})"
    yield 0, "cache", [sys.executable, "-c", f"{imports}; import _growth; {call}"]

    sae = [sys.executable, "-m", "sae"]
    reads = ["--activations", str(store), "--threads", str(threads)]
    metrics: dict[str, dict] = {name: {} for name in METRICS}
    for saes, measured_rows in rows_by_bank.items():
        if rows not in (START, *measured_rows):
            continue
        bank = folder / str(saes)
        scores = bank / "scores"
        of_bank = ["--bank", str(bank / "bank.json"), "--settings"]
        plan = bank_plan(saes, shape["k"], recipe)
        train = [*sae, "train", *reads, *of_bank, json.dumps(plan)]
        train += ["--store", str(bank / "saes"), "--scores", str(scores)]
        yield saes, "train", train
        score = [*sae, "score", *reads, *of_bank, json.dumps({"metrics": metrics})]
        yield (
            saes,
            "score",
            [*score, "--stage", "score", "--out", str(scores / "score")],
        )


def write_generated_store(
    rows: int, held_out: int, d: int, concepts: int, classes: int, out: str
) -> None:
    """Write a store, in a process of its own, whose start counts as well."""
    from support.embeddings import write_store

    world = synthetic.world(d, concepts, classes=classes)
    write_store(world, {"train": rows, "val": held_out, "test": held_out}, Path(out))


def bank_plan(saes: int, k: int, recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the plan of a bank of `BANKS`, as `python -m sae train` takes it."""
    seeds, lambdas = BANKS[saes]
    methods: dict[str, dict[str, Any]] = {}
    for name, penalty in PENALTIES.items():
        methods[name] = {
            "objective": "topk",
            "penalty": penalty,
            "mask": "batch_active" if penalty else None,
            "lambda": 0.001 if penalty else None,
            "options": {},
            "recipe": {},
            "sweep": {"lambda": lambdas} if penalty and lambdas else {},
            "at": None,
            "against": "topk" if penalty else None,
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


def compare_rows(times: pd.DataFrame) -> Iterator[Pair]:
    """Yield the two largest sizes of each step and bank, beyond its start."""
    for (step, saes), table in times.groupby(["step", "saes"], sort=False):
        seconds = table.set_index("rows")["seconds"].sort_index()
        if len(seconds) < 3 or seconds.iloc[-2] < LEAST * seconds[START]:
            continue
        work = seconds - seconds[START]
        *_, before, largest = seconds.index
        bank = f", {saes} SAEs" if saes else ""
        yield (
            f"s beyond the start, {step}{bank}, {largest:,} rows",
            work[largest],
            f"in proportion to {before:,} rows",
            work[before] * (largest - START) / (before - START),
        )


def compare_saes(times: pd.DataFrame) -> Iterator[Pair]:
    """Yield the two banks of each step at the largest size that both have."""
    for step, table in times[times["saes"] > 0].groupby("step", sort=False):
        seconds = table.pivot(index="rows", columns="saes", values="seconds")
        in_both = seconds.reindex(columns=[FEW, MANY]).dropna()
        if in_both.empty or in_both[FEW].iloc[-1] < LEAST * seconds[FEW][START]:
            continue
        work = in_both.iloc[-1] - seconds[FEW][START]
        yield (
            f"s beyond the start, {step}, {in_both.index[-1]:,} rows, {MANY} SAEs",
            work[MANY],
            f"{MANY // FEW} x {FEW} SAEs",
            MANY / FEW * work[FEW],
        )
