"""What the workflow knows of a rule and of its jobs, such as what a job asks for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sae.bank.plan import Plan
from sae.config.models import Config
from sae.core import paths, versions
from sae.steps import STEPS
from sae_workflow import costs, planned_run, settings
from sae_workflow.durations import Seconds, dense_product_seconds

Wildcards = dict[str, Any]


class Job:
    """A job of a rule: what is known of it before it runs.

    Attributes:
        rule: The name of its rule.
        stage: What is known of the rule.
        config: The config of the run.
        wildcards: Its wildcards, as attributes.
    """

    def __init__(
        self, rule: str, stage: Stage, config: Config, wildcards: Wildcards
    ) -> None:
        self.rule = rule
        self.stage = stage
        self.config = config
        self.wildcards = SimpleNamespace(**wildcards)

    # What it runs.

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
        """The modules that it runs, each once, with spaces between."""
        step_module = STEPS[self.stage.step].function.partition(":")[0]
        modules = [step_module]
        for kind, name in self.stage.meaning(self):
            modules.append(versions.module_name(kind, name))
        modules += self.stage.further_modules(self)
        return " ".join(dict.fromkeys(modules))

    # What it asks for.

    def memory(self, attempt: int) -> int:
        """Return the memory that it asks for, in MB.

        Args:
            attempt: From 1; each asks for twice as much as the one before.
        """
        table = costs.cost_table()["memory"]
        try:
            megabytes = self.stage.memory(self)
        except costs.UnknownSize:
            megabytes = table["unknown"]
        # Snakemake itself runs beside the job.
        all_megabytes = megabytes + self.gpu_megabytes + table["cluster"]

        compute = self.config.compute
        factor = table["margin"] * compute.memory_factor * 2 ** (attempt - 1)
        request = math.ceil(all_megabytes * factor)
        return min(request, compute.memory_limit or request)

    @property
    def gpu_megabytes(self) -> float:
        """The memory of the host that a process takes for its GPU, in MB."""
        if self.stage.computes and self.config.compute.device != "cpu":
            return costs.cost_table()["memory"]["gpu"]
        return 0

    def runtime(self, attempt: int) -> int:
        """Return the time that it asks for, in minutes.

        Args:
            attempt: From 1; each asks for twice as much as the one before.
        """
        table = costs.cost_table()["runtime"]
        minutes = table["unknown"]
        if self.seconds:
            minutes = table["least"] + table["margin"] * self.seconds / 60

        compute = self.config.compute
        request = math.ceil(minutes * compute.time_factor * 2 ** (attempt - 1))
        return min(request, compute.time_limit or request)

    @functools.cached_property
    def seconds(self) -> float:
        """The seconds that it is estimated to take, with its start; 0 if unknown."""
        try:
            work = self.stage.seconds(self)
        except costs.UnknownSize:
            return 0
        if self.config.compute.device == "cpu":
            seconds = work.cores_alone / self.stage.core_count_alone(self)
        else:
            core_count = self.stage.core_count_beside_gpu(self)
            seconds = work.gpu + work.cores_beside_gpu / core_count
        return float(costs.rate("start") + seconds)

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

    # What it is about.

    @functools.cached_property
    def dataset_figures(self) -> costs.DatasetFigures:
        """The known figures of its dataset.

        Raises:
            UnknownSize: not even how many images there are.
        """
        figures = costs.dataset_figures_of(self.config, self.wildcards.dataset)
        if not figures.images_by_split:
            raise costs.UnknownSize
        return figures

    @functools.cached_property
    def embedding(self) -> costs.Embedding:
        """The sizes of its dataset, as its backbone embeds it.

        Raises:
            UnknownSize: those of one of them are not known.
        """
        return costs.embedding_of(
            self.config, self.wildcards.dataset, self.wildcards.backbone
        )

    @functools.cached_property
    def plan(self) -> Plan:
        """The plan of its cell: which SAEs are trained."""
        cell = settings.Cell(
            self.wildcards.dataset, self.wildcards.backbone, int(self.wildcards.k)
        )
        return settings.bank_plan(self.config, self.wildcards.experiment, cell)

    @functools.cached_property
    def probe_fit(self) -> costs.ProbeFit:
        """The size of the fits of its probes.

        Raises:
            UnknownSize: nobody knows how many classes its dataset has, or no metric
                says what it fits.
        """
        fit = costs.probe_fit(self.config, self.wildcards.experiment)
        if self.embedding.dataset.classes is None or fit is None:
            raise costs.UnknownSize
        return fit

    @property
    def seconds_to_encode(self) -> Seconds:
        """The time that the largest SAE of its cell takes to encode an image."""
        multiplications = self.embedding.dimensions * costs.largest_width(self.plan)
        return dense_product_seconds(2 * multiplications)

    @property
    def judges(self) -> list[str]:
        """The other backbones of its experiment, which judge its SAEs' latents."""
        return settings.other_backbones(
            self.config, self.wildcards.experiment, self.wildcards.backbone
        )

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

    # Other jobs.

    def at_cell(self, cell: settings.Cell) -> Job:
        """Return a job of the same rule and experiment that is about one cell."""
        wildcards = {"experiment": self.wildcards.experiment, **cell.wildcards}
        return Job(self.rule, self.stage, self.config, wildcards)

    def at_each_cell(self) -> list[Job]:
        """Return such a job for each cell of its experiment."""
        cells = settings.cells(self.config, self.wildcards.experiment)
        return [self.at_cell(cell) for cell in cells]

    def at_gallery_cell(self) -> Job:
        """Return such a job for the cell that the galleries show; there must be one."""
        cell = settings.gallery_cell(self.config, self.wildcards.experiment)
        assert cell is not None
        return self.at_cell(cell)


def _no_modules(_job: Job) -> list[str]:
    return []


def _no_names(_job: Job) -> list[versions.Name]:
    return []


def _one_job(_config: Config, _experiment: str) -> list[Wildcards]:
    return [{}]


def _no_work(_job: Job) -> Seconds:
    return Seconds()


def _threads(job: Job) -> int:
    return job.config.compute.threads


@dataclass(frozen=True)
class Stage:
    """A Snakemake rule as the workflow knows it, whichever its job.

    Attributes:
        step: What its jobs run (`sae.steps`).
        makes: Files that are there when a job is done, a pattern of `sae.core.paths`.
        memory: The memory that a job takes, in MB.
        jobs: The wildcards of each of its jobs in an experiment, but for the name of
            the experiment.
        further_modules: Modules that a job runs beside the step's own and those that
            `meaning` names.
        meaning: What gives a job's numbers their meaning. Another version of it
            (`sae.core.versions`) runs the job again. Where it is nothing, another hash
            of the job's modules does.
        computes: Whether a job takes an accelerator where there is one.
        seconds: What a job is estimated to take beside its start.
        core_count_alone: How many cores `seconds` counts on without a GPU.
        core_count_beside_gpu: How many cores `seconds` counts on beside a GPU.
    """

    step: str
    makes: str
    memory: Callable[[Job], float]
    jobs: Callable[[Config, str], list[Wildcards]] = _one_job
    further_modules: Callable[[Job], list[str]] = _no_modules
    meaning: Callable[[Job], list[versions.Name]] = _no_names
    computes: bool = False
    seconds: Callable[[Job], Seconds] = _no_work
    core_count_alone: Callable[[Job], int] = _threads
    core_count_beside_gpu: Callable[[Job], int] = _threads
