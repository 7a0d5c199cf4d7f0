"""Seconds to the same validation FVU, ours and other libraries': `python bench/time_to_fvu.py`.

A fast step is worth little if it learns little. So each library trains a Top-k SAE, without a regularizer, on the same
generated embeddings (d = 320, 6,000 rows, total variance 1) in the same batches, at a constant learning rate: its own
by default, with its own warm-up, then each of a list without. Chosen is the one with the lowest validation FVU at the
end. The FVU to reach is the worst of those, in any round; the seconds are medians of rounds in turn at the chosen
rates. Time spent on looking at the FVU does not count. Ours runs as the recipe has it, and once more with the encoder
started at a tenth: the other libraries have starts of their own (SAELens a decoder of norm 0.1). `--short` takes two
minutes; `--tiny` seconds, to see that it runs, beside a plain loop in PyTorch instead of other libraries.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import _peers as peers
import _record as record
import numpy as np
import torch
from train_step import PAGES, environment

from sae.data import synthetic

Curve = list[tuple[float, float]]  # seconds, FVU
RATES = [0.001, 0.003, 0.01, 0.03]
SHORT = {"steps": 100, "rates": [0.001, 0.003], "rounds": 1}
TINY = {"rows": 300, "d": 16, "m": 64, "k": 4, "batch": 50, "steps": 20, "rates": [0.001], "rounds": 1}
OURS = {"ours": "topk float32", "ours, encoder at a tenth": "topk float32 0.1"}


def main() -> None:
    """Print a row per library, and write the comparison with the fastest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"rows": 6000, "d": 320, "m": 1024, "k": 32, "batch": 512, "steps": 200, "rounds": 5}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--short", action="store_true", help="two minutes")
    parser.add_argument("--tiny", action="store_true", help="seconds, to see that it runs")
    a = parser.parse_args()
    vars(a).update(TINY if a.tiny else SHORT if a.short else {})
    own = [sys.executable, str(Path(__file__).with_name("train_step.py")), "--worker", "fit"]
    commands = {name: [*own, variant] for name, variant in OURS.items()}
    if a.tiny:
        commands["plain"] = [*own, "plain"]
    else:
        script = str(Path(__file__).with_name("_peers.py"))
        commands |= {name: [str(environment(name)), script, "fit", name] for name in peers.REQUIREMENTS}
    with tempfile.NamedTemporaryFile(suffix=".pt") as data:
        torch.save(embeddings(a.rows, a.d), data.name)
        numbers = [data.name, *map(str, (a.m, a.k, a.threads, a.batch, a.steps))]

        def run(name: str, rate: float) -> Curve:
            environment_of = os.environ | (PAGES if name in OURS else {})
            command = [*commands[name], *numbers, str(rate)]
            done = subprocess.run(command, env=environment_of, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"{name}: the process ended; its message is above")
            return json.loads(done.stdout)

        by_default = {name: run(name, 0) for name in commands}
        tried = {name: {rate: run(name, rate) for rate in a.rates} for name in commands}
        chosen = {name: min(a.rates, key=lambda rate: tried[name][rate][-1][1]) for name in commands}
        again = {name: [] for name in commands}  # type: dict[str, list[Curve]]
        for _ in range(a.rounds):
            for name, rate in chosen.items():
                again[name].append(run(name, rate))
    goal = max(curve[-1][1] for curves in again.values() for curve in curves)
    report(a, goal, by_default, chosen, again)


def embeddings(rows: int, d: int) -> dict[str, torch.Tensor]:
    """Generated embeddings of two splits, scaled as the trainer scales them: unit rows, total variance 1."""
    world = synthetic.world(d, 4 * d, classes=10)
    splits = {}
    for split, count in (("train", rows), ("val", rows // 5)):
        x = np.concatenate([part for part, _ in synthetic.chunks(world, split, count)]).astype(np.float64)
        splits[split] = x / np.linalg.norm(x, axis=1, keepdims=True)
    scale = np.sqrt(splits["train"].var(axis=0).sum())
    return {split: torch.from_numpy(x / scale).float() for split, x in splits.items()}


def seconds(curve: Curve, goal: float) -> float:
    """Seconds of training until the FVU is `goal` or less; infinite if it never is."""
    return next((spent for spent, fvu in curve if fvu <= goal), float("inf"))


def report(
    a: argparse.Namespace,
    goal: float,
    by_default: dict[str, Curve],
    chosen: dict[str, float],
    again: dict[str, list[Curve]],
) -> None:
    """Print a row per library; write ours against the fastest other one."""
    where = record.machine(a.threads)
    print(f"{where}\nN {a.rows}, d {a.d}, m {a.m}, k {a.k}, batches of {a.batch}, {a.steps} steps; FVU {goal:.4f}")
    medians = {name: statistics.median(seconds(curve, goal) for curve in curves) for name, curves in again.items()}
    for name, spent in medians.items():
        print(
            f"  {name:26}lr {chosen[name]:g}: {spent:6.2f} s, at the end {again[name][0][-1][1]:.4f}; "
            f"by default {seconds(by_default[name], goal):6.2f} s, at the end {by_default[name][-1][1]:.4f}"
        )
    fastest = min((name for name in medians if name not in OURS), key=medians.__getitem__)
    what = f"s to a validation FVU of {goal:.4f}, N {a.rows}, d {a.d}, m {a.m}, k {a.k}"
    peer = fastest, medians[fastest], 1.0, where
    record.write(a.out, "time_to_fvu", [record.row("1", f"{what}, {name}", medians[name], *peer) for name in OURS])


if __name__ == "__main__":
    main()
