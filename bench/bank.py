"""What a bank costs, with all its steps, now and at an earlier commit: `python bench/bank.py`, from the project's root.

The bank has the shape of the embedded experiments (N = 6,000, d = 320, m = 1024, k = 32, the recipe `demo`, one
thread): the baseline and both regularizers at four lambdas, 9 SAEs, on generated embeddings. Each step is the
workflow's own command, as the earlier commit runs it and as we do: there every command imports PyTorch, here it forks
from a server that has (`sae.core.warm`; how long that took to start is printed). The two take turns, step by step.
Judged is the sum of the steps' medians, so the SAEs per core-hour. `--short` takes two to three minutes;
`--tiny` seconds, to see that it runs: there both are the present code.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import _record as record
from _cell import bank_plan, commands, measured, write_command
from sae_workflow.warm import MODULES, OF_TRAINING

from sae.config.load import read
from sae.core import warm

ROOT = Path(__file__).parent.parent
BEFORE = "c1ff10636"  # where the work on speed began
# Options of a recipe that it lacks, with the values at which it trains the same.
SINCE = {"steps": None, "encoder_scale": 1, "frozen": None}
LAMBDAS = [0.0003, 0.001, 0.003, 0.01]
TARGETS = {"2": 1 / 1.5, "4": 0.5}
SHORT = {"rounds": 1, "epochs": 3}
TINY = {"rounds": 1, "epochs": 1, "rows": 600, "d": 16, "m": 64, "k": 4}


def main() -> None:
    """Print a row per step, and write the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 6000), ("d", 320), ("m", 1024), ("k", 32), ("rounds", 5), ("epochs", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--against", default=BEFORE, help="a commit of this repository")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--short", action="store_true", help="one round, few epochs")
    parser.add_argument("--tiny", action="store_true", help="seconds, to see that it runs")
    a = parser.parse_args()
    vars(a).update(TINY if a.tiny else SHORT if a.short else {})
    recipe = read(ROOT / "config.yaml").training["demo"].model_dump()
    recipe |= {"m": a.m, "epochs": a.epochs, "auxk_k": min(recipe["auxk_k"], a.m)}
    if any(recipe.pop(option) != value for option, value in SINCE.items()):
        sys.exit(f"error: the recipe `demo` sets one of {', '.join(SINCE)}, which the earlier commit does not know")
    plan = bank_plan(a.k, recipe, lambdas=LAMBDAS)
    saes = 1 + 2 * len(LAMBDAS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        earlier = ROOT if a.tiny else checkout(a.against, folder / "code")
        store = folder / "store"
        measured(write_command([a.rows, a.rows // 5, a.d, 4 * a.d, 10], store))
        with Served(folder) as server:
            times = compare(a, plan, {"before": (earlier, {}), "now": (ROOT, server.environment)}, folder, store)
        starting = server.seconds
    report(a, times, saes, starting)


def checkout(commit: str, folder: Path) -> Path:
    """The library as it was at a commit."""
    packed = subprocess.run(["git", "archive", commit, "sae"], cwd=ROOT, capture_output=True)
    if packed.returncode:
        sys.exit(f"error: --against {commit}: {packed.stderr.decode().strip()} (a clone with its history is needed)")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Served:
    """A server for jobs, as a run starts one; `seconds` that it took to start."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "server"
        self.environment = {warm.VARIABLE: str(self.place)}

    def __enter__(self) -> "Served":
        started = time.perf_counter()
        command = [sys.executable, "-m", "sae.core.warm", str(self.place), *MODULES, *OF_TRAINING]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT)
        while not self.place.exists():
            time.sleep(0.01)
        self.seconds = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def compare(
    a: argparse.Namespace, plan: dict[str, Any], ways: dict[str, tuple[Path, dict[str, str]]], folder: Path, store: Path
) -> dict[str, dict[str, list[float]]]:
    """{way: {step: seconds of each round}}."""
    times: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for number in range(a.rounds):
        results = {way: folder / f"{way}{number}" for way in ways}
        both = [commands(results[way], store, plan, {}, ["--threads", "1", "--device", "cpu"]) for way in ways]
        for steps in zip(*both, strict=True):
            for (way, (code, environment)), (step, command) in zip(ways.items(), steps, strict=True):
                results[way].mkdir(exist_ok=True)
                seconds = measured(command, cwd=code, environment=os.environ | environment)["seconds"]
                times[way].setdefault(step, []).append(seconds)
    return times


def report(a: argparse.Namespace, times: dict[str, dict[str, list[float]]], saes: int, starting: float) -> None:
    """Print medians and ratios; write what is judged."""
    where = record.machine(1)
    medians = {way: {step: statistics.median(s) for step, s in steps.items()} for way, steps in times.items()}
    print(
        f"{where}\nN {a.rows}, d {a.d}, m {a.m}, k {a.k}, {a.epochs} epochs, {saes} SAEs; median s of {a.rounds} rounds"
    )
    for step, before in medians["before"].items():
        now = medians["now"][step]
        print(f"  {step:18}{before:8.2f} before{now:8.2f} now   {now / before:5.2f}")
    before, now = (sum(medians[way].values()) for way in ("before", "now"))
    rates = [3600 * saes / total for total in (before, now)]
    print(f"  all               {before:8.2f} before{now:8.2f} now   {now / before:5.2f}")
    print(f"SAEs per core-hour: {rates[0]:.0f} before, {rates[1]:.0f} now; the server took {starting:.1f} s to start")
    what, peer = f"N {a.rows}, d {a.d}, m {a.m}, k {a.k}, one thread", f"commit {a.against}"
    all_steps = (now / saes, peer, before / saes, TARGETS["2"], where)
    little = (medians["now"]["robustness"], peer, medians["before"]["robustness"], TARGETS["4"], where)
    rows = [
        record.row("2", f"s an SAE, all steps of a bank, {what}", *all_steps),
        record.row("4", f"s of a job that does little (robustness), {what}", *little),
    ]
    record.write(a.out, "bank", rows)


if __name__ == "__main__":
    main()
