"""Run an experiment a dataset at a time, and keep the rows of each.

    python bench/parts.py photographs --cores 2

It runs the datasets of which docs/results/NAME has no rows, in the order of the config,
and keeps what each gives as `make reference` does. So nothing is made twice if it is
stopped, or goes on on another machine once docs/results/NAME has been committed. It
ends at the first dataset that fails. Tables come last:

    python bench/reference.py rebuild docs/results/photographs
"""

import argparse
import subprocess
import sys
from pathlib import Path

import reference
from sae_workflow import settings

from sae.core import files, paths

ROOT = Path(__file__).parent.parent
ROWS = (paths.METRICS, paths.CURVES, paths.LATENTS, paths.MADE_BY)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment")
    parser.add_argument("--cores", default="all", help="of this machine")
    arguments = parser.parse_args()

    kept = ROOT / "docs/results" / arguments.experiment
    datasets = missing_datasets(arguments.experiment, kept)
    print(f"{len(datasets)} datasets to run: {', '.join(datasets)}", flush=True)
    for dataset in datasets:
        results = run(arguments.experiment, dataset, arguments.cores)
        reference.keep(results, kept, [])
        print(f"{dataset}: rows are in {kept}", flush=True)


def missing_datasets(experiment: str, kept: Path) -> list[str]:
    """Return the datasets of an experiment without rows, in the order of the config.

    Args:
        experiment: Its name.
        kept: The folder of its rows, which need not exist.
    """
    config = settings.read_config(str(ROOT / "config.yaml"))
    datasets = config.experiments[experiment].datasets
    metrics = kept / "metrics.parquet"
    if not metrics.exists():
        return datasets
    finished = set(reference.read_rows(metrics)["dataset"])
    return [dataset for dataset in datasets if dataset not in finished]


def run(experiment: str, dataset: str, cores: str) -> Path:
    """Run one dataset of an experiment, and return the folder with its rows.

    The program ends if Snakemake fails.
    """
    part = ROOT / "results/parts" / f"{experiment}-{dataset}.yaml"
    part.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(part, f"experiments: {{{experiment}: {{datasets: [{dataset}]}}}}")
    rows = [file.format(experiment=experiment) for file in ROWS]
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    command = [snakemake, *rows, "--configfile", str(part), "--cores", cores]
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        raise SystemExit(status)
    return ROOT / paths.EXPERIMENT.format(experiment=experiment)


if __name__ == "__main__":
    main()
