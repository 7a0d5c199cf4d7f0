"""Figures of whole cells in docs/performance.md, by the workflow's own commands.

    python bench/performance_cells.py cost          # "Growth", two side by side
    python bench/performance_cells.py growth        # "Growth"
    python bench/performance_cells.py paper-sized   # "A cell of the paper on a CPU"
    python bench/performance_cells.py memory        # "Memory"
    python bench/performance_cells.py plan          # "how many jobs" of docs/cluster.md

Embeddings are generated. All run from the project's root.
"""

import argparse
import functools
import io
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import _record as record
import pandas as pd
from _cell import (
    PROBE,
    RECIPE,
    bank_plan,
    cell_commands,
    run_measured,
    write_command,
)
from _command import add_command, add_numbers, run_script
from _record import Comparison
from sae_workflow import costs, needs, settings

from sae.config.load import read_config
from sae.core import files, registry

ROOT = Path(__file__).parent.parent
# Steps that a bank's chosen SAEs alone have, and those that fit probes.
OF_CHOSEN = ("robustness", "probe")
PROBES = ("probe", "probe_embeddings")


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add every command of this script."""
    command = add_command(commands, "cost", print_cost_of_cell)
    add_numbers(command, rows=6000, d=320, m=1024, k=32, rounds=5, epochs=15)
    command.add_argument("--against", help="a commit of this repository")
    command.add_argument(
        "--short", action="store_true", help="one round, few epochs: a minute"
    )

    command = add_command(commands, "growth", measure_growth, writes=True)
    command.add_argument(
        "--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000]
    )
    command.add_argument(
        "--saes", type=int, nargs="+", default=list(BANKS), choices=list(BANKS)
    )
    command.add_argument(
        "--steps",
        nargs="+",
        default=list(STEPS),
        choices=STEPS,
        help="those that they need must be named too, or have run",
    )
    add_numbers(command, rounds=3)
    command.add_argument("--threads", type=int, default=os.cpu_count())
    command.add_argument(
        "--short", action="store_true", help="about a minute and a half"
    )

    command = add_command(commands, "paper-sized", run_paper_sized, writes=True)
    command.add_argument(
        "--rows", type=int, nargs="+", default=[100_000, 300_000, 1_281_167]
    )
    add_numbers(command, share=25, d=1024, k=32, concepts=4096)
    command.add_argument(
        "--whole", action="store_true", help="the recipe `paper` instead of one epoch"
    )
    command.add_argument("--threads", type=int, default=os.cpu_count())
    command.add_argument("--device", default="cpu")

    command = add_command(commands, "memory", measure_memory, writes=True)
    command.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        help="at ImageNet's size; elsewhere one",
    )
    command.add_argument(
        "--imagenet", action="store_true", help="ImageNet's size alone"
    )
    command.add_argument("--short", action="store_true", help="the smallest size alone")

    add_command(commands, "plan", time_planning)


# The cost of one cell.

SWEPT_LAMBDAS = [0.0003, 0.001, 0.003, 0.01]
SIDE_BY_SIDE = "train, two SAEs side by side"
SHORT_COST = {"rounds": 1, "epochs": 3}
TINY_COST = {"rounds": 1, "epochs": 1, "rows": 600, "d": 16, "m": 64, "k": 4}
# {way: {step: seconds of each round}}; a way is "now" or a commit.
Times = dict[str, dict[str, list[float]]]


def print_cost_of_cell(arguments: argparse.Namespace) -> None:
    """Time all steps of a cell.

    It is behind "two processes side by side" in "Growth" of docs/performance.md; `make
    bench` runs the short form.

    The cell has the shape of the embedded experiments (N = 6,000, d = 320, m = 1024, k
    = 32, the recipe `demo`, one thread): the baseline and both regularizers at four
    lambdas, 9 SAEs and the `at` methods, on generated embeddings. Training is timed
    once more with two processes side by side. `--against COMMIT` times another commit
    beside it, whose commands must be the same as today's; the two take turns, step by
    step.
    """
    if arguments.short:
        vars(arguments).update(SHORT_COST)
    if arguments.tiny:
        vars(arguments).update(TINY_COST)
    rows = arguments.rows
    d = arguments.d
    m = arguments.m
    k = arguments.k
    demo = read_config(ROOT / "config.yaml").training["demo"].model_dump()
    changed = {"m": m, "epochs": arguments.epochs, "auxk_k": min(demo["auxk_k"], m)}
    plan = bank_plan(k, {**demo, **changed}, lambdas=SWEPT_LAMBDAS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        code_of = {"now": ROOT}
        if arguments.against:
            code_of[arguments.against] = check_out(arguments.against, folder / "code")
        run_measured(write_command([rows, rows // 5, d, 4 * d, 10], folder / "store"))
        times = time_ways(code_of, plan, folder, arguments.rounds)

    print(record.machine(1))
    shape = f"N {rows}, d {d}, m {m}, k {k}, {arguments.epochs} epochs"
    print(f"{shape}; median s of {arguments.rounds} rounds")
    print_cost(times, saes=1 + 2 * len(SWEPT_LAMBDAS))


def check_out(commit: str, folder: Path) -> Path:
    """Write the library as it was at a commit into a folder, and return the folder."""
    archive_command = ["git", "archive", commit, "sae"]
    process = subprocess.run(archive_command, cwd=ROOT, capture_output=True)
    if process.returncode:
        message = process.stderr.decode().strip()
        needed = "(a clone with its history is needed)"
        sys.exit(f"error: --against {commit}: {message} {needed}")
    with tarfile.open(fileobj=io.BytesIO(process.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def time_ways(
    code_of: dict[str, Path], plan: dict[str, Any], folder: Path, rounds: int
) -> Times:
    """Time every step of a bank by each way in turn, round after round.

    Args:
        code_of: {way: the folder with its library}.
        plan: Of the bank.
        folder: Where embeddings lie, in `store`, and where the bank is made.
        rounds: How often.
    """
    store = folder / "store"
    on_cpu = ("--device", "cpu")
    times: Times = {way: {} for way in code_of}
    for round_number in range(rounds):
        commands_by_way = []
        for way in code_of:
            place = folder / f"{way}{round_number}"
            place.mkdir(exist_ok=True)
            commands_by_way.append(cell_commands(place, store, plan, {}, 1, *on_cpu))
        for steps in zip(*commands_by_way, strict=True):
            for (way, code), (step, command) in zip(
                code_of.items(), steps, strict=True
            ):
                cost = run_measured(command, cwd=code)
                times[way].setdefault(step, []).append(cost.seconds)

        place = folder / f"beside{round_number}"
        place.mkdir()
        two_at_once = (*on_cpu, "--at-once", "2")
        # The first step is the training.
        _, train = next(cell_commands(place, store, plan, {}, 1, *two_at_once))
        cost = run_measured(train, cwd=ROOT)
        times["now"].setdefault(SIDE_BY_SIDE, []).append(cost.seconds)
    return times


def print_cost(times: Times, saes: int) -> None:
    """Print the medians of each step, and SAEs per core-hour."""
    medians = {
        way: {step: statistics.median(seconds) for step, seconds in steps.items()}
        for way, steps in times.items()
    }
    for step in medians["now"]:
        columns = [
            f"{steps[step]:8.2f} {way}"
            for way, steps in medians.items()
            if step in steps
        ]
        print(f"  {step:30}{''.join(columns)}")
    for way, steps in medians.items():
        total = sum(seconds for step, seconds in steps.items() if step != SIDE_BY_SIDE)
        rate = 3600 * saes / total
        print(f"  {way}: {total:.2f} s in all, {rate:.0f} SAEs per core-hour")


# Growth with images and with SAEs.

START = 1_000  # rows of the run that tells a step's start
SHARE = 25  # rows for each row of val, and of test, as ImageNet has
FEW = 3
MANY = 30
# {SAEs: seeds, lambdas of each regularizer}
BANKS: dict[int, tuple[int, list[float]]] = {
    FEW: (1, []),
    MANY: (2, [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]),
}
STEPS = ("cache", "train", "score", *OF_CHOSEN, "probe_embeddings")
GROWTH_TARGET = 1.1  # of proportional
LEAST = 3.0  # times its start: what takes less tells little
SHORT_GROWTH = {"rows": [2_000, 20_000], "steps": STEPS[:4], "rounds": 1}
TINY_GROWTH = {
    "rows": [2_000],
    "saes": [FEW],
    "steps": (*STEPS[:4], "robustness"),
    "rounds": 1,
}
# Okabe and Ito 2008.
STEP_COLORS = {
    "cache": "#999999",
    "train": "#D55E00",
    "score": "#0072B2",
    "robustness": "#CC79A7",
    "probe": "#E69F00",
    "probe_embeddings": "#000000",
}


class GrowthShape(NamedTuple):
    """The sizes that stay as the numbers of images and SAEs grow.

    Attributes:
        d: Dimensions.
        concepts: Of the generator.
        classes: Of the labels.
        k: The budget.
        changed: Options of the recipe `small` with other values.
    """

    d: int
    concepts: int
    classes: int
    k: int
    changed: dict[str, int]


GROWTH_SHAPE = GrowthShape(320, 1024, 100, 16, {})
TINY_SHAPE = GrowthShape(16, 32, 5, 4, {"m": 32, "batch_size": 256, "auxk_k": 8})


class GrowthStep(NamedTuple):
    """A step that is to be measured.

    Attributes:
        rows: Training images.
        saes: In the bank; 0 of the step that writes the store.
        round_number: Each round has a bank of its own, since what is there is not made
            again.
        step: Its name.
        bank: The folder of the bank.
        command: The words of the command.
    """

    rows: int
    saes: int
    round_number: int
    step: str
    bank: Path
    command: list[str]


def measure_growth(arguments: argparse.Namespace) -> None:
    """Measure how cost grows with images and with SAEs.

    It is behind the figure and the table of "Growth" of docs/performance.md; `make
    bench` runs the short form.

    Per number of training images it writes a store of generated embeddings (d = 320;
    val and test have 1/25 of its rows each) and runs every step of the workflow on a
    bank of 3 SAEs and on one of 30: one epoch, m = 512, k = 16. The 3 are the baseline,
    Reg. 1 and Reg. 2; the 30 are two seeds of the baseline and of both regularizers at
    7 lambdas. It draws OUT/growth.png and judges, beyond what a step takes on 1,000
    rows (its start):

    - images: the seconds at the largest size, against those of the size before in
      proportion to the rows;
    - SAEs: the seconds for 30, against ten times those for 3.

    A step of chosen SAEs is judged per chosen SAE. Starts vary from run to run, so what
    takes less than three times its start where it is shorter is not judged. A probe
    reads at most 100,000 training images, so its cost does not grow beyond; it is run
    for 3 SAEs only.

    The whole takes about two hours on 2 cores, half of it for 30 SAEs on a million
    images. Every step is written to OUT/growth/times.csv when it ends, and one that is
    there is not run again: a run that was stopped goes on. Delete the folder to measure
    anew. `--rows`, `--saes`, `--steps` and `--rounds` run a part. `--short`: up to
    20,000 rows, without the steps of chosen SAEs.
    """
    name = "growth"
    shape = GROWTH_SHAPE
    if arguments.tiny:
        name = "growth_tiny"
        shape = TINY_SHAPE
        vars(arguments).update(TINY_GROWTH)
    elif arguments.short:
        name = "growth_short"
        vars(arguments).update(SHORT_GROWTH)

    times = measure_steps(arguments, shape, arguments.out / name)
    print(times.to_string(index=False))
    start = times[times["rows"] == START].set_index(["step", "saes"])["seconds"]
    machine = record.machine(arguments.threads)
    comparisons = [
        *compare_rows(times, start, machine),
        *compare_saes(times, start, machine),
    ]
    record.write(arguments.out, name, comparisons)
    draw_growth(times, arguments.out, name)


def measure_steps(
    arguments: argparse.Namespace, shape: GrowthShape, folder: Path
) -> pd.DataFrame:
    """Run the steps that are not in times.csv of a folder.

    Returns:
        A row per size, bank and step: medians of seconds, CPU seconds, peak memory and
        bytes; and `chosen`, how many SAEs validation chose.
    """
    table_file = folder / "times.csv"
    rows = pd.read_csv(table_file).to_dict("records") if table_file.exists() else []
    is_measured = {
        (row["rows"], row["saes"], row["step"], row["round"]) for row in rows
    }
    for step in growth_steps(arguments, shape, folder):
        key = (step.rows, step.saes, step.step, step.round_number)
        if step.step not in arguments.steps or key in is_measured:
            continue
        cost = run_measured(step.command)
        row = {
            "rows": step.rows,
            "saes": step.saes,
            "step": step.step,
            "round": step.round_number,
            "threads": arguments.threads,
            **vars(cost),
            "chosen": count_chosen(step.bank),
        }
        rows.append(row)
        print(row, flush=True)
        pd.DataFrame(rows).to_csv(table_file, index=False)
    by_step = pd.DataFrame(rows).groupby(
        ["rows", "saes", "step"], sort=False, as_index=False
    )
    return by_step.median().drop(columns=["round", "stopped"])


def growth_steps(
    arguments: argparse.Namespace, shape: GrowthShape, folder: Path
) -> Iterator[GrowthStep]:
    """Yield all sizes in turn, round after round, since a machine's speed drifts."""
    small = read_config(ROOT / "config.yaml").training["small"].model_dump()
    recipe = {**small, "epochs": 1, **shape.changed}
    probe = {**PROBE, "largest": shape.k}
    all_rows = [START, *sorted(arguments.rows)]
    for number, rows in itertools.product(range(arguments.rounds), all_rows):
        store = folder / str(rows) / "store"
        sizes = [rows, rows // SHARE, shape.d, shape.concepts, shape.classes]
        no_bank = folder / str(rows) / f"0_{number}"
        command = write_command(sizes, store)
        yield GrowthStep(rows, 0, number, "cache", no_bank, command)
        for saes in arguments.saes:
            seeds, lambdas = BANKS[saes]
            plan = bank_plan(shape.k, recipe, seeds=seeds, lambdas=lambdas)
            bank = folder / str(rows) / f"{saes}_{number}"
            for step, command in cell_commands(
                bank, store, plan, probe, arguments.threads
            ):
                if step not in PROBES or saes == FEW:
                    yield GrowthStep(rows, saes, number, step, bank, command)


def count_chosen(bank: Path) -> int:
    """Return how many SAEs of a bank validation chose; 0 before it chooses."""
    selection = bank / "scores/selection.parquet"
    if not selection.exists():
        return 0
    return int(pd.read_parquet(selection)["trial"].notna().sum())


def compare_rows(
    times: pd.DataFrame, start: pd.Series, machine: str
) -> Iterator[Comparison]:
    """Compare the two largest sizes of each step and bank.

    Args:
        times: Of :func:`measure_steps`.
        start: Seconds by (step, saes) on `START` rows.
        machine: In words.
    """
    by_step = times[~times["step"].isin(PROBES)].groupby(["step", "saes"], sort=False)
    for (step, saes), table in by_step:
        by_size = table.sort_values("rows")
        start_of_step = start[step, saes]
        *smaller, before, largest = by_size["rows"]
        if not smaller or by_size["seconds"].iloc[-2] < LEAST * start_of_step:
            continue
        work = by_size["seconds"] - start_of_step
        if step in OF_CHOSEN:
            work = work / by_size["chosen"]
        bank = f", {saes} SAEs" if saes else ""
        yield Comparison(
            goal="9",
            quantity=f"s beyond the start, {step}{bank}, {largest:,} rows",
            ours=work.iloc[-1],
            peer=f"in proportion to {before:,} rows",
            peer_value=work.iloc[-2] * (largest - START) / (before - START),
            target=GROWTH_TARGET,
            machine=machine,
        )


def compare_saes(
    times: pd.DataFrame, start: pd.Series, machine: str
) -> Iterator[Comparison]:
    """Compare the two banks at the largest size that both have.

    Args:
        times: Of :func:`measure_steps`.
        start: Seconds by (step, saes) on `START` rows.
        machine: In words.
    """
    for step in ("train", "score"):
        seconds = times[times["step"] == step].pivot_table(
            index="rows", columns="saes", values="seconds"
        )
        seconds = seconds.reindex(columns=[FEW, MANY]).dropna()
        if seconds.empty or seconds[FEW].iloc[-1] < LEAST * start[step, FEW]:
            continue
        work = seconds.iloc[-1] - start[step, FEW]
        size = f"{seconds.index[-1]:,} rows, {MANY} SAEs"
        yield Comparison(
            goal="9",
            quantity=f"s beyond the start, {step}, {size}",
            ours=work[MANY],
            peer=f"{MANY // FEW} x {FEW} SAEs",
            peer_value=MANY / FEW * work[FEW],
            target=GROWTH_TARGET,
            machine=machine,
        )


def draw_growth(times: pd.DataFrame, out: Path, name: str) -> None:
    """Draw seconds against rows, a panel per bank.

    Dashed lines are in proportion to the rows.
    """
    import numpy as np
    from matplotlib.ticker import EngFormatter

    from sae.report import style

    shown = times[times["rows"] > START]
    banks = [saes for saes in BANKS if saes in set(shown["saes"])]
    with style.plt.rc_context(style.RC):
        figure, axes = style.plt.subplots(
            1,
            len(banks),
            figsize=(style.WIDTH, 3.4),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for ax, saes in zip(axes[0], banks, strict=True):
            of_bank = shown[shown["saes"].isin([0, saes])]
            for step in STEPS:
                line = of_bank[of_bank["step"] == step].sort_values("rows")
                color = STEP_COLORS[step]
                ax.plot(line["rows"], line["seconds"], "o-", color=color, label=step)
            rows = np.array([1e3, 1e7])
            for slope in (1e-5, 1e-4, 1e-3, 1e-2):
                ax.plot(
                    rows, rows * slope, "--", color=style.GREY, linewidth=0.6, zorder=0
                )
            ax.set(
                title=f"{saes} SAEs",
                xlabel="training images",
                xscale="log",
                yscale="log",
            )
            ax.set(xlim=(0.8 * shown["rows"].min(), 1.25 * shown["rows"].max()))
            ax.set(ylim=(0.8 * shown["seconds"].min(), 1.5 * shown["seconds"].max()))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes[0, 0].set_ylabel("seconds")
        entries = [
            style.reference(step, color=STEP_COLORS[step], marker="o")
            for step in STEPS
            if step in set(shown["step"])
        ]
        in_proportion = style.reference("in proportion", linestyle="--")
        style.legend(figure, [*entries, in_proportion])
        style.save(figure, out, name)


# A cell of the paper.

TINY_RECIPE = {"m": 64, "batch_size": 256, "auxk_k": 8}


def run_paper_sized(arguments: argparse.Namespace) -> None:
    """Run one cell of the paper at full size on this machine.

    It is behind the table of "A cell of the paper on a CPU" of docs/performance.md
    (`--rows 128117 --whole --threads 1`), and behind `cpu` of
    workflow/resources/costs.yaml (`--rows 100000`).

    Per size it writes a store of generated embeddings (`sae.data.synthetic`; val and
    test have 1/25 of its rows each), trains a bank of three SAEs (`topk`, `reg1`,
    `reg2`) for one epoch, selects, and runs the stage `score`. At the largest size it
    also runs the stages of chosen SAEs: `robustness`, `probe`. With `--whole` the
    recipe is `paper` of config.yaml, of 50 epochs: `--rows 128117 --whole` is a tenth
    of ImageNet and of the steps; all sizes take days on a CPU. After every step it
    writes a row to OUT/paper_sized/times.csv: seconds, CPU seconds, peak memory, bytes
    written. recovery.csv beside it gets what each SAE recovers of the generator's
    concepts.
    """
    recipe = RECIPE
    probe = PROBE
    classes = 1000
    if arguments.whole:
        recipe = read_config(ROOT / "config.yaml").training["paper"].model_dump()
    if arguments.tiny:
        vars(arguments).update({"rows": [1500], "d": 24, "k": 4, "concepts": 48})
        recipe = {**recipe, **TINY_RECIPE}
        probe = {**probe, "max_train": 500}
        classes = 10
    probe = {**probe, "largest": arguments.k}
    plan = bank_plan(arguments.k, recipe)
    out = arguments.out / "paper_sized"

    times: list[dict[str, Any]] = []
    recovered: list[dict[str, Any]] = []
    for rows in sorted(arguments.rows):
        folder = out / str(rows)
        store = folder / "store"
        folder.mkdir(parents=True, exist_ok=True)
        held_out = rows // arguments.share
        sizes = [rows, held_out, arguments.d, arguments.concepts, classes]
        steps = cell_commands(
            folder, store, plan, probe, arguments.threads, "--device", arguments.device
        )
        for step, command in [("cache", write_command(sizes, store)), *steps]:
            is_largest = rows == max(arguments.rows)
            if not is_largest and step in (*OF_CHOSEN, "probe_embeddings"):
                continue
            cost = run_measured(command)
            head = {"rows": rows, "step": step, "threads": arguments.threads}
            times.append({**head, **vars(cost)})
            print(times[-1], flush=True)
            pd.DataFrame(times).to_csv(out / "times.csv", index=False)
        for row in score_recovery(folder):
            recovered.append({"rows": rows, **row})
        pd.DataFrame(recovered).to_csv(out / "recovery.csv", index=False)
    print(pd.DataFrame(times).to_string(index=False))
    print(pd.DataFrame(recovered).to_string(index=False))


def score_recovery(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield, per SAE of a bank, what it recovers of the generator's concepts on test.

    Args:
        folder: With the bank, its scores, and the store.
    """
    import numpy as np
    import scipy.sparse
    import torch

    from sae.bank.read import read as read_bank
    from sae.data import store
    from sae.scoring.metrics import recovery

    test = store.read(folder / "store/test")
    strengths = scipy.sparse.load_npz(folder / "store/truth/test.npz")
    dictionary = np.load(folder / "store/truth/dictionary.npy")
    bank = read_bank(folder / "bank.json")
    metrics = pd.read_parquet(folder / "scores/score/metrics.parquet")
    scores = metrics.query("split == 'test'").set_index("method")
    for entry in bank.saes:
        coder = bank.open(entry)
        with torch.inference_mode():
            codes = coder.encode(coder.open_inputs(test.embeddings))
        decoder = coder.W_dec.numpy(force=True)
        scores_of_sae = scores.loc[entry.method, ["r2", "ms_mean_alive", "dead"]]
        yield {
            "method": entry.method,
            **scores_of_sae.to_dict(),
            **recovery.of_codes(decoder, codes, dictionary, strengths),
        }


# Memory.

CAP = 150.0  # seconds
LIMIT = 4.0  # GiB, at ImageNet's size
# Metrics that are measured by themselves, since they come last in `score`.
METRICS_ALONE = ("detection", "concepts")


class Size(NamedTuple):
    """Rows of train, rows of val and of test, and the sizes of an SAE."""

    rows: int
    held_out: int
    d: int
    m: int
    batch: int
    k: int


SIZES = [
    Size(2_000, 500, 320, 512, 512, 16),
    Size(20_000, 2_000, 768, 2048, 1024, 32),
    Size(60_000, 4_000, 1024, 8192, 2048, 32),
    Size(60_000, 4_000, 1024, 2048, 2048, 64),
    Size(20_000, 2_000, 320, 4096, 512, 32),
    Size(20_000, 10_000, 1024, 8192, 512, 128),
]
IMAGENET = Size(1_281_167, 51_246, 1024, 8192, 2048, 32)
TINY_SIZE = Size(1_000, 100, 16, 64, 256, 4)


def measure_memory(arguments: argparse.Namespace) -> None:
    """Measure what jobs take in memory, against what they would ask for.

    It is behind the table of "Memory" of docs/performance.md (`--imagenet`), the
    sentence after it, and the formulas of workflow/resources/costs.yaml.

    Runs the workflow's own commands on generated embeddings of several sizes and prints
    peak memory in MB, and the formulas of `sae_workflow.needs` (before their margin)
    divided by it. Then the same at ImageNet's size, where no step may take over 4 GiB:
    there most steps are stopped after 150 seconds, since their peak comes early, and
    what follows takes the SAE of a smaller size. `--imagenet` does that alone (about 15
    minutes and 3 GB of disk).
    """
    sizes = SIZES
    largest = IMAGENET
    classes = 1000
    name = "memory"
    if arguments.imagenet:
        sizes = []
    if arguments.short:
        sizes = SIZES[:1]
    if arguments.tiny:
        sizes = [TINY_SIZE]
        largest = TINY_SIZE
        classes = 10
        name = "memory_tiny"

    sizes_of_row = f"{'rows':>8}{'held out':>9}{'d':>6}{'m':>6}{'k':>5}"
    print(f"{sizes_of_row}  {'job':<18}{'MB':>6}{'formula / MB':>14}{'s':>8}")
    folder = arguments.out / name
    for size in sizes:
        MemoryCell(size, classes, folder, threads=1).print_peaks()
    if arguments.short:
        return
    cell = MemoryCell(largest, classes, folder, arguments.threads, is_capped=True)
    peaks = cell.print_peaks()

    machine = record.machine(arguments.threads)
    shape = f"{largest.rows:,} rows, d = {largest.d}, m = {largest.m}"
    comparisons = [
        Comparison("9", f"GiB, {step}, {shape}", gib, "a limit", LIMIT, 1.0, machine)
        for step, gib in peaks.items()
    ]
    record.write(arguments.out, name, comparisons)


@dataclass(frozen=True)
class MemoryCell:
    """A cell whose jobs are measured.

    Attributes:
        size: Its sizes.
        classes: Of its labels.
        out: Where its folder is made.
        threads: Of each job.
        is_capped: Whether a step is stopped after `CAP` seconds; steps after `train`
            then work on an SAE of fewer images.
    """

    size: Size
    classes: int
    out: Path
    threads: int
    is_capped: bool = False

    @property
    def folder(self) -> Path:
        """The folder in which everything lies."""
        return self.out / "_".join(map(str, self.size))

    @functools.cached_property
    def plan(self) -> dict[str, Any]:
        """The plan of a bank with one SAE of Reg. 2."""
        m = self.size.m
        auxk_k = min(m, RECIPE["auxk_k"])
        sizes = {"m": m, "batch_size": self.size.batch, "auxk_k": auxk_k}
        return bank_plan(self.size.k, {**RECIPE, **sizes}, {"reg2": "l1_l2_ratio"})

    @property
    def probe(self) -> dict[str, Any]:
        """The options of probes."""
        return {**PROBE, "largest": self.size.k}

    def print_peaks(self) -> dict[str, float]:
        """Run every step and print a row for each.

        Returns:
            {step: its peak in GiB}
        """
        size = self.size
        peaks = {}
        for step, command in self.commands().items():
            if step == "concepts":
                write_concepts(self.folder / "store", self.folder / "concepts")
            has_end = step in ("cache", *METRICS_ALONE)
            cost = run_measured(
                command, CAP if self.is_capped and not has_end else None
            )
            megabytes = cost.peak_gib * 1024
            share = ""
            if step != "cache":
                share = f"{self.expected_megabytes(step) / megabytes:.2f}"
            seconds = f"{cost.seconds:.0f}" + ("+" if cost.stopped else "")
            numbers = (
                f"{size.rows:>8}{size.held_out:>9}{size.d:>6}{size.m:>6}{size.k:>5}"
            )
            measured = f"{step:<18}{megabytes:>6.0f}{share:>14}{seconds:>8}"
            print(f"{numbers}  {measured}", flush=True)
            peaks[step] = cost.peak_gib
        return peaks

    def commands(self) -> dict[str, list[str]]:
        """Return {step: command}; a capped cell first trains an SAE of few images."""
        rows, held_out, d, _, batch_size, _ = self.size
        store = self.folder / "store"
        concepts = 2 * d
        if self.is_capped:
            few = self.folder / "few"
            few_sizes = [4 * batch_size, batch_size, d, concepts, self.classes]
            run_measured(write_command(few_sizes, few))
            run_measured(self._steps(few)["train"])
            concepts = 4 * d
        sizes = [rows, held_out, d, concepts, self.classes]
        commands = {"cache": write_command(sizes, store), **self._steps(store)}

        # A judge, here with the same embeddings, looks for each latent's images; and
        # latents are matched with concepts, a class and its ten ancestors for each
        # image.
        further_words = {
            "detection": ["--others", f"judge={store}"],
            "concepts": ["--concepts", str(self.folder / "concepts")],
        }
        for metric in METRICS_ALONE:
            alone = metric_alone(commands["score"], self.folder, metric)
            commands[metric] = [*alone, *further_words[metric]]
        return commands

    def _steps(self, store: Path) -> dict[str, list[str]]:
        """Return {step: command} of the bank, on the embeddings of a store."""
        steps = cell_commands(self.folder, store, self.plan, self.probe, self.threads)
        return dict(steps)

    def expected_megabytes(self, step: str) -> float:
        """Return what the formulas of `sae_workflow.needs` say of a step."""
        from sae.bank.plan import Plan

        rows, held_out, d, m, _, k = self.size
        images = {"train": rows, "val": held_out, "test": held_out}
        embedding = costs.Embedding(
            costs.DatasetFigures(
                "synthetic", images, self.classes, decoded_per_second=1
            ),
            costs.BackboneFigures("synthetic", d),
        )
        fit = costs.ProbeFit(PROBE["max_train"], len(PROBE["C"]), k)
        width = d if step == "probe_embeddings" else m
        sizes = {
            **needs.bank_sizes(embedding, Plan.model_validate(self.plan)),
            **needs.probe_sizes(embedding, width, fit),
        }
        if step == "detection":
            detection = registry.head("metric", "detection").constants
            most_images = detection["MOST_TRAIN"]
            sizes.update(
                needs.ranking_sizes(
                    embedding, k, judge_count=1, most_images=most_images
                )
            )
        is_like_score = step in METRICS_ALONE or step == "robustness"
        figures_of = "score" if is_like_score else step
        return needs.estimate_memory(figures_of, sizes)


def metric_alone(words: list[str], folder: Path, metric: str) -> list[str]:
    """Return the command of the stage `score` with one metric.

    Args:
        words: The command with all of them.
        folder: Of the cell.
        metric: Its name.
    """
    replaced = {
        "--settings": json.dumps({"metrics": {metric: {}}}),
        "--out": str(folder / "scores" / metric),
    }
    return [
        replaced.get(option, word)
        for option, word in zip(["", *words], words, strict=False)
    ]


def write_concepts(store: Path, folder: Path) -> None:
    """Write annotations of generated images: the class of each, and ten ancestors.

    Two classes have one parent, two parents one grandparent, and so on.
    """
    from sae.data import concepts
    from sae.data.splits import SPLITS

    tables = []
    for split in SPLITS:
        index = pd.read_parquet(store / split / "index.parquet")
        for level in range(11):
            ancestor = index["label"].astype("int64") // 2**level
            names = f"level {level}: " + ancestor.astype("str")
            table = {"image_id": index["image_id"], "concept": names}
            tables.append(pd.DataFrame(table))
    keywords = pd.concat(tables, ignore_index=True)

    names = (concepts.KEYWORD_FILE, concepts.ATTRIBUTE_FILE)
    files.write_parquet(folder / names[0], keywords)
    files.write_parquet(folder / names[1], concepts.no_attributes())
    sums = {name: files.sha256(folder / name) for name in names}
    files.write_json(folder / concepts.MANIFEST, {"sha256": sums})


# The plan of a large experiment.


def time_planning(arguments: argparse.Namespace) -> None:
    """Time the plan of `paper`, and with ten times its lambdas and seeds.

    It is behind "how many jobs" of docs/cluster.md.

    It prints what Snakemake's dry run takes (seconds, peak memory), the fastest of
    three, how many jobs it plans, and how many SAEs these train before the selection.
    `--tiny` runs each once.
    """
    import yaml
    from support.larger import enlarge_paper

    runs = 1 if arguments.tiny else 3
    config, _ = settings.merge_config_files("config.yaml")
    print(f"{'':<12}{'SAEs':>8}{'jobs':>7}{'seconds':>9}{'peak MB':>9}")
    for factor in (1, 10):
        larger = enlarge_paper(config, factor)
        plans = costs.list_plans(settings.load(larger), "paper")
        saes = sum(size.trials for plan in plans for size in costs.protocol_sizes(plan))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as overlay:
            yaml.safe_dump(larger, overlay)
            overlay.flush()
            seconds, peak, jobs = min(dry_run(overlay.name) for _ in range(runs))
        name = f"paper x {factor}"
        print(f"{name:<12}{saes:>8,}{jobs:>7}{seconds:>9.1f}{peak:>9.0f}")


def dry_run(overlay: str) -> tuple[float, float, int]:
    """Return (seconds, peak MB, jobs) of a dry run of `paper`."""
    started = time.perf_counter()
    command = ["snakemake", "-n", "paper", "--configfile", overlay]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    console_text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    total = re.search(r"^total\s+(\d+)", console_text, re.MULTILINE)
    if status or not total:
        sys.exit(console_text)
    return time.perf_counter() - started, usage.ru_maxrss / 1024, int(total[1])


if __name__ == "__main__":
    run_script(__doc__, add_commands)
