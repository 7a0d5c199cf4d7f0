"""What each step of an experiment took: rows for the report page, in JSON.

They are made of the `.tsv` files that jobs leave beside their logs. Snakemake lacks it:
its `benchmark:` measures a job with the Snakemake around it, and adds nothing up.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from sae.core import files, paths
from sae.scoring.rows import read_metrics
from sae_workflow.command_line import run_command


def embedded_pairs(made_by: dict[str, Any]) -> list[tuple[str, str]]:
    """Return each (dataset, backbone) whose embeddings an experiment has read.

    Args:
        made_by: What made_by.json says.
    """
    pairs = [pair.partition(" / ") for pair in made_by["cells"]]
    return [(dataset, backbone) for dataset, _, backbone in pairs]


def rows_of_steps(experiment: str) -> list[dict[str, Any]]:
    """Return a row for each step of banks and embeddings.

    Only the banks of the experiment's metrics count, and what embedded their images: an
    earlier config may have left files of others.

    Args:
        experiment: The name of the experiment.

    Returns:
        Rows with the step, how many jobs it had, their minutes in all, the longest job,
        and the most memory of one.
    """
    metrics = read_metrics(Path(paths.METRICS.format(experiment=experiment)))
    made_by = files.read_json(paths.MADE_BY.format(experiment=experiment))
    cells = metrics[["dataset", "backbone", "k"]].drop_duplicates()
    names = [f"{dataset}/{backbone}" for dataset, backbone in embedded_pairs(made_by)]
    names += [f"{d}/{b}/k{k}" for d, b, k in cells.itertuples(index=False)]

    logs = Path(paths.EXPERIMENT_LOGS.format(experiment=experiment))
    rows = []
    for step_folder in [Path(paths.LOGS) / "embed", *sorted(logs.glob("*"))]:
        tables = []
        for name in names:
            # A part of a job has a file of its own, in a folder.
            parts = sorted(step_folder.glob(f"{name}/*-of-*.tsv"))
            for file in [step_folder / f"{name}.tsv", *parts]:
                if file.is_file():
                    tables.append(pd.read_csv(file, sep="\t"))
        if tables:
            jobs = pd.concat(tables)
            rows.append(
                {
                    "step": step_folder.name,
                    "jobs": len(jobs),
                    "minutes": f"{jobs['s'].sum() / 60:.1f}",
                    "longest": f"{jobs['s'].max():.0f} s",
                    "memory": f"{jobs['max_rss'].max():.0f} MiB",
                }
            )
    return rows


def main(experiment: str, *, out: str) -> None:
    """Write the rows of an experiment of this folder into a file."""
    files.write_json(out, {"jobs": rows_of_steps(experiment)})


if __name__ == "__main__":
    run_command(main)
