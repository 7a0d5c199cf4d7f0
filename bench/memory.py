"""What jobs take in memory, against what they would ask for: `python bench/memory.py`, from the project's root.

Runs the workflow's own commands on generated embeddings of several sizes and prints peak memory in MB, and the formulas
of `sae_workflow.needs` (before their margin) divided by it. It took about 20 minutes on one core before scoring was
several jobs; `--tiny` takes seconds, to see that it works.
"""

import argparse
import subprocess
from pathlib import Path

from paper_sized import RECIPE, bank_plan, commands, measured, write_command
from sae_workflow import costs, needs

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
TINY = [(1_000, 100, 16, 64, 256, 4)]


def main() -> None:
    """Every size, every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/bench/memory"))
    parser.add_argument("--tiny", action="store_true")
    a = parser.parse_args()
    print(f"{'rows':>8}{'held out':>9}{'d':>6}{'m':>6}{'k':>5}  {'job':<18}{'MB':>6}{'formula / MB':>14}")
    for size in TINY if a.tiny else SIZES:
        rows, held_out, d, m, batch_size, k = size
        folder, classes = a.out / "_".join(map(str, size)), 10 if a.tiny else CLASSES
        if not (folder / "store/test/manifest.json").exists():
            subprocess.run(write_command([rows, held_out, d, 2 * d, classes], folder), check=True)
        recipe = RECIPE | {"m": m, "batch_size": batch_size, "auxk_k": min(m, RECIPE["auxk_k"])}
        plan, probe = bank_plan(k, recipe, {"reg2": "l1_l2_ratio"}), PROBE | {"largest": k}
        images = {"train": rows, "val": held_out, "test": held_out}
        cell = costs.Cell("synthetic", "synthetic", images, d, {"classes": classes}, {})
        for rule, command in commands(folder, plan, probe, ["--threads", "1"]):
            width = d if rule == "probe_embeddings" else m
            expected = needs.memory_of(rule, needs.bank_sizes(cell, plan) | needs.probe_sizes(cell, width, probe))
            used = measured(command)["peak_gib"] * 1024
            shown = f"{rows:>8}{held_out:>9}{d:>6}{m:>6}{k:>5}  {rule:<18}{used:>6.0f}{expected / used:>14.2f}"
            print(shown, flush=True)


if __name__ == "__main__":
    main()
