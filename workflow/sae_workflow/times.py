"""What each step of an experiment took: rows for the report page, in JSON.

They are made of the `.tsv` files that Snakemake leaves beside the logs of jobs.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from sae.core import files, paths
from sae.scoring.rows import read_metrics
from sae_workflow.command_line import run_command


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
    job_names = _names_of_jobs(metrics, embedded_pairs(made_by))
    log_folder = Path(paths.EXPERIMENT_LOGS.format(experiment=experiment))
    step_folders = [Path(paths.LOGS) / "embed", *sorted(log_folder.glob("*"))]

    rows = []
    for step_folder in step_folders:
        tables = _tables_of_step(step_folder, job_names)
        if tables:
            rows.append(_row(step_folder.name, pd.concat(tables)))
    return rows


def _names_of_jobs(metrics: pd.DataFrame, pairs: list[tuple[str, str]]) -> list[str]:
    """Return what the logs of jobs may be called: dataset/backbone, and with the k.

    Args:
        metrics: Of the experiment.
        pairs: Of :func:`embedded_pairs`.
    """
    columns = ["dataset", "backbone", "k"]
    cells = metrics[columns].drop_duplicates().sort_values(columns)
    names = [f"{dataset}/{backbone}" for dataset, backbone in pairs]
    names += [
        f"{dataset}/{backbone}/k{k}"
        for dataset, backbone, k in cells.itertuples(index=False)
    ]
    return names


def embedded_pairs(made_by: dict[str, Any]) -> list[tuple[str, str]]:
    """Return each (dataset, backbone) whose embeddings an experiment has read.

    Args:
        made_by: What made_by.json says.
    """
    pairs = []
    for pair in made_by["cells"]:
        dataset, _, backbone = pair.partition(" / ")
        pairs.append((dataset, backbone))
    return pairs


def _tables_of_step(step_folder: Path, job_names: list[str]) -> list[pd.DataFrame]:
    """Read the table of each job of a step.

    Args:
        step_folder: Where its logs lie: NAME.tsv and, of parts, NAME/PART-of-PARTS.tsv.
        job_names: The names of jobs that count.
    """
    tsv_files: list[Path] = []
    for name in job_names:
        tsv_files.append(step_folder / f"{name}.tsv")
        tsv_files += sorted(step_folder.glob(f"{name}/*-of-*.tsv"))
    return [pd.read_csv(file, sep="\t") for file in tsv_files if file.is_file()]


def _row(step: str, jobs: pd.DataFrame) -> dict[str, Any]:
    return {
        "step": step,
        "jobs": len(jobs),
        "minutes": f"{jobs['s'].sum() / 60:.1f}",
        "longest": f"{jobs['s'].max():.0f} s",
        "memory": f"{jobs['max_rss'].max():.0f} MiB",
    }


def main(experiment: str, *, out: str) -> None:
    """Write the rows of an experiment of this folder into a file."""
    files.write_json(out, {"jobs": rows_of_steps(experiment)})


if __name__ == "__main__":
    run_command(main)
