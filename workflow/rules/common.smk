# What the rules share: the parameters and resources of jobs, and lists of files. A
# parameter holds only what its rule reads; settings are canonical JSON.
import functools
import os
import shlex
from pathlib import Path

from sae.core import paths, registry
from sae.core.files import dumps
from sae.data.splits import SPLITS
from sae_workflow import (
    expected_files,
    external_files,
    file_fingerprints,
    forecast,
    settings,
)
from sae_workflow.stages import STAGES, Job

ENVIRONMENT = "../../environment.yml"
COMPUTE = cfg.compute


wildcard_constraints:
    experiment="|".join(cfg.experiments),
    dataset="|".join(cfg.datasets),
    backbone="|".join(cfg.backbones),
    artifact="|".join(settings.artifacts()),
    method="|".join(cfg.methods),
    k=r"\d+",
    shard=r"\d+",
    shards=r"\d+",
    figure="|".join(cfg.figures),


# Jobs: command, parameters, resources.


@functools.cache
def _job_of(rule, wildcards):
    return Job(rule, cfg, dict(wildcards))


def job_of(rule, w):
    """Return a job, as `sae_workflow.stages` knows it; `w` are its wildcards."""
    return _job_of(rule, tuple(w.items()))


def command(rule, options):
    """Return the command of a rule's jobs.

    A job is told the hash that its code had when it was planned, and of which modules
    it is: code that is another one by then is an error. The hash is a resource, not a
    parameter: what it changes is for the parameter `meaning` to say.
    """
    step = STAGES[rule].step
    return f"python -m sae {step} {options} --code {{resources.code}} --log {{log}}"


def meaning_of(rule, list_files=lambda w: []):
    """Return the parameter `meaning` of a rule, a function of wildcards.

    It also holds the fingerprint of the files from elsewhere that a job reads, which
    `list_files` returns, if there are any. A parameter of its own would be a new one,
    also where there are no files, and run all jobs again.
    """

    def meaning(w):
        fingerprint = file_fingerprints.fingerprint_files(list_files(w))
        return " ".join(filter(None, (job_of(rule, w).meaning, fingerprint)))

    return meaning


def resources_of(rule):
    """Return the resources of a rule: what its jobs ask a cluster for, and their code.

    A local run takes no notice of the former.
    """
    resources = {
        "mem_mb": lambda w, attempt: forecast.memory_request(job_of(rule, w), attempt),
        "runtime": lambda w, attempt: forecast.runtime_request(
            job_of(rule, w), attempt
        ),
        "code": lambda w: job_of(rule, w).code,
    }
    # Jobs that compute on an accelerator each take one: how many there are is for the
    # profile to say.
    if STAGES[rule].computes:
        resources["gpu"] = int(COMPUTE.device != "cpu")
    return resources


def shared_option(folder):
    """Return the option that names a folder of other people's results.

    It is a resource, not a parameter: it changes no result.
    """
    places = shlex.join(f"{place}/{folder}" for place in COMPUTE.shared)
    return f"--shared {places}" if places else ""


def printed_names(w):
    """Return how an experiment's methods, datasets and backbones are printed."""
    return dumps(settings.printed_names(cfg, w.experiment))


# Files.


def project_files(pattern):
    """Return files of this project, as they are seen from the working directory.

    That is another folder where a workflow uses this one as a module.
    """
    files = settings.HERE.parent.glob(pattern)
    return sorted(os.path.relpath(file) for file in files)


PUBLISHED = project_files("workflow/resources/paper/*.csv")


def fill_in(pattern, **values):
    """Fill some wildcards of a pattern of `sae.core.paths` in.

    The other wildcards are left to Snakemake.
    """
    return expand(pattern, allow_missing=True, **values)


def for_each_cell(experiment, pattern, **values):
    """Fill a pattern in for every cell of an experiment, each file once."""
    files = []
    for cell in settings.cells(cfg, experiment):
        files += expand(pattern, experiment=experiment, **cell.wildcards, **values)
    return list(dict.fromkeys(files))


def for_each_embedding(experiment, pattern, **values):
    """Fill a pattern in for every dataset and backbone whose embeddings are read."""
    files = []
    for place in settings.embedded_datasets(cfg, experiment):
        files += expand(pattern, **place, **values)
    return list(dict.fromkeys(files))


def for_gallery_cell(w, pattern, **values):
    """Fill a pattern in for the cell that an experiment's galleries show."""
    cell = settings.gallery_cell(cfg, w.experiment)
    return pattern.format(experiment=w.experiment, **cell.wildcards, **values)


def results_of(experiment):
    """Return what an experiment ends in, and every manifest on the way."""
    return expected_files.expected_files(cfg, experiment)


# Files of datasets and backbones.


def artifact_manifests(entry):
    """Return the manifests of the artifacts that an entry of the config names."""
    return [
        file
        for name in entry.artifact_names
        for file in fill_in(paths.ARTIFACT, artifact=name)
    ]


def image_manifests(dataset):
    """Return the manifests of what a dataset's images were downloaded as."""
    manifests = artifact_manifests(cfg.datasets[dataset])
    if cfg.datasets[dataset].spec.get("download"):
        # Named only so that it is there: parameters of the dataset say what is in it.
        manifests.append(ancient(paths.DOWNLOAD.format(dataset=dataset)))
    return manifests


def external_files_to_embed(w):
    """Return the files from elsewhere that embeddings are made of, but for images."""
    weights = external_files.local_weights(cfg, w.backbone)
    return weights + external_files.given_embeddings(cfg, w.dataset, w.backbone)


def inputs_to_embed(w):
    """Return what the embeddings of a dataset by a backbone are made of."""
    files = fill_in([paths.INDEX, paths.DATASET], dataset=w.dataset)
    files += image_manifests(w.dataset)
    files += artifact_manifests(cfg.backbones[w.backbone])
    if external_files.is_from_hub(cfg, w.backbone):
        files += fill_in(paths.WEIGHTS, backbone=w.backbone)
    return files + external_files_to_embed(w)


# Files of cells.


def splits_of(*splits):
    """Return the inputs that are splits of a cell's embeddings, and their manifests.

    A change is followed through the manifests. The embeddings are named only so that a
    deleted file is made again.
    """
    return {
        "manifests": fill_in(paths.EMBEDDINGS_MANIFEST, split=splits),
        "embeddings": ancient(fill_in(paths.EMBEDDINGS, split=splits)),
    }


def backbones_read(step, w):
    """Return the other backbones whose embeddings a job reads beside its cell's own."""
    backbones = settings.other_backbones(cfg, w.experiment, w.backbone)
    if step == "score":
        backbones += settings.backbones_of_metrics(cfg, w.experiment, w.dataset)
    return backbones


def splits_of_others(rule):
    """Return the inputs that are splits of other backbones' and judges' embeddings.

    These are what a job of that rule reads. See `splits_of`.
    """

    def files_of_others(w, pattern):
        backbones = backbones_read(rule, w)
        patterns = fill_in(pattern, dataset=w.dataset, backbone=backbones)
        splits = settings.splits_of_other_backbones(cfg, w.experiment, rule)
        return expand(patterns, split=splits)

    return {
        "manifests_of_others": lambda w: files_of_others(w, paths.EMBEDDINGS_MANIFEST),
        "embeddings_of_others": lambda w: ancient(files_of_others(w, paths.EMBEDDINGS)),
    }


def folders_of_others(rule):
    """Return the parameter that names the folders of other backbones' embeddings.

    It is a function of wildcards that gives NAME=FOLDER of each that a job reads.
    """

    def folders(w):
        if not settings.splits_of_other_backbones(cfg, w.experiment, rule):
            return []
        return [
            f"{name}={paths.ACTIVATIONS.format(dataset=w.dataset, backbone=name)}"
            for name in backbones_read(rule, w)
        ]

    return folders


def concept_tables(w):
    """Return what people call the images of a dataset, where a metric reads it."""
    if not settings.reads_concepts(cfg, w.experiment):
        return []
    return [file.format(**w) for file in (paths.CONCEPTS, *paths.CONCEPT_TABLES)]


def concepts_option(w):
    """Return the option that names the folder of these tables."""
    if not concept_tables(w):
        return []
    return ["--concepts", paths.DATASETS.format(**w)]


def imported_saes(w):
    """Return the SAEs of a cell that were made elsewhere."""
    cell = settings.Cell(w.dataset, w.backbone, int(w.k))
    methods = settings.imported_methods_of_cell(cfg, w.experiment, cell)
    return [paths.IMPORTED.format(method=method) for method in methods]


# Scores.


def stage_params(stage):
    """Return the parameters of the job of a stage of scoring."""
    return {
        "stage": stage,
        "settings": lambda w: dumps(settings.stage_settings(cfg, w.experiment, stage)),
        "meaning": meaning_of(stage),
        "device": COMPUTE.device,
        "activations": lambda w: paths.ACTIVATIONS.format(**w),
        "out": lambda w: paths.STAGE.format(stage=stage, **w),
    }


def stage_tables(stage):
    """Return the tables that the job of a stage of scoring declares."""
    return fill_in(paths.STAGE_TABLE, stage=stage, table=paths.TABLES_OF_STAGE)


def tables_to_collect(w):
    """Return the tables of every stage, and the selections, of all cells."""
    stages = settings.stages_of_tables(cfg, w.experiment)
    tables = for_each_cell(
        w.experiment, paths.STAGE_TABLE, stage=stages, table=paths.TABLES_OF_STAGE
    )
    return tables + for_each_cell(w.experiment, paths.SELECTION)


def results_of_leaderboard(experiment):
    """Return what the leaderboard of an experiment reads of the others that it names.

    That is what made their rows, and the rows, in a file of either kind.
    """
    files = []
    for folder in cfg.experiments[experiment].leaderboard:
        place = Path(folder)
        files += [place / "made_by.json", place / "selection.parquet"]
        rows = [place / name for name in ("metrics.parquet", "metrics.csv")]
        files += [file for file in rows if file.exists()]
    return [str(file) for file in files]
