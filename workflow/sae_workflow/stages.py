"""What the workflow knows of each of its rules, once: its jobs, what gives its numbers their meaning, its needs.

The rules, `make plan` and what jobs ask a cluster for read these. What a job runs is a
step of `sae.steps`; the figures behind memory and time are in
workflow/resources/costs.yaml (measured: bench/performance_cells.py memory).
"""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from sae.bank.plan import Plan
from sae.config.models import Config
from sae.core import paths, registry, versions
from sae.data.splits import SPLITS
from sae.models.sizes import CHUNK, RESIDENT
from sae.steps import STEPS
from sae_workflow import costs, handover, missing, settings

Wildcards = dict[str, Any]
Sizes = dict[str, float]
MB = 1e6


class Unknown(Exception):
    """Nothing is known of the size of a job's dataset or backbone."""


class Job:
    """A job of a rule; `of` are its wildcards."""

    def __init__(self, rule: str, config: Config, of: dict[str, Any]) -> None:
        self.rule, self.stage, self.config, self.compute = (
            rule,
            STAGES[rule],
            config,
            config.compute,
        )
        self.of = SimpleNamespace(**of)

    @functools.cached_property
    def meaning(self) -> str:
        """The parameter of its rule that runs it again: versions, or the hash of code that has none."""
        names = self.stage.meaning(self)
        return handover.meaning(names) if names else handover.code(self._modules)

    @functools.cached_property
    def code(self) -> str:
        """The hash that its code has now, and the modules: if it was edited by the time it runs, that is an error."""
        return f"{handover.code(self._modules)} {self._modules}"

    @property
    def _modules(self) -> str:
        own = STEPS[self.stage.step].function.partition(":")[0]
        of = [versions.module_name(*name) for name in self.stage.meaning(self)]
        return " ".join(dict.fromkeys([own, *of, *self.stage.beside(self)]))

    def memory(self, attempt: int) -> int:
        """What it asks for, in MB: twice as much at each attempt, from 1."""
        figures = costs.figures()["memory"]
        gpu = (
            figures["gpu"]
            if self.stage.computes and self.compute.device != "cpu"
            else 0
        )
        try:
            used = (
                self.stage.used(self, gpu)
                if self.stage.used
                else memory_of(self.stage.like, self.stage.sizes(self))
            )
        except Unknown:
            used = figures["unknown"]
        factor = figures["margin"] * self.compute.memory_factor * 2 ** (attempt - 1)
        asked = math.ceil((used + gpu + figures["cluster"]) * factor)
        return min(asked, self.compute.memory_limit or asked)

    def runtime(self, attempt: int) -> int:
        """What it asks for, in minutes: twice as much at each attempt, from 1."""
        figures = costs.figures()["runtime"]
        known = self.seconds
        minutes = (
            figures["least"] + figures["margin"] * known / 60
            if known
            else figures["unknown"]
        )
        asked = math.ceil(minutes * self.compute.time_factor * 2 ** (attempt - 1))
        return min(asked, self.compute.time_limit or asked)

    @property
    def is_done(self) -> bool:
        """Whether what it makes is there."""
        one = {
            "split": "train",
            "stage": self.rule,
            "table": paths.TABLES_OF_STAGE[0],
            "part": paths.GALLERY_PARTS[0],
        }
        return Path(self.stage.makes.format(**one | vars(self.of))).exists()

    @functools.cached_property
    def seconds(self) -> float:
        """What it is reckoned to take, its start included; 0 where nobody knows."""
        try:
            on_gpu, beside, alone = self.stage.seconds(self)
        except Unknown:
            return 0
        cores, cores_beside = self.stage.cores(self)
        own = (
            alone / cores
            if self.compute.device == "cpu"
            else on_gpu + beside / cores_beside
        )
        return float(costs.rate("start") + own)

    @functools.cached_property
    def data(self) -> dict[str, Any]:
        """What is known of its dataset (`costs.data_of`).

        Raises:
            Unknown: not even how many images there are.
        """
        found = costs.data_of(self.config, self.of.dataset)
        if not found["rows"]:
            raise Unknown
        return found

    @functools.cached_property
    def cell(self) -> costs.Cell:
        """Its dataset and backbone.

        Raises:
            Unknown: costs.yaml lacks one of them.
        """
        found, _ = costs.cell(self.config, self.of.dataset, self.of.backbone)
        if found is None:
            raise Unknown
        return found

    @functools.cached_property
    def plan(self) -> Plan:
        """What its cell trains."""
        return settings.bank_plan(
            self.config,
            self.of.experiment,
            self.of.dataset,
            self.of.backbone,
            int(self.of.k),
        )

    @functools.cached_property
    def fits(self) -> costs.Fits:
        """What its probes are fitted on.

        Raises:
            Unknown: nobody knows how many classes they have, or no metric says what it fits.
        """
        fits = costs.fits(self.config, self.of.experiment)
        if self.cell.data["classes"] is None or fits is None:
            raise Unknown
        return fits

    @property
    def encoding(self) -> costs.Seconds:
        """To encode an image."""
        return costs.dense(2 * self.cell.d * costs.width(self.plan))

    @property
    def dataset(self) -> versions.Name:
        """The type of its dataset."""
        return "dataset", self.config.datasets[self.of.dataset].type

    @property
    def annotation(self) -> versions.Name:
        """The source of what people call its dataset's images."""
        return "annotation", self.config.datasets[self.of.dataset].concepts.source

    @property
    def loader(self) -> versions.Name:
        """The loader of its backbone."""
        return "backbone", self.config.backbones[self.of.backbone].loader


@dataclass(frozen=True)
class Stage:
    """A rule, as others ask about it.

    Attributes:
        step: what its jobs run (`sae.steps`).
        makes: files that are there when a job is done, a pattern of `sae.core.paths`.
        jobs: the wildcards of each of its jobs in an experiment, but for the experiment's name.
        beside: modules that they run beside the step's own and those that `meaning` names.
        meaning: what gives its numbers their meaning: another version (`sae.core.versions`) of it runs its jobs again.
            Where it is nothing, another hash of its modules, or of what they import, does.
        computes: whether it takes an accelerator where there is one.
        like: which figures of costs.yaml say how its memory grows with `sizes`.
        sizes: {what: how much of it}, in MB but for counts.
        used: its memory in MB, where `like` and `sizes` do not say it; it is told what each further process takes for a
            GPU.
        seconds: what a job is reckoned to take beside its start.
        cores: how many cores that counts on, without a GPU and beside one.
    """

    step: str
    makes: str
    jobs: Callable[[Config, str], list[Wildcards]] = lambda config, experiment: [{}]
    beside: Callable[[Job], list[str]] = lambda job: []
    meaning: Callable[[Job], list[versions.Name]] = lambda job: []
    computes: bool = False
    like: str = "small"
    sizes: Callable[[Job], Sizes] = lambda job: {}
    used: Callable[[Job, float], float] | None = None
    seconds: Callable[[Job], costs.Seconds] = lambda job: costs.cores(0)
    cores: Callable[[Job], tuple[int, int]] = lambda job: (job.compute.threads,) * 2


def memory_of(stage: str, sizes: Sizes) -> float:
    """What a job takes, in MB, by the figures of costs.yaml; sizes that they do not name take nothing."""
    base, *each = costs.figures()["memory"]["rules"][stage].items()
    return base[1] + sum(figure * sizes.get(name, 0) for name, figure in each)


def each(
    wildcard: str, names: Callable[[Config, str], Iterable[str]]
) -> Callable[[Config, str], list[Wildcards]]:
    """A job for each of these names."""
    return lambda config, experiment: [
        {wildcard: name} for name in names(config, experiment)
    ]


def bank_sizes(cell: costs.Cell, plan: Plan) -> Sizes:
    """Of a cell: its inputs (of train alone, and of all splits), an SAE, a chunk's activations, codes."""
    m = costs.width(plan)
    inputs = [4 * cell.rows[split] * cell.d for split in SPLITS]
    train, *held_out = (size if size <= RESIDENT else RESIDENT // 4 for size in inputs)
    codes = 8 * (cell.rows["val"] + cell.rows["test"]) * plan.k
    sizes = {
        "train": train,
        "inputs": train + sum(held_out),
        "codes": codes,
        "sae": 8 * m * cell.d,
    }
    return {
        name: size / MB for name, size in (sizes | {"chunk": 4 * CHUNK * m}).items()
    }


def ranking_sizes(cell: costs.Cell, k: int, judges: int, most_images: int) -> Sizes:
    """Of metrics that rank: codes of the training images that they read, their embeddings, and those of judges.

    Args:
        judges: How many there are.
        most_images: Training images that are read at most.
    """
    train = min(cell.rows["train"], most_images)
    of_judge = 4 * (train + cell.rows["val"] + cell.rows["test"]) * cell.d
    return {"found": (16 * train * k + 6 * train * cell.d + judges * of_judge) / MB}


def matching_sizes(job: Job) -> Sizes:
    """Return the memory of matching with concepts, where a metric of the job does it.

    Annotations take about 1 kB an image with a dozen keywords; a thousand concepts are
    looked at at once, with eight arrays of all latents.
    """
    if not settings.reads_concepts(job.config, job.of.experiment):
        return {}
    annotations = 1000 * sum(job.cell.rows.values())
    candidates = 8 * 8 * 1024 * costs.width(job.plan)
    return {"matching": (annotations + candidates) / MB}


def probe_sizes(cell: costs.Cell, width: int, fits: costs.Fits) -> Sizes:
    """Of probes on `width` features: embeddings that they read, a score for each image and class, weights."""
    images, classes = min(cell.rows["train"], fits.images), cell.data["classes"]
    read = 4 * (images + cell.rows["val"] + cell.rows["test"]) * cell.d
    return {
        "read": read / MB,
        "scores": 4 * images * classes / MB,
        "coefficients": 4 * classes * width / MB,
    }


def _of_training(job: Job, gpu: float) -> float:
    # It scores, too: alone, or beside processes that train.
    sizes, at_once = bank_sizes(job.cell, job.plan), job.compute.saes_at_once
    training, scoring = memory_of("train", sizes), memory_of("score", sizes)
    return (
        max(training, scoring) + sizes["train"]
        if at_once == 1
        else at_once * (training + gpu) + scoring
    )


def _training(job: Job) -> costs.Seconds:
    trained = [
        number * costs.training(job.cell, job.plan, method, of.most_steps)
        for of in costs.sizes(job.plan)
        for method, number in of.by_method.items()
    ]
    return np.sum(trained, axis=0) + costs.saes(job.plan) * (
        job.cell.rows["val"] * job.encoding
    )


def _judges(job: Job) -> list[str]:
    return settings.others(job.config, job.of.experiment, job.of.backbone)


def _scoring(job: Job) -> costs.Seconds:
    # Each SAE encodes all splits, and other backbones find its images; a judged one is scored by each of them on test.
    rows, others = job.cell.rows, len(_judges(job))
    ms = costs.cores(
        2 * job.plan.k * job.cell.d / 1e9 / costs.rate("sparse")
    )  # of an image
    every = sum(rows.values()) * job.encoding + (rows["val"] + rows["test"]) * ms
    # Of each judge, draw, kind and latent the images are ranked.
    rankings = others * costs.rankings(job.config, job.of.experiment)
    ranked = rankings * costs.width(job.plan) * (rows["val"] + rows["test"]) / 1e6
    every = every + costs.cores(ranked * costs.rate("rank"))
    return costs.saes(job.plan) * every + costs.judged(job.plan) * rows["test"] * (
        job.encoding + (1 + others) * ms
    )


def _probing(job: Job) -> costs.Seconds:
    rows = job.cell.rows
    read = min(rows["train"], job.fits.images) + rows["val"] + rows["test"]
    return costs.judged(job.plan) * (
        read * job.encoding + costs.probing_codes(job.cell, job.fits)
    )


def _collected(job: Job) -> Sizes:
    plans = costs.plans(job.config, job.of.experiment)
    latents = sum(costs.judged(plan) * costs.width(plan) for plan in plans)
    return {"latents": latents / MB, "saes": sum(map(costs.saes, plans))}


def _shown(job: Job) -> Job:
    """A job of the cell that the galleries show."""
    shown = settings.gallery(job.config, job.of.experiment) or {}
    return Job("gallery", job.config, {"experiment": job.of.experiment} | shown)


def _cells(job: Job) -> list[Job]:
    """A job of each cell of its experiment."""
    banks = settings.banks(job.config, job.of.experiment)
    return [
        Job("site", job.config, {"experiment": job.of.experiment} | bank)
        for bank in banks
    ]


def _of_site(job: Job) -> Sizes:
    """Of the largest cell, of which an SAE of each method is open at once."""
    found = [bank_sizes(cell.cell, cell.plan) for cell in _cells(job)]
    of_one = {name: max(sizes[name] for sizes in found) for name in found[0]}
    return of_one | {"sae": of_one["sae"] * len(_cells(job)[0].plan.methods)}


def _showing(job: Job) -> costs.Seconds:
    """An SAE of each method of each cell encodes its test images."""
    each = [
        len(cell.plan.methods) * cell.cell.rows["test"] * cell.encoding
        for cell in _cells(job)
    ]
    return np.sum(each, axis=0)


def _scored(stage: str) -> Callable[[Config, str], list[Wildcards]]:
    return lambda config, e: (
        settings.banks(config, e) if stage in settings.stages(config, e) else []
    )


def _probed(config: Config, experiment: str) -> list[Wildcards]:
    # Embeddings are probed once for all k.
    places = [
        (bank["dataset"], bank["backbone"])
        for bank in _scored("probe")(config, experiment)
    ]
    return [
        {"dataset": dataset, "backbone": backbone}
        for dataset, backbone in dict.fromkeys(places)
    ]


def _shards(config: Config, experiment: str) -> list[Wildcards]:
    shards = config.compute.embed_shards
    return [
        cell | {"shard": s}
        for cell in settings.embedded(config, experiment)
        for s in range(shards)
        if shards > 1
    ]


_EMBED = Stage(
    "embed",
    paths.EMBEDDINGS_MANIFEST,
    settings.embedded,
    meaning=lambda job: [("data", "embed"), job.dataset, job.loader],
    computes=True,
    like="embed",
    sizes=lambda job: {
        "workers": job.compute.decode_workers,
        "weights": 4 * job.cell.model.get("parameters", 0),
    },
    seconds=lambda job: (
        costs.embedding(job.cell) * (job.compute.embed_shards < 2)
    ),  # Else it only joins them.
    cores=lambda job: (
        job.compute.threads,
        max(job.compute.threads, job.compute.decode_workers),
    ),
)
_SCORE = Stage(
    "score",
    paths.STAGE_TABLE,
    _scored("score"),
    meaning=lambda job: [
        ("scoring", "stage"),
        *settings.scoring(job.config, job.of.experiment, job.rule),
    ],
    computes=True,
    like="score",
    sizes=lambda job: (
        bank_sizes(job.cell, job.plan)
        | ranking_sizes(
            job.cell,
            job.plan.k,
            len(_judges(job)),
            costs.ranked_images(job.config, job.of.experiment),
        )
        | matching_sizes(job)
    ),
    seconds=_scoring,
)
# By the names of their rules, in the order in which these run.
STAGES: dict[str, Stage] = {
    "artifact": Stage("fetch", paths.ARTIFACT, each("artifact", missing.artifacts_of)),
    "weights": Stage(
        "weights",
        paths.WEIGHTS,
        each("backbone", settings.hub_backbones),
        lambda job: [versions.module_name(*job.loader)],
    ),
    "imported": Stage(
        "import",
        paths.IMPORTED,
        each("method", settings.imported),
        lambda job: [
            registry.module_name("importer", name)
            for name in registry.names("importer")
        ],
    ),
    "download": Stage(
        "download",
        paths.DOWNLOAD,
        each("dataset", settings.downloaded),
        lambda job: [versions.module_name(*job.dataset)],
    ),
    "dataset": Stage(
        "dataset",
        paths.DATASET,
        each(
            "dataset",
            lambda config, experiment: config.experiments[experiment].datasets,
        ),
        meaning=lambda job: [("data", "dataset"), job.dataset],
        like="dataset",
        sizes=lambda job: {
            "workers": job.compute.decode_workers,
            "images": sum(job.data["rows"].values()) / MB,
        },
        seconds=lambda job: (
            costs.decoding(job.data) * job.config.datasets[job.of.dataset].has_images
        ),
        cores=lambda job: (max(1, job.compute.decode_workers),) * 2,
    ),
    "annotate": Stage(
        "annotate",
        paths.CONCEPTS,
        each("dataset", settings.annotated),
        meaning=lambda job: [("data", "concepts"), job.annotation],
        like="dataset",
        sizes=lambda job: {"images": sum(job.data["rows"].values()) / MB},
    ),
    "embed_shard": replace(
        _EMBED,
        jobs=_shards,
        seconds=lambda job: costs.embedding(job.cell) / job.compute.embed_shards,
    ),
    "embed": _EMBED,
    "train": Stage(
        "train",
        paths.BANK,
        settings.banks,
        meaning=lambda job: settings.training(job.plan),
        computes=True,
        like="train",
        used=_of_training,
        seconds=_training,
        cores=lambda job: (
            job.compute.threads * job.compute.saes_at_once,
            job.compute.threads,
        ),
    ),
    "score": _SCORE,
    "robustness": replace(
        _SCORE,
        jobs=_scored("robustness"),
        sizes=lambda job: bank_sizes(job.cell, job.plan),
        seconds=lambda job: (
            costs.judged(job.plan) * 2 * job.cell.rows["test"] * job.encoding
        ),
    ),
    "probe": replace(
        _SCORE,
        jobs=_scored("probe"),
        like="probe",
        sizes=lambda job: (
            bank_sizes(job.cell, job.plan)
            | probe_sizes(job.cell, costs.width(job.plan), job.fits)
        ),
        seconds=_probing,
    ),
    "probe_embeddings": Stage(
        "probe",
        paths.PROBE_OF_EMBEDDINGS,
        _probed,
        meaning=lambda job: settings.scoring(job.config, job.of.experiment, "probe"),
        computes=True,
        like="probe_embeddings",
        sizes=lambda job: probe_sizes(job.cell, job.cell.d, job.fits),
        seconds=lambda job: costs.probing(job.cell, job.fits),
    ),
    "collect": Stage("collect", paths.METRICS, like="collect", sizes=_collected),
    "tables": Stage("tables", paths.TABLES_SUMS),
    "claims": Stage("claims", paths.CLAIMS_SUMS),
    "gallery": Stage(
        "gallery",
        paths.GALLERY,
        lambda config, experiment: [{}] if settings.gallery(config, experiment) else [],
        lambda job: [versions.module_name(*_shown(job).dataset)],
        computes=True,
        like="score",
        sizes=lambda job: bank_sizes(_shown(job).cell, _shown(job).plan),
    ),
    "plot": Stage(
        "plot",
        paths.FIGURE_SUMS,
        each("figure", settings.figures),
        lambda job: [registry.module_name("figure", job.of.figure)],
    ),
    "site": Stage(
        "site",
        paths.SITE_SUMS,
        beside=lambda job: [
            versions.module_name(*cell.dataset) for cell in _cells(job)
        ],
        computes=True,
        like="score",
        sizes=_of_site,
        seconds=_showing,
    ),
}
