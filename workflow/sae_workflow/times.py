"""What the jobs of an experiment took and warned of: for the report page, in JSON.

The former is in the `.tsv` files that jobs leave beside their logs, the latter in files
of its own (`sae.core.warned`). Snakemake lacks both: its `benchmark:` measures a job
with the Snakemake around it, and adds nothing up; it shows nothing of what a job says.
"""

import re
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


def _names(experiment: str) -> tuple[list[str], list[str]]:
    """Return what the jobs of an experiment are about, as their logs name it.

    An earlier config may have left logs of others.

    Returns:
        `dataset/backbone` and `dataset/backbone/k8` of embeddings and banks; and the
        names of its datasets, backbones and methods.
    """
    metrics = read_metrics(Path(paths.METRICS.format(experiment=experiment)))
    made_by = files.read_json(paths.MADE_BY.format(experiment=experiment))
    pairs = embedded_pairs(made_by)
    cells = metrics[["dataset", "backbone", "k"]].drop_duplicates()
    paths_of_cells = [f"{d}/{b}/k{k}" for d, b, k in cells.itertuples(index=False)]
    parts = [name for pair in pairs for name in pair]
    return (
        ["/".join(pair) for pair in pairs] + paths_of_cells,
        [*parts, *metrics.get("method", [])],
    )


def rows_of_steps(experiment: str) -> list[dict[str, Any]]:
    """Return a row for each step of banks and embeddings.

    Args:
        experiment: The name of the experiment.

    Returns:
        Rows with the step, how many jobs it had, their minutes in all, the longest job,
        and the most memory of one.
    """
    names, _ = _names(experiment)
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


def warnings_of_jobs(experiment: str) -> list[str]:
    """Return what the jobs of an experiment warned of, in this run or before.

    Args:
        experiment: The name of the experiment.

    Returns:
        Each warning once, with the jobs that it is of: `train emoji/lite0/k8: ...`.
    """
    names = set().union(*_names(experiment))
    shared_folder = Path(paths.WARNINGS)
    own_folder = Path(paths.EXPERIMENT_WARNINGS.format(experiment=experiment))
    jobs_by_text: dict[str, list[str]] = {}
    for folder in (shared_folder, own_folder):
        for file in sorted(folder.rglob("*.json")):
            rule, *about = file.relative_to(folder).with_suffix("").parts
            # A part of a job has a file of its own, in a folder.
            if about and re.fullmatch(r"\d+-of-\d+", about[-1]):
                about.pop()
            name = "/".join(about)
            may_be_of_others = folder == shared_folder or len(about) > 1
            if may_be_of_others and name not in names:
                continue
            job = f"{rule} {name}".strip()
            for text in files.read_json(file, "list of warnings")["warnings"]:
                # Many begin with what they are about.
                for beginning in (f"{job}: ", f"{' / '.join(about)}: "):
                    text = text.removeprefix(beginning)
                jobs = jobs_by_text.setdefault(text, [])
                if job not in jobs:
                    jobs.append(job)
    return [f"{', '.join(jobs)}: {text}" for text, jobs in jobs_by_text.items()]


def main(experiment: str, *, out: str) -> None:
    """Write what the jobs of an experiment of this folder took and warned of."""
    content = {
        "jobs": rows_of_steps(experiment),
        "warnings": warnings_of_jobs(experiment),
    }
    files.write_json(out, content)


if __name__ == "__main__":
    run_command(main)
