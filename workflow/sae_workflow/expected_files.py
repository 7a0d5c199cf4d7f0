"""The files that an experiment ends in, by its configuration.

A run makes them, and a check misses those that are not there.

Snakemake lacks it: it does not miss an intermediate file while final ones look fresh,
and `--summary` knows of one configuration.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sae.config.models import Config
from sae.core import paths
from sae.data.splits import SPLITS
from sae_workflow import recorded_configs, settings

MOST_NAMED = 8  # files and folders that a message names


def expected_files(config: Config, experiment: str) -> list[str]:
    """List what an experiment ends in, and every manifest on the way, each once.

    Snakemake does not make a lost intermediate file again while the final files look
    fresh, and a job that fails loses its old output: without the manifests, stale
    tables could pass for finished.
    """
    cells = settings.cells(config, experiment)
    stages = settings.stages_of_tables(config, experiment)

    def of_experiment(pattern: str, **values: Iterable[Any]) -> list[str]:
        return _fill_in(pattern, experiment=[experiment], **values)

    def of_cells(pattern: str, **values: Iterable[Any]) -> list[str]:
        files = []
        for cell in cells:
            one_cell = {name: [value] for name, value in cell.wildcards.items()}
            files += of_experiment(pattern, **one_cell, **values)
        return files

    # Datasets and their embeddings.
    files = of_cells(paths.DATASET)
    if settings.reads_concepts(config, experiment):
        files += of_cells(paths.CONCEPTS)
    for place in settings.embedded_datasets(config, experiment):
        one_place = {name: [value] for name, value in place.items()}
        files += of_experiment(paths.EMBEDDINGS_MANIFEST, **one_place, split=SPLITS)

    # SAEs and their scores.
    files += of_cells(paths.BANK)
    files += of_cells(paths.STAGE_TABLE, stage=stages, table=["metrics"])
    if "probe" in config.metrics:
        files += of_cells(paths.PROBE_OF_EMBEDDINGS)
    files += of_experiment(paths.METRICS)
    files += of_experiment(paths.METRICS_CSV)
    files += of_experiment(paths.CURVES)
    files += of_experiment(paths.LATENTS)
    files += of_experiment(paths.ALL_SELECTIONS)

    # What people read.
    if settings.gallery_cell(config, experiment) is not None:
        files += of_experiment(paths.GALLERY, part=paths.GALLERY_PARTS)
    files += of_experiment(
        paths.TABLE, number=paths.TABLE_NUMBERS, suffix=paths.TABLE_SUFFIXES
    )
    for table in (*paths.NOTED_TABLES, *paths.COMPARISON_TABLES, paths.CLAIMS):
        files += of_experiment(table, suffix=["csv", "md"])
    files += of_experiment(paths.TYPED_TABLE, typed_table=paths.TYPED_TABLES)
    files += of_experiment(paths.TYPED_CLAIMS)
    files += of_experiment(
        paths.FIGURE,
        figure=settings.shown_figures(config, experiment),
        suffix=paths.FIGURE_SUFFIXES,
    )
    files += of_experiment(paths.SITE)
    return list(dict.fromkeys(files))


def missing_files(experiment: str) -> list[str] | None:
    """List the files that an experiment of this folder lacks, as it was run last.

    Which of its configurations that was nobody recorded: the one that lacks least.

    Returns:
        The files, sorted, or None where no configuration of the experiment is known.
    """
    fewest: list[str] | None = None
    for config in _known_configs(experiment):
        files = expected_files(config, experiment)
        missing = [file for file in files if not Path(file).exists()]
        if fewest is None or len(missing) < len(fewest):
            fewest = missing
    return None if fewest is None else sorted(fewest)


def name_missing_files(files: list[str]) -> str:
    """Name some missing files, a folder that is gone in place of those in it."""
    counts = Counter(_outermost_missing(file) for file in files)
    names = [
        f"{name} ({count} files)" if count > 1 else name
        for name, count in counts.items()
    ]
    text = ", ".join(names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text


def _outermost_missing(file: str) -> str:
    """Return the outermost folder of a missing file that is gone, or the file."""
    missing_folders = [
        folder for folder in Path(file).parents if folder.name and not folder.exists()
    ]
    return f"{missing_folders[-1]}/" if missing_folders else file


def _known_configs(experiment: str) -> Iterator[Config]:
    """Yield each configuration that the experiment may have been run with."""
    if Path("config.yaml").exists():
        config = settings.read_config("config.yaml")
        if experiment in config.experiments:
            yield config
    for record in recorded_configs.read_records(experiment):
        yield record.config


def _fill_in(pattern: str, **values: Iterable[Any]) -> list[str]:
    """Fill a pattern of `sae.core.paths` in with every combination of values."""
    return [
        pattern.format(**dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]
