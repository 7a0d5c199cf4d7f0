"""Plan `paper` as it is, and with ten times its lambdas and seeds: `python bench/dag.py`, from the project's root.

It prints what Snakemake's dry run takes (seconds, peak memory), how many jobs it plans, and how many SAEs these train
before the selection. `--tiny` runs each once instead of three times.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

import _support  # noqa: F401
import yaml
from sae_workflow import costs, settings
from support.larger import enlarge_paper

from sae.config.yaml_file import parse_file


def main() -> None:
    """Both, each three times, the fastest counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true")
    runs = 1 if parser.parse_args().tiny else 3
    config = parse_file("config.yaml")
    print(f"{'':<12}{'SAEs':>8}{'jobs':>7}{'seconds':>9}{'peak MB':>9}")
    for factor in (1, 10):
        larger = enlarge_paper(config, factor)
        plans = costs.list_plans(settings.load(larger), "paper")
        saes = sum(size.trials for plan in plans for size in costs.protocol_sizes(plan))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as overlay:
            yaml.safe_dump(larger, overlay)
            overlay.flush()
            seconds, peak, jobs = min(dry_run(overlay.name) for _ in range(runs))
        print(
            f"{f'paper x {factor}':<12}{saes:>8,}{jobs:>7}{seconds:>9.1f}{peak:>9.0f}"
        )


def dry_run(overlay: str) -> tuple[float, float, int]:
    """(seconds, peak MB, jobs) of a dry run of `paper`."""
    started = time.perf_counter()
    command = ["snakemake", "-n", "paper", "--configfile", overlay]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    total = re.search(r"^total\s+(\d+)", said, re.MULTILINE)
    if status or not total:
        sys.exit(said)
    return time.perf_counter() - started, used.ru_maxrss / 1024, int(total[1])


if __name__ == "__main__":
    main()
