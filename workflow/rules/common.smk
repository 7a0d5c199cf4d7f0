# What the rules share: settings as canonical JSON (a rule's parameter holds only what the rule reads) and lists of files.
import functools
import os
import shlex
from pathlib import Path

from sae.core import paths, registry
from sae.core.files import dumps
from sae.data.artifacts import names as artifact_names
from sae.data.splits import SPLITS
from sae_workflow import expected, listing, settings
from sae_workflow.stages import STAGES, Job

ENVIRONMENT = "../../environment.yml"
COMPUTE = cfg.compute


def own(pattern):
    """Files of this project, as they are seen from the working directory: of a workflow that uses it as a module."""
    return sorted(os.path.relpath(file) for file in settings.HERE.parent.glob(pattern))


PUBLISHED = own("workflow/resources/paper/*.csv")


@functools.cache
def _job(rule, of):
    return Job(rule, cfg, dict(of))


def job_of(rule, w):
    """A job, as `sae_workflow.stages` knows it."""
    return _job(rule, tuple(w.items()))


def command(rule, options):
    """The command of a rule's jobs.

    A job is told the hash that its code had when it was planned, and of which modules it is: code that is another one
    by then is an error. A resource, not a parameter: what it changes is for the parameter `meaning` to say.
    """
    return f"python -m sae {STAGES[rule].step} {options} --code {{resources.code}} --log {{log}}"


def says(rule, files=lambda w: []):
    """The parameter `meaning` of a rule, and in it the listing of the files from elsewhere that it reads, if any.

    Not a parameter of its own: where there are none, that would be a new one, too, and run all jobs again.
    """
    return lambda w: " ".join(filter(None, (job_of(rule, w).meaning, listing.of_files(files(w)))))


def asks(rule):
    """The resources of a rule: what its jobs ask a cluster for, of which a local run takes no notice, and their code."""
    found = {
        "mem_mb": lambda w, attempt: job_of(rule, w).memory(attempt),
        "runtime": lambda w, attempt: job_of(rule, w).runtime(attempt),
        "code": lambda w: job_of(rule, w).code,
    }
    # Jobs that compute on an accelerator each take one: how many there are is for the profile to say.
    return found | ({"gpu": int(COMPUTE.device != "cpu")} if STAGES[rule].computes else {})


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


def at(pattern, **values):
    """A pattern of `sae.core.paths` with some wildcards filled in and the others left to Snakemake."""
    return expand(pattern, allow_missing=True, **values)


def artifact_files(*specs):
    """The manifests of the artifacts that some datasets' or backbones' specifications name."""
    return [file for spec in specs for name in artifact_names(spec) for file in at(paths.ARTIFACT, artifact=name)]


def images_of(dataset):
    """The manifests of what a dataset's images were downloaded as."""
    # That of the download is named only so that it is there: the dataset's own parameters say what is in it.
    own = [ancient(paths.DOWNLOAD.format(dataset=dataset))] if cfg.datasets[dataset].spec.get("download") else []
    return artifact_files(cfg.datasets[dataset].spec) + own


def of_banks(experiment, pattern, **values):
    """`pattern` filled in for every bank of an experiment, each name once."""
    banks = settings.banks(cfg, experiment)
    found = [file for bank in banks for file in expand(pattern, experiment=experiment, **bank, **values)]
    return list(dict.fromkeys(found))


def of_embedded(experiment, pattern, **values):
    """`pattern` filled in for every dataset and backbone of which an experiment reads embeddings."""
    places = settings.embedded(cfg, experiment)
    return list(dict.fromkeys(file for place in places for file in expand(pattern, **place, **values)))


def shared(folder):
    """The option that names a folder of other people's results; a resource, not a parameter: it changes no result."""
    places = shlex.join(f"{place}/{folder}" for place in COMPUTE.shared)
    return f"--shared {places}" if places else ""


def results_beside(experiment):
    """What the board of an experiment reads of the other ones that it names: their rows, and what made them."""
    places = [Path(place) for place in cfg.experiments[experiment].board]
    names = ("made_by.json", "metrics.parquet", "metrics.csv")
    return [str(place / name) for place in places for name in names if name == names[0] or (place / name).exists()]


def splits_of(*splits):
    """The manifests of embeddings' splits, and the embeddings.

    A change is followed through the manifest; the embeddings are named only so that a deleted file is made again.
    """
    return {
        "manifests": at(paths.EMBEDDINGS_MANIFEST, split=splits),
        "embeddings": ancient(at(paths.EMBEDDINGS, split=splits)),
    }


def given_to_embed(w):
    """The files from elsewhere that the embeddings of a dataset by a backbone are made of, but for images."""
    return settings.local_weights(cfg, w.backbone) + settings.given_embeddings(cfg, w.dataset, w.backbone)


def embed_inputs(w):
    """What the embeddings of a dataset by a backbone are made of."""
    return [
        *at([paths.INDEX, paths.DATASET], dataset=w.dataset),
        *images_of(w.dataset),
        *artifact_files(cfg.backbones[w.backbone].spec),
        *(at(paths.WEIGHTS, backbone=w.backbone) if settings.from_hub(cfg, w.backbone) else []),
        *given_to_embed(w),
    ]


def imported_of(w):
    """The SAEs of a bank that were made elsewhere."""
    methods = settings.imported(cfg, w.experiment, (w.dataset, w.backbone, int(w.k)))
    return [paths.IMPORTED.format(method=method) for method in methods]


def of_others(rule):
    """What jobs read of each other backbone and of each judge of the experiment, as `splits_of` has it."""

    def read(w, pattern):
        places = at(pattern, dataset=w.dataset, backbone=settings.others(cfg, w.experiment, w.backbone))
        return expand(places, split=settings.splits_of_others(cfg, w.experiment, rule))

    return {
        "manifests_of_others": lambda w: read(w, paths.EMBEDDINGS_MANIFEST),
        "embeddings_of_others": lambda w: ancient(read(w, paths.EMBEDDINGS)),
    }


def concepts_of(w):
    """What people call the images of a job's dataset, where a metric of the experiment reads it."""
    files = [paths.CONCEPTS, *paths.CONCEPT_TABLES] if settings.reads_concepts(cfg, w.experiment) else []
    return [file.format(**w) for file in files]


def named_others(rule):
    """NAME=FOLDER of each of them."""

    def named(w):
        read = settings.splits_of_others(cfg, w.experiment, rule)
        names = settings.others(cfg, w.experiment, w.backbone) if read else []
        return [f"{name}={paths.ACTIVATIONS.format(dataset=w.dataset, backbone=name)}" for name in names]

    return named


def stage_params(stage):
    """The parameters of the job of a stage of scoring."""
    return {
        "stage": stage,
        "settings": lambda w: dumps(settings.stage_settings(cfg, w.experiment, stage)),
        "meaning": says(stage),
        "device": COMPUTE.device,
        "activations": lambda w: paths.ACTIVATIONS.format(**w),
        "out": lambda w: paths.STAGE.format(stage=stage, **w),
    }


def stage_tables(stage):
    """What that job declares."""
    return at(paths.STAGE_TABLE, stage=stage, table=paths.TABLES_OF_STAGE)


def collected(w):
    """The tables of every stage, and the selections, of all banks of an experiment."""
    stages = list(settings.stages(cfg, w.experiment))
    tables = of_banks(w.experiment, paths.STAGE_TABLE, stage=stages, table=paths.TABLES_OF_STAGE)
    return tables + of_banks(w.experiment, paths.SELECTION)


def names_of(w):
    """How an experiment's methods, datasets and backbones are printed and drawn."""
    return dumps(settings.names(cfg, w.experiment))


def of_gallery(w, pattern, **values):
    """`pattern` filled in for the cell that an experiment's galleries show."""
    return pattern.format(experiment=w.experiment, **settings.gallery(cfg, w.experiment), **values)


def results_of(experiment):
    """What an experiment ends in, and every manifest on the way."""
    return expected.files_of(cfg, experiment)
