"""The files that an experiment ends in, by its configuration: what a run makes, and what a check misses."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sae.config.models import Config
from sae.core import paths
from sae.data.splits import SPLITS
from sae_workflow import recorded, settings

MOST_NAMED = 8  # files and folders that a message names


def files_of(config: Config, experiment: str) -> list[str]:
    """List what an experiment ends in, and every manifest on the way, each once.

    Snakemake does not make a lost intermediate file again while the final files look
    fresh, and a job that fails loses its old output: without the manifests, stale tables
    could pass for finished.
    """
    banks = settings.banks(config, experiment)
    embedded = settings.embedded(config, experiment)
    stages = list(settings.stages(config, experiment))
    figures = settings.figures(config, experiment)
    has_gallery = settings.gallery(config, experiment) is not None

    def filled(pattern: str, **values: Iterable[Any]) -> list[str]:
        return _filled(pattern, experiment=[experiment], **values)

    def of_banks(pattern: str, **values: Iterable[Any]) -> list[str]:
        return [
            file
            for bank in banks
            for file in filled(pattern, **{k: [v] for k, v in bank.items()}, **values)
        ]

    files = of_banks(paths.DATASET)
    if settings.reads_concepts(config, experiment):
        files += of_banks(paths.CONCEPTS)
    for place in embedded:
        one_place = {name: [value] for name, value in place.items()}
        files += filled(paths.EMBEDDINGS_MANIFEST, **one_place, split=SPLITS)
    files += of_banks(paths.BANK)
    files += of_banks(paths.STAGE_TABLE, stage=stages, table=["metrics"])
    if "probe" in config.metrics:
        files += of_banks(paths.PROBE_OF_EMBEDDINGS)
    for table in (
        paths.METRICS,
        paths.METRICS_CSV,
        paths.CURVES,
        paths.LATENTS,
        paths.ALL_SELECTIONS,
    ):
        files += filled(table)
    if has_gallery:
        files += filled(paths.GALLERY, part=paths.GALLERY_PARTS)
    files += filled(
        paths.TABLE, number=paths.TABLE_NUMBERS, suffix=paths.TABLE_SUFFIXES
    )
    for table in (*paths.NOTED_TABLES, *paths.FRONT_MEANS, paths.CLAIMS):
        files += filled(table, suffix=["csv", "md"])
    files += filled(paths.FIGURE, figure=figures, suffix=paths.FIGURE_SUFFIXES)
    files += filled(paths.SITE)
    return list(dict.fromkeys(files))


def missing(experiment: str) -> list[str] | None:
    """List the files that an experiment of this folder lacks, as it was run last.

    Which of its configurations that was nobody recorded: the one that lacks least.

    Returns:
        The files in order, or None where no configuration of the experiment is known.
    """
    lacking = [
        [file for file in files_of(config, experiment) if not Path(file).exists()]
        for config in _configurations(experiment)
    ]
    lacking.sort(key=len)
    return sorted(lacking[0]) if lacking else None


def in_words(files: list[str]) -> str:
    """Name some missing files, a folder that is gone in place of those in it."""
    by_name: defaultdict[str, int] = defaultdict(int)
    for file in files:
        gone = [
            folder
            for folder in Path(file).parents
            if folder.name and not folder.exists()
        ]
        by_name[f"{gone[-1]}/" if gone else file] += 1
    names = [
        f"{name} ({count} files)" if name.endswith("/") and count > 1 else name
        for name, count in by_name.items()
    ]
    more = len(names) - MOST_NAMED
    named = ", ".join(names[:MOST_NAMED])
    return f"{named} and {more} more" if more > 0 else named


def _configurations(experiment: str) -> Iterator[Config]:
    """Yield each configuration that the experiment may have been run with."""
    if Path("config.yaml").exists():
        config = settings.read("config.yaml")
        if experiment in config.experiments:
            yield config
    for _, _, config in recorded.read(experiment):
        yield config


def _filled(pattern: str, **values: Iterable[Any]) -> list[str]:
    """Fill a pattern of `sae.core.paths` in with every combination of values."""
    return [
        pattern.format(**dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]
