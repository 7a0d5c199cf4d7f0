"""What the workflow knows of each of its rules, once.

These are a rule's jobs, what gives their numbers their meaning, and what they need. The
rules, `make plan` and what jobs ask a cluster for read them here. What a job runs is a
step of `sae.steps`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from sae.config.models import Config
from sae.core import paths, registry, versions
from sae_workflow import external_files, missing_inputs, needs, settings
from sae_workflow.jobs import Job, Stage, Wildcards


def make_job(rule: str, config: Config, wildcards: Wildcards) -> Job:
    """Return a job of a rule; its wildcards include the experiment where it has one."""
    return Job(rule, STAGES[rule], config, wildcards)


JobsOfExperiment = Callable[[Config, str], list[Wildcards]]


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
    places = settings.embedded_datasets(config, experiment)
    return [place.wildcards for place in places]


def _one_job_for_each_shard(config: Config, experiment: str) -> list[Wildcards]:
    shard_count = config.compute.embed_shards
    if shard_count == 1:
        return []
    return [
        {**place.wildcards, "shard": shard}
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


def _one_job_for_each_embedding_probed(
    config: Config, experiment: str
) -> list[Wildcards]:
    """List the embeddings that SAEs are trained on, each once for all k."""
    if "probe" not in settings.metrics_by_stage(config, experiment):
        return []
    cells = settings.cells(config, experiment)
    places = dict.fromkeys((cell.dataset, cell.backbone) for cell in cells)
    return [{"dataset": dataset, "backbone": backbone} for dataset, backbone in places]


def _one_job_if_galleries_are_shown(config: Config, experiment: str) -> list[Wildcards]:
    if settings.gallery_cell(config, experiment) is None:
        return []
    return [{}]


def _datasets(config: Config, experiment: str) -> list[str]:
    return config.experiments[experiment].datasets


def _modules_of_all_importers(_job: Job) -> list[str]:
    return [
        registry.module_name("importer", name) for name in registry.names("importer")
    ]


def _meaning_of_scores(job: Job) -> list[versions.Name]:
    scored_by = settings.scoring_names(
        job.config, job.wildcards.experiment, stage=job.rule
    )
    return [("scoring", "stage"), *scored_by]


_EMBED = Stage(
    "embed",
    makes=paths.EMBEDDINGS_MANIFEST,
    memory=needs.embedding_memory,
    jobs=_one_job_for_each_embedding,
    meaning=lambda job: [("data", "embed"), job.dataset_type, job.loader],
    computes=True,
    seconds=needs.embedding_seconds,
    core_count_beside_gpu=needs.cores_beside_embedding,
)
_SCORE = Stage(
    "score",
    makes=paths.STAGE_TABLE,
    memory=needs.scoring_memory,
    jobs=_one_job_for_each_cell_scored("score"),
    meaning=_meaning_of_scores,
    computes=True,
    seconds=needs.scoring_seconds,
)
# {rule: its stage}, in the order in which the rules run.
STAGES: dict[str, Stage] = {
    "artifact": Stage(
        "fetch",
        makes=paths.ARTIFACT,
        memory=needs.small_memory,
        jobs=_one_job_for_each("artifact", missing_inputs.artifacts_of),
    ),
    "weights": Stage(
        "weights",
        makes=paths.WEIGHTS,
        memory=needs.small_memory,
        jobs=_one_job_for_each("backbone", external_files.hub_backbones),
        further_modules=lambda job: [versions.module_name(*job.loader)],
    ),
    "imported": Stage(
        "import",
        makes=paths.IMPORTED,
        memory=needs.small_memory,
        jobs=_one_job_for_each("method", settings.imported_methods),
        further_modules=_modules_of_all_importers,
    ),
    "download": Stage(
        "download",
        makes=paths.DOWNLOAD,
        memory=needs.small_memory,
        jobs=_one_job_for_each("dataset", external_files.downloaded_datasets),
        further_modules=lambda job: [versions.module_name(*job.dataset_type)],
    ),
    "dataset": Stage(
        "dataset",
        makes=paths.DATASET,
        memory=needs.indexing_memory,
        jobs=_one_job_for_each("dataset", _datasets),
        meaning=lambda job: [("data", "dataset"), job.dataset_type],
        seconds=needs.indexing_seconds,
        core_count_alone=needs.decoding_cores,
        core_count_beside_gpu=needs.decoding_cores,
    ),
    "annotate": Stage(
        "annotate",
        makes=paths.CONCEPTS,
        memory=needs.annotating_memory,
        jobs=_one_job_for_each("dataset", settings.annotated_datasets),
        meaning=lambda job: [("data", "concepts"), job.annotation_source],
    ),
    # A shard's own file is temporary: it counts as done once the joined store is there.
    "embed_shard": replace(
        _EMBED, jobs=_one_job_for_each_shard, seconds=needs.shard_seconds
    ),
    "embed": _EMBED,
    "train": Stage(
        "train",
        makes=paths.BANK,
        memory=needs.training_memory,
        jobs=_one_job_for_each_cell,
        meaning=lambda job: settings.training_names(job.plan),
        computes=True,
        seconds=needs.training_seconds,
        core_count_alone=needs.training_cores,
    ),
    "score": _SCORE,
    "robustness": replace(
        _SCORE,
        memory=needs.reconstructing_memory,
        jobs=_one_job_for_each_cell_scored("robustness"),
        seconds=needs.robustness_seconds,
    ),
    "probe": replace(
        _SCORE,
        memory=needs.probing_memory,
        jobs=_one_job_for_each_cell_scored("probe"),
        seconds=needs.probing_seconds,
    ),
    "probe_embeddings": Stage(
        "probe",
        makes=paths.PROBE_OF_EMBEDDINGS,
        memory=needs.embedding_probe_memory,
        jobs=_one_job_for_each_embedding_probed,
        meaning=lambda job: settings.scoring_names(
            job.config, job.wildcards.experiment, stage="probe"
        ),
        computes=True,
        seconds=needs.embedding_probe_seconds,
    ),
    "collect": Stage("collect", makes=paths.METRICS, memory=needs.collecting_memory),
    "tables": Stage("tables", makes=paths.TABLES_SUMS, memory=needs.small_memory),
    "claims": Stage("claims", makes=paths.CLAIMS_SUMS, memory=needs.small_memory),
    "gallery": Stage(
        "gallery",
        makes=paths.GALLERY,
        memory=needs.gallery_memory,
        jobs=_one_job_if_galleries_are_shown,
        further_modules=lambda job: [
            versions.module_name(*job.at_gallery_cell().dataset_type)
        ],
        computes=True,
    ),
    "plot": Stage(
        "plot",
        makes=paths.FIGURE_SUMS,
        memory=needs.small_memory,
        jobs=_one_job_for_each("figure", settings.shown_figures),
        further_modules=lambda job: [
            registry.module_name("figure", job.wildcards.figure)
        ],
    ),
    "site": Stage(
        "site",
        makes=paths.SITE_SUMS,
        memory=needs.site_memory,
        further_modules=lambda job: [
            versions.module_name(*at.dataset_type) for at in job.at_each_cell()
        ],
        computes=True,
        seconds=needs.site_seconds,
    ),
}
