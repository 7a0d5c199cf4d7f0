"""What a cell costs, with all its steps: `python bench/bank.py`, from the project's root.

The cell has the shape of the embedded experiments (N = 6,000, d = 320, m = 1024, k = 32, the recipe `demo`, one
thread): the baseline and both regularizers at four lambdas, 9 SAEs and the `at` methods, on generated embeddings. Each
step is the workflow's own command. Training is timed once more with two processes side by side. `--against COMMIT`
times another commit beside it, whose commands must be the same as today's; the two take turns, step by step. `--short`
takes a minute; `--tiny` seconds, to see that it runs.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import _record as record
from _cell import bank_plan, commands, measured, write_command

from sae.config.load import read_config

ROOT = Path(__file__).parent.parent
LAMBDAS = [0.0003, 0.001, 0.003, 0.01]
BESIDE = "train, two SAEs side by side"
SHORT = {"rounds": 1, "epochs": 3}
TINY = {"rounds": 1, "epochs": 1, "rows": 600, "d": 16, "m": 64, "k": 4}


def main() -> None:
    """Print a row per step, and write the comparisons."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("rows", 6000),
        ("d", 320),
        ("m", 1024),
        ("k", 32),
        ("rounds", 5),
        ("epochs", 15),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--against", help="a commit of this repository")
    parser.add_argument("--short", action="store_true", help="one round, few epochs")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds, to see that it runs"
    )
    a = parser.parse_args()
    vars(a).update(TINY if a.tiny else SHORT if a.short else {})
    recipe = read_config(ROOT / "config.yaml").training["demo"].model_dump()
    recipe |= {"m": a.m, "epochs": a.epochs, "auxk_k": min(recipe["auxk_k"], a.m)}
    plan = bank_plan(a.k, recipe, lambdas=LAMBDAS)
    saes = 1 + 2 * len(LAMBDAS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "store"
        ways = {"now": ROOT} | (
            {a.against: checkout(a.against, folder / "code")} if a.against else {}
        )
        measured(write_command([a.rows, a.rows // 5, a.d, 4 * a.d, 10], store))
        times = compare(a, plan, ways, folder, store)
    report(a, times, saes)


def checkout(commit: str, folder: Path) -> Path:
    """The library as it was at a commit."""
    packed = subprocess.run(
        ["git", "archive", commit, "sae"], cwd=ROOT, capture_output=True
    )
    if packed.returncode:
        sys.exit(
            f"error: --against {commit}: {packed.stderr.decode().strip()} (a clone with its history is needed)"
        )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def compare(
    a: argparse.Namespace,
    plan: dict[str, Any],
    ways: dict[str, Path],
    folder: Path,
    store: Path,
) -> dict[str, dict[str, list[float]]]:
    """{way: {step: seconds of each round}}."""
    times: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for number in range(a.rounds):
        results = {way: folder / f"{way}{number}" for way in ways}
        both = [
            commands(
                results[way], store, plan, {}, ["--threads", "1", "--device", "cpu"]
            )
            for way in ways
        ]
        for steps in zip(*both, strict=True):
            for (way, code), (step, command) in zip(ways.items(), steps, strict=True):
                results[way].mkdir(exist_ok=True)
                times[way].setdefault(step, []).append(
                    measured(command, cwd=code)["seconds"]
                )
        beside = folder / f"beside{number}"
        beside.mkdir()
        options = ["--threads", "1", "--device", "cpu", "--at-once", "2"]
        _, train = next(commands(beside, store, plan, {}, options))  # The first step.
        times["now"].setdefault(BESIDE, []).append(measured(train, cwd=ROOT)["seconds"])
    return times


def report(
    a: argparse.Namespace, times: dict[str, dict[str, list[float]]], saes: int
) -> None:
    """Print medians, and SAEs per core-hour."""
    print(record.machine(1))
    print(
        f"N {a.rows}, d {a.d}, m {a.m}, k {a.k}, {a.epochs} epochs; median s of {a.rounds} rounds"
    )
    medians = {
        way: {step: statistics.median(s) for step, s in steps.items()}
        for way, steps in times.items()
    }
    for step in medians["now"]:
        print(
            f"  {step:30}"
            + "".join(
                f"{found[step]:8.2f} {way}"
                for way, found in medians.items()
                if step in found
            )
        )
    for way, steps in medians.items():
        whole = sum(seconds for step, seconds in steps.items() if step != BESIDE)
        print(
            f"  {way}: {whole:.2f} s in all, {3600 * saes / whole:.0f} SAEs per core-hour"
        )


if __name__ == "__main__":
    main()
