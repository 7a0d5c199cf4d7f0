"""What jobs take in memory, against what they would ask for: `python bench/memory.py`, from the project's root.

Runs the workflow's own commands on generated embeddings of several sizes and prints peak memory in MB, and the formulas
of workflow/needs.py (before their margin) divided by it. Takes about 20 minutes on one core.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from paper_sized import TRAINING, measured
from sae_workflow import costs, needs

from sae.core import files
from sae.data import synthetic

CLASSES = 1000
PROBE = {"C": [1.0], "max_iter": 3, "max_train": 100_000}
# Rows of train, of val and of test; d; m; batch; k.
SIZES = [
    (2_000, 500, 320, 512, 512, 16),
    (20_000, 2_000, 768, 2048, 1024, 32),
    (60_000, 4_000, 1024, 8192, 2048, 32),
    (60_000, 4_000, 1024, 2048, 2048, 64),
    (20_000, 2_000, 320, 4096, 512, 32),
    (20_000, 10_000, 1024, 8192, 512, 128),
]


def main():
    """Every size, every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/bench/memory"))
    parser.add_argument("--write-only", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.write_only:
        rows, held_out, d = map(int, a.write_only.split(","))
        world = synthetic.world(d, 2 * d, classes=CLASSES)
        synthetic.write(world, {"train": rows, "val": held_out, "test": held_out}, a.out)
        return
    print(f"{'rows':>8}{'held out':>9}{'d':>6}{'m':>6}{'k':>5}  {'job':<18}{'MB':>6}{'formula / MB':>14}")
    for size in SIZES:
        rows, held_out, d, m, _, k = size
        for rule, command, expected in steps(a.out / "_".join(map(str, size)), *size):
            used = measured(command)["peak_gib"] * 1024
            print(
                f"{rows:>8}{held_out:>9}{d:>6}{m:>6}{k:>5}  {rule:<18}{used:>6.0f}{expected / used:>14.2f}", flush=True
            )


def steps(folder, rows, held_out, d, m, batch_size, k):
    """(rule, command, MB by its formula) of one size; writes its store first."""
    store = folder / "store"
    if not (store / "test/manifest.json").exists():
        write = [sys.executable, __file__, "--write-only", f"{rows},{held_out},{d}", "--out", str(store)]
        subprocess.run(write, check=True)
    training = TRAINING | {"m": m, "batch_size": batch_size}
    plan = {"dataset": "synthetic", "backbone": "synthetic", "k": k, "seeds": [0], "mask": "batch_active"}
    plan |= {"lambdas": {"l1_l2_ratio": [0.001]}, "training": training}
    cell = costs.Cell("synthetic", "synthetic", {"train": rows, "val": held_out, "test": held_out}, CLASSES, d, ())
    bank = needs.bank_sizes(cell, plan)
    sae, options = [sys.executable, "-m", "sae"], ["--activations", str(store), "--threads", "1"]
    files.write_json(folder / "bank_all.json", {"dataset": "synthetic", "backbone": "synthetic", "k": k, "saes": []})
    train = ["--settings", json.dumps(plan), "--store", str(folder / "saes"), "--out", str(folder / "bank.json")]
    yield "train", [*sae, "train", *options, *train], needs.memory_of("train", bank)
    scores = ["--bank", str(folder / "bank.json"), "--scores", str(folder / "scores.parquet")]
    score = [*scores, "--curves", str(folder / "curves.parquet")]
    yield "score", [*sae, "score", *options, *score], needs.memory_of("score", bank)
    settings = ["--settings", json.dumps({"largest": k, "probe": PROBE})]
    evaluate = [*scores, "--ablation", str(folder / "bank_all.json"), "--judges", "--out", str(folder), *settings]
    probes = needs.probe_sizes(cell, m, PROBE)
    yield "evaluate", [*sae, "evaluate", *options, *evaluate], needs.memory_of("evaluate", bank | probes)
    probe = ["--out", str(folder / "embeddings.json"), *settings]
    probes = needs.probe_sizes(cell, d, PROBE)
    yield "probe_embeddings", [*sae, "probe", *options, *probe], needs.memory_of("probe_embeddings", probes)


if __name__ == "__main__":
    main()
