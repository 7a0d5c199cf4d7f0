"""What each step of an experiment took, from the `.tsv` beside its jobs' logs: rows for the report page, in JSON."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sae.core import files, paths
from sae_workflow.start import start

JUDGED_BY = "ms_mean_alive_by_"


def rows(experiment: str) -> list[dict[str, Any]]:
    """A row for each step of banks and embeddings: step, jobs, minutes in all, the longest job, the most memory of one.

    Only the banks of the experiment's metrics and their judges count: an earlier config may have left files of others.
    """
    table = files.read_parquet(paths.METRICS.format(experiment=experiment))
    banks = (
        table[["dataset", "backbone", "k"]]
        .drop_duplicates()
        .sort_values(["dataset", "backbone", "k"])
    )
    cells = [
        f"{dataset}/{backbone}"
        for dataset, backbone, _ in banks.itertuples(index=False)
    ]
    names = [
        *cells,
        *(f"{cell}/k{k}" for cell, k in zip(cells, banks["k"], strict=True)),
    ]
    names += [
        f"{dataset}/{judge}"
        for dataset in banks["dataset"].unique()
        for judge in judges(table)
    ]
    places = [Path(paths.LOGS) / "embed"]
    places += sorted(
        Path(paths.EXPERIMENT_LOGS.format(experiment=experiment)).glob("*")
    )
    return [row for place in places if (row := _row(place, list(dict.fromkeys(names))))]


def judges(columns: Iterable[str]) -> list[str]:
    """The backbones that judged the latents of some bank, by the columns of its metrics (metric `independent`)."""
    return [
        name.removeprefix(JUDGED_BY) for name in columns if name.startswith(JUDGED_BY)
    ]


def _row(place: Path, names: list[str]) -> dict[str, Any] | None:
    """The row of the step whose jobs' files lie in `place`: `NAME.tsv` and, of parts, `NAME/PART-of-PARTS.tsv`."""
    files_of = [
        file
        for name in names
        for file in (place / f"{name}.tsv", *sorted(place.glob(f"{name}/*-of-*.tsv")))
    ]
    tables = [pd.read_csv(file, sep="\t") for file in files_of if file.is_file()]
    if not tables:
        return None
    jobs = pd.concat(tables)
    return {
        "step": place.name,
        "jobs": len(jobs),
        "minutes": f"{jobs['s'].sum() / 60:.1f}",
        "longest": f"{jobs['s'].max():.0f} s",
        "memory": f"{jobs['max_rss'].max():.0f} MiB",
    }


def main(experiment: str, *, out: str) -> None:
    """Write the rows of an experiment of this folder into a file."""
    files.write_json(out, {"jobs": rows(experiment)})


if __name__ == "__main__":
    start(main)
