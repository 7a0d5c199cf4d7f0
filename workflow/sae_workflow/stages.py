"""What the workflow knows of each of its rules and of their jobs, once.

These are a rule's jobs, and what gives their numbers their meaning: what a change of
runs them again. The rules and `make plan` read it. What a job runs is a step of
`sae.steps`.

Snakemake lacks it: its provenance triggers compare a rule's text, not what the modules
mean that the rule's command imports.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sae.bank.plan import Plan
from sae.config.models import Config
from sae.core import paths, registry, versions
from sae.steps import STEPS
from sae_workflow import external_files, planned_run, settings

Wildcards = dict[str, Any]
JobsOfExperiment = Callable[[Config, str], list[Wildcards]]


class Job:
    """A job of a rule: what is known of it before it runs.

    Attributes:
        rule: The name of its rule.
        stage: What is known of the rule.
        config: The config of the run.
        wildcards: Its wildcards, as attributes.
    """

    def __init__(self, rule: str, config: Config, wildcards: Wildcards) -> None:
        self.rule = rule
        self.stage = STAGES[rule]
        self.config = config
        self.wildcards = SimpleNamespace(**wildcards)

    @functools.cached_property
    def meaning(self) -> str:
        """The text whose change makes Snakemake run the job again.

        It has the versions of what gives the job's numbers their meaning. Where its
        stage names nothing, it is the hash of the modules that the job runs.
        """
        names = self.stage.meaning(self)
        if names:
            return planned_run.joined_versions(names)
        return planned_run.code_hash_of(self._joined_module_names)

    @functools.cached_property
    def code(self) -> str:
        """The hash that its code has now, and the names of the modules hashed.

        That its code was edited by the time the job runs is an error.
        """
        names = self._joined_module_names
        return f"{planned_run.code_hash_of(names)} {names}"

    @property
    def _joined_module_names(self) -> str:
        step_module = STEPS[self.stage.step].function.partition(":")[0]
        modules = [step_module]
        for kind, name in self.stage.meaning(self):
            modules.append(versions.module_name(kind, name))
        modules += self.stage.further_modules(self)
        return " ".join(dict.fromkeys(modules))

    @property
    def is_done(self) -> bool:
        """True if what it makes is there."""
        # Of several files that it makes together one will do.
        one_file = {
            "split": "train",
            "stage": self.rule,
            "table": paths.TABLES_OF_STAGE[0],
            "part": paths.GALLERY_PARTS[0],
        }
        values = {**one_file, **vars(self.wildcards)}
        return Path(self.stage.makes.format(**values)).exists()

    @property
    def log(self) -> Path:
        """Its log, as the rules name it; that of a shard is not known here."""
        values = vars(self.wildcards)
        folder = paths.LOGS
        if "{experiment}" in self.stage.makes:
            folder = paths.EXPERIMENT_LOGS.format(**values)
        about = [
            f"k{value}" if name == "k" else str(value)
            for name, value in values.items()
            if name != "experiment"
        ]
        return Path("/".join([folder, self.rule, *about]) + ".log")

    @functools.cached_property
    def plan(self) -> Plan:
        """The plan of its cell: which SAEs are trained."""
        cell = settings.Cell(
            self.wildcards.dataset, self.wildcards.backbone, int(self.wildcards.k)
        )
        return settings.bank_plan(self.config, self.wildcards.experiment, cell)

    @property
    def dataset_type(self) -> versions.Name:
        """The entry that its dataset is of."""
        return "dataset", self.config.datasets[self.wildcards.dataset].type

    @property
    def annotation_source(self) -> versions.Name:
        """The entry that says what people call its dataset's images."""
        dataset = self.config.datasets[self.wildcards.dataset]
        return "annotation", dataset.concepts.source

    @property
    def loader(self) -> versions.Name:
        """The entry that loads its backbone."""
        return "backbone", self.config.backbones[self.wildcards.backbone].loader

    def at_cell(self, cell: settings.Cell) -> Job:
        """Return a job of the same rule and experiment that is about one cell."""
        wildcards = {"experiment": self.wildcards.experiment, **cell.wildcards}
        return Job(self.rule, self.config, wildcards)

    def at_each_cell(self) -> list[Job]:
        """Return such a job for each cell of its experiment."""
        cells = settings.cells(self.config, self.wildcards.experiment)
        return [self.at_cell(cell) for cell in cells]

    def at_gallery_cell(self) -> Job:
        """Return such a job for the cell that the galleries show; there must be one."""
        cell = settings.gallery_cell(self.config, self.wildcards.experiment)
        assert cell is not None
        return self.at_cell(cell)


@dataclass(frozen=True)
class Stage:
    """A Snakemake rule as the workflow knows it, whichever its job.

    Attributes:
        step: What its jobs run (`sae.steps`).
        makes: Files that are there when a job is done, a pattern of `sae.core.paths`.
        jobs: The wildcards of each of its jobs in an experiment, but for the name of
            the experiment.
        further_modules: Modules that a job runs beside the step's own and those that
            `meaning` names.
        meaning: What gives a job's numbers their meaning. Another version of it
            (`sae.core.versions`) runs the job again. Where it is nothing, another hash
            of the job's modules does.
        computes: Whether a job takes an accelerator where there is one.
    """

    step: str
    makes: str
    jobs: JobsOfExperiment = lambda _config, _experiment: [{}]
    further_modules: Callable[[Job], list[str]] = lambda _job: []
    meaning: Callable[[Job], list[versions.Name]] = lambda _job: []
    computes: bool = False


# The jobs of rules.


def _one_job_for_each(
    wildcard: str, list_names: Callable[[Config, str], Iterable[str]]
) -> JobsOfExperiment:
    """Return a function that lists a job for each of some names of an experiment."""
    return lambda config, experiment: [
        {wildcard: name} for name in list_names(config, experiment)
    ]


def _one_job_for_each_cell(config: Config, experiment: str) -> list[Wildcards]:
    return [cell.wildcards for cell in settings.cells(config, experiment)]


def _one_job_for_each_embedding(config: Config, experiment: str) -> list[Wildcards]:
    return [*settings.embedded_datasets(config, experiment)]


def _one_job_for_each_shard(config: Config, experiment: str) -> list[Wildcards]:
    shard_count = config.compute.embed_shards
    if shard_count == 1:
        return []
    return [
        {**place, "shard": shard}
        for place in settings.embedded_datasets(config, experiment)
        for shard in range(shard_count)
    ]


def _one_job_for_each_cell_scored(scoring_stage: str) -> JobsOfExperiment:
    """Return a function that lists the cells, if a metric is of the scoring stage."""

    def jobs_of(config: Config, experiment: str) -> list[Wildcards]:
        if scoring_stage not in settings.metrics_by_stage(config, experiment):
            return []
        return _one_job_for_each_cell(config, experiment)

    return jobs_of


def _one_job_for_each_cell_with_heatmaps(
    config: Config, experiment: str
) -> list[Wildcards]:
    if not config.experiments[experiment].heatmaps:
        return []
    return _one_job_for_each_cell(config, experiment)


def _one_job_for_each_embedding_probed(
    config: Config, experiment: str
) -> list[Wildcards]:
    """List the embeddings that SAEs are trained on, each once for all k."""
    if "probe" not in settings.metrics_by_stage(config, experiment):
        return []
    cells = settings.cells(config, experiment)
    places = dict.fromkeys((cell.dataset, cell.backbone) for cell in cells)
    return [{"dataset": dataset, "backbone": backbone} for dataset, backbone in places]


_EMBED = Stage(
    "embed",
    makes=paths.EMBEDDINGS_MANIFEST,
    jobs=_one_job_for_each_embedding,
    meaning=lambda job: [("data", "embed"), job.dataset_type, job.loader],
    computes=True,
)
_SCORE = Stage(
    "score",
    makes=paths.STAGE_TABLE,
    jobs=_one_job_for_each_cell_scored("score"),
    meaning=lambda job: [
        ("scoring", "stage"),
        *settings.scoring_names(job.config, job.wildcards.experiment, stage=job.rule),
    ],
    computes=True,
)
# {rule: its stage}, in the order in which the rules run.
STAGES: dict[str, Stage] = {
    "artifact": Stage(
        "fetch",
        makes=paths.ARTIFACT,
        jobs=_one_job_for_each("artifact", settings.artifacts_of),
    ),
    "weights": Stage(
        "weights",
        makes=paths.WEIGHTS,
        jobs=_one_job_for_each("backbone", external_files.hub_backbones),
        further_modules=lambda job: [versions.module_name(*job.loader)],
    ),
    "imported": Stage(
        "import",
        makes=paths.IMPORTED,
        jobs=_one_job_for_each("method", settings.imported_methods),
        further_modules=lambda _job: [
            registry.module_name("importer", name)
            for name in registry.names("importer")
        ],
    ),
    "download": Stage(
        "download",
        makes=paths.DOWNLOAD,
        jobs=_one_job_for_each("dataset", external_files.downloaded_datasets),
        further_modules=lambda job: [versions.module_name(*job.dataset_type)],
    ),
    "dataset": Stage(
        "dataset",
        makes=paths.DATASET,
        jobs=_one_job_for_each(
            "dataset",
            lambda config, experiment: config.experiments[experiment].datasets,
        ),
        meaning=lambda job: [("data", "dataset"), job.dataset_type],
    ),
    "annotate": Stage(
        "annotate",
        makes=paths.CONCEPTS,
        jobs=_one_job_for_each("dataset", settings.annotated_datasets),
        meaning=lambda job: [("data", "concepts"), job.annotation_source],
    ),
    # A shard's own file is temporary: it counts as done once the joined store is there.
    "embed_shard": replace(_EMBED, jobs=_one_job_for_each_shard),
    "embed": _EMBED,
    "train": Stage(
        "train",
        makes=paths.BANK,
        jobs=_one_job_for_each_cell,
        meaning=lambda job: settings.training_names(job.plan),
        computes=True,
    ),
    "score": _SCORE,
    "robustness": replace(_SCORE, jobs=_one_job_for_each_cell_scored("robustness")),
    "probe": replace(_SCORE, jobs=_one_job_for_each_cell_scored("probe")),
    "probe_embeddings": Stage(
        "probe",
        makes=paths.PROBE_OF_EMBEDDINGS,
        jobs=_one_job_for_each_embedding_probed,
        meaning=lambda job: settings.scoring_names(
            job.config, job.wildcards.experiment, stage="probe"
        ),
        computes=True,
    ),
    "heatmaps": Stage(
        "heatmaps",
        makes=paths.HEATMAPS,
        jobs=_one_job_for_each_cell_with_heatmaps,
        further_modules=lambda job: [versions.module_name(*job.dataset_type)],
        meaning=lambda job: [
            ("scoring", "heatmaps"),
            ("models", "inputs"),
            job.loader,
        ],
        computes=True,
    ),
    "collect": Stage("collect", makes=paths.METRICS),
    "tables": Stage("tables", makes=paths.TABLES_SUMS),
    "claims": Stage("claims", makes=paths.CLAIMS_SUMS),
    "gallery": Stage(
        "gallery",
        makes=paths.GALLERY,
        jobs=lambda config, experiment: (
            [{}] if settings.gallery_cell(config, experiment) else []
        ),
        further_modules=lambda job: [
            versions.module_name(*job.at_gallery_cell().dataset_type)
        ],
        computes=True,
    ),
    "plot": Stage(
        "plot",
        makes=paths.FIGURE_SUMS,
        jobs=_one_job_for_each("figure", settings.shown_figures),
        further_modules=lambda job: [
            registry.module_name("figure", job.wildcards.figure)
        ],
    ),
    "site": Stage(
        "site",
        makes=paths.SITE_SUMS,
        further_modules=lambda job: [
            versions.module_name(*at.dataset_type) for at in job.at_each_cell()
        ],
        computes=True,
    ),
}
