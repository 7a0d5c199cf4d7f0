"""Plan `paper` as it is, and with ten times its lambdas and seeds: `python bench/dag.py`, from the project's root.

Prints what Snakemake's dry run takes: seconds, peak memory, jobs; and how many SAEs they train.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from sae_workflow import costs


def main():
    """Both, each three times, the fastest counts."""
    config = yaml.safe_load(Path("config.yaml").read_text())
    print(f"{'':<12}{'SAEs':>8}{'jobs':>7}{'seconds':>9}{'peak MB':>9}")
    for factor in (1, 10):
        larger = times(config, factor)
        saes = sum(costs.saes(plan)[0] for plan in costs.plans(larger, "paper"))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as overlay:
            yaml.safe_dump(larger, overlay)
            overlay.flush()
            runs = [dry_run(overlay.name) for _ in range(3)]
        seconds, peak, jobs = min(runs)
        print(f"{f'paper x {factor}':<12}{saes:>8,}{jobs:>7}{seconds:>9.1f}{peak:>9.0f}")


def times(config, factor):
    """The config with `factor` times the lambdas and seeds of `paper`."""
    paper = config["experiments"]["paper"]
    lambdas = {r: [v * (1 + i / factor) for v in grid for i in range(factor)] for r, grid in paper["lambdas"].items()}
    paper = paper | {"lambdas": lambdas, "seeds": list(range(factor * len(paper["seeds"])))}
    return config | {"experiments": config["experiments"] | {"paper": paper}}


def dry_run(overlay):
    """(seconds, peak MB, jobs) of a dry run of `paper`."""
    started = time.perf_counter()
    command = ["snakemake", "-n", "paper", "--configfile", overlay]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(said)
    return time.perf_counter() - started, used.ru_maxrss / 1024, int(re.search(r"^total\s+(\d+)", said, re.M)[1])


if __name__ == "__main__":
    main()
