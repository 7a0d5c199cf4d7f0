"""What an experiment makes and costs: downloads, jobs, disk, hours, a job's memory.

A size of a job (images, dimensions, latents, SAEs) times a constant of costs.yaml,
which names its source, is what the job takes. Where jobs of a rule have ended here,
what they took corrects those that are left. `make plan` prints it; on a cluster each
job asks for it, with a margin, and for twice as much at each retry.

Snakemake lacks it: a dry run lists jobs, not what they take, and what `mem_mb` and
`runtime` are is for the workflow to say.
"""

import functools
import math
import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from sae.bank.plan import Plan
from sae.config.models import Config
from sae.core import files, paths, registry
from sae.core.errors import UserError
from sae.core.options import from_record
from sae.data.splits import SPLITS
from sae.models.sizes import CHUNK, RESIDENT
from sae.protocols._history import Sizes
from sae_workflow import missing_inputs, settings
from sae_workflow.command_line import run_command
from sae_workflow.stages import STAGES, Job

# Below these SAEs train, and nothing can be said of their methods (docs/data.md).
FEWEST_IMAGES = 10  # for training, of each latent
FEWEST_STEPS = 50
MOST_PICTURES = 12_288  # of a dataset, on a site
# A job that found its SAEs in the store took next to nothing, and one that was resumed
# has the time of its last part: others of its rule will hardly be so fast.
FASTEST_PACE = 0.3


class UnknownSize(Exception):
    """Nobody knows the size of something that memory and time hang on."""


# What is known of datasets, backbones and cells.


def count_images(config: Config, dataset: str) -> dict[str, int]:
    """Return {split: images}: of an index that was made here, else as planned.

    Raises:
        UnknownSize: nobody knows, until the dataset is indexed.
    """
    manifest = paths.DATASET.format(dataset=dataset)
    made_here = _read_manifest(manifest)
    if "images" in made_here:
        return made_here["images"]

    entry = config.datasets[dataset]
    spec = entry.spec
    images = _planned_images(_figures("datasets", dataset, spec), spec)
    if not images.keys() >= set(SPLITS):
        # The dataset's type may count files. What is wrong with them others say.
        with suppress(UserError, OSError, AttributeError):
            module = registry.load("dataset", entry.type)
            # A type of one's own is not run before its job.
            if not module.__name__.startswith(registry.EXTENSIONS):
                images = module.count_images(entry)
    if not images.keys() >= set(SPLITS):
        raise UnknownSize(
            f"no number of images of dataset {dataset}: it is known once its index is "
            f"made, `snakemake {manifest}` with the --configfile of the run"
        )
    train_images = round(images["train"] * spec.get("train_share", 1))
    return {"train": train_images, "val": images["val"], "test": images["test"]}


def _planned_images(
    figures: Mapping[str, Any], spec: Mapping[str, Any]
) -> dict[str, int]:
    """Return {split: images} of those splits of which the entry or costs.yaml says."""
    if "fractions" in spec and "total" in figures:
        total = figures["total"]
        val = round(total * spec["fractions"]["val"])
        test = round(total * spec["fractions"]["test"])
        return {"train": total - val - test, "val": val, "test": test}

    # What the entry says counts before what costs.yaml has.
    counts = {**figures, **_counts(spec, "images"), **_counts(spec, "counts")}
    stated = {split: counts[split] for split in SPLITS if split in counts}
    if "val_fraction" in spec and "train" in stated and "val" not in stated:
        val = round(stated["train"] * spec["val_fraction"])
        return stated | {"train": stated["train"] - val, "val": val}
    return stated


def backbone_figures(config: Config, dataset: str, backbone: str) -> dict[str, Any]:
    """Return what is known of a backbone, as in costs.yaml; `d` and `gflop` are there.

    Embeddings that were made here say `d` first.

    Raises:
        UnknownSize: one of the two is not known.
    """
    entry = config.backbones[backbone]
    figures = {**_figures("backbones", backbone, entry.spec), **entry.spec}
    place = {"dataset": dataset, "backbone": backbone, "split": "train"}
    manifest = _read_manifest(paths.EMBEDDINGS_MANIFEST.format(**place))
    if "shape" in manifest:
        figures["d"] = manifest["shape"][1]
    if not entry.reads_images:
        figures["gflop"] = 0
    if not figures.keys() >= {"d", "gflop"}:
        raise UnknownSize(
            f"backbone {backbone}: {settings.COSTS} has no figures of its model "
            f"{entry.model}"
        )
    return figures


def _read_manifest(path: str) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except (UserError, OSError):
        return {}


def _counts(spec: Mapping[str, Any], key: str) -> dict[str, int]:
    """Return {split: images} that an entry says; a type of one's own may mean else."""
    counts = spec.get(key)
    return dict(counts) if isinstance(counts, Mapping) else {}


def _figures(section: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what costs.yaml has of an entry: by its name, its model, then its type."""
    table = settings.costs()[section]
    for key in (name, spec.get("model"), spec.get("name")):
        if key in table:
            return table[key]
    of_type = table.get(spec.get("type"), {})
    # How many images there are is another dataset's of the type.
    return {key: value for key, value in of_type.items() if key != "total"}


def protocol_sizes(plan: Plan) -> list[Sizes]:
    """Return how many SAEs each protocol trains in a cell, at most."""
    sizes = []
    for name, record in plan.protocols.items():
        options = from_record(registry.head("protocol", name).options, record)
        sizes.append(registry.load("protocol", name).at_most(plan, options))
    return sizes


def count_saes(plan: Plan) -> int:
    """Return how many SAEs all protocols together train in a cell, at most."""
    return sum(size.trials + size.after for size in protocol_sizes(plan))


def largest_recipe(plan: Plan, method: str) -> dict[str, Any]:
    """Return what a method's SAEs are trained with; of swept values, the largest."""
    planned = plan.methods[method]
    sweep = plan.methods[planned.at or method].sweep
    largest = {option: max(values) for option, values in sweep.items()}
    return {**plan.recipe, **planned.recipe, **largest}


def largest_width(plan: Plan) -> int:
    """Return the largest number m of latents of the SAEs of a cell."""
    return max(largest_recipe(plan, method)["m"] for method in plan.methods)


class JobSizes:
    """The sizes of a job; each raises `UnknownSize` where nobody knows it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.config = job.config
        self.at = job.wildcards
        compute = job.config.compute
        self.has_gpu = compute.device != "cpu" and job.stage.computes
        self.cores = compute.threads
        if job.rule in ("dataset", "embed", "embed_shard"):
            self.cores = max(self.cores, compute.decode_workers)
        elif job.rule == "train":
            self.cores *= compute.saes_at_once

    @functools.cached_property
    def images(self) -> dict[str, int]:
        """{split: images} of the dataset, "all" of them and "held out" ones."""
        images = count_images(self.config, self.at.dataset)
        held_out = images["val"] + images["test"]
        return {**images, "held out": held_out, "all": images["train"] + held_out}

    @functools.cached_property
    def backbone(self) -> dict[str, Any]:
        """What is known of the backbone."""
        return backbone_figures(self.config, self.at.dataset, self.at.backbone)

    @property
    def d(self) -> int:
        """The dimensions of an embedding."""
        return self.backbone["d"]

    @functools.cached_property
    def m(self) -> int:
        """The latents of the cell's largest SAE."""
        return largest_width(self.job.plan)

    @functools.cached_property
    def chosen(self) -> int:
        """How many of the cell's SAEs get every score, at most."""
        return sum(size.chosen for size in protocol_sizes(self.job.plan))

    @property
    def judges(self) -> int:
        """How many other backbones judge the cell's latents."""
        experiment, backbone = self.at.experiment, self.at.backbone
        return len(settings.other_backbones(self.config, experiment, backbone))

    def metrics_of(self, stage: str) -> dict[str, settings.Record]:
        """Return {metric: its options} of a stage."""
        by_stage = settings.metrics_by_stage(self.config, self.at.experiment)
        return by_stage.get(stage, {})

    @functools.cached_property
    def fit(self) -> dict[str, int]:
        """What probes are fitted on: images, strengths, the largest k', classes."""
        dataset = self.at.dataset
        figures = {
            **_figures("datasets", dataset, self.config.datasets[dataset].spec),
            **_read_manifest(paths.DATASET.format(dataset=dataset)),
        }
        options = self.metrics_of("probe").get("probe")
        if options is None or "classes" not in figures:
            raise UnknownSize(f"nobody knows how many classes dataset {dataset} has")
        return {
            "images": min(self.images["train"], options["max_train"]),
            "strengths": len(options["C"]),
            "largest": options["largest"],
            "classes": figures["classes"],
        }

    def inputs(self, *splits: str) -> int:
        """Return the bytes of splits in memory; of large ones, a quarter GiB each."""
        sizes = [4 * self.images[split] * self.d for split in splits]
        return sum(size if size <= RESIDENT else RESIDENT // 4 for size in sizes)

    def ranked(self) -> int:
        """Return the bytes that metrics hold which rank images or match concepts."""
        most_train = [
            self.config.metrics[name].constants.get("MOST_TRAIN", 0)
            for name in self.metrics_of("score")
        ]
        train_images = min(self.images["train"], max(most_train, default=0))
        # Judges are taken to have as many dimensions as the cell's own backbone.
        of_judges = 4 * self.judges * (train_images + self.images["held out"])
        # Codes are held by image and by latent; 6 comes near peaks that were measured.
        size = (of_judges + 6 * train_images) * self.d
        size += 16 * train_images * self.job.plan.k
        if settings.reads_concepts(self.config, self.at.experiment):
            # 1 kB of annotations an image; a thousand concepts are looked at at once.
            size += 1000 * self.images["all"] + 65536 * self.m
        return size

    def fitted(self) -> int:
        """Return the bytes of fits of probes: scores of images, coefficients."""
        width = self.m if hasattr(self.at, "k") else self.d
        return 4 * self.fit["classes"] * (3 * self.fit["images"] + 13 * width)

    # Seconds.

    def on_cores(self, seconds: float) -> float:
        """Return what work takes that is a CPU's, given its core-seconds."""
        return seconds / self.cores

    def products(self, flop: float, precision: str = "float32") -> float:
        """Return what dense matrix products take, where the config has them."""
        if self.has_gpu:
            return flop / 1e12 / rate(f"gpu_{precision}")
        return self.on_cores(flop / 1e9 / rate("cpu"))

    def encoding(self, image_count: float) -> float:
        """Return what the largest SAE of a cell takes to encode images."""
        return self.products(2 * image_count * self.d * self.m)

    def decoding(self) -> float:
        """Return what it takes to decode the images of a dataset once."""
        entry = self.config.datasets[self.at.dataset]
        figures = _figures("datasets", self.at.dataset, entry.spec)
        seconds = self.images["all"] / figures.get("decode", rate("decode"))
        return self.on_cores(seconds) if entry.has_images else 0

    def embedding(self) -> float:
        """Return what it takes to embed a dataset or a shard, decoding included."""
        shard_count = self.config.compute.embed_shards
        joins_shards = self.job.rule == "embed" and shard_count > 1
        if joins_shards or not self.backbone["gflop"]:
            return 0
        image_count = self.images["all"] / shard_count
        spec = self.config.datasets[self.at.dataset].spec
        pixels = self.backbone.get("image_size") or spec.get("image_size") or 224
        pixels = min(pixels, self.backbone.get("max_image_size", pixels))
        measured = self.backbone.get("images_per_core_second")
        if measured and not self.has_gpu:
            nearest = min(measured, key=lambda size: abs(size - pixels))
            of_image = (pixels / nearest) ** 2 / measured[nearest]
            return self.on_cores(image_count * of_image)
        # `gflop` is of 224 pixels.
        flop = image_count * self.backbone["gflop"] * 1e9 * (pixels / 224) ** 2
        precision = self.backbone.get("precision", "float32")
        precision = precision.replace("auto", "bfloat16")
        return self.products(flop, precision) + self.decoding() / shard_count

    def looking(self) -> float:
        """Return what it takes to look at the pictures that get heatmaps."""
        most_images = self.config.experiments[self.at.experiment].heatmaps
        share = min(1, most_images / self.images["test"])
        share *= self.images["test"] / self.images["all"]
        # In float32, and where the grid is coarse in pictures of twice the size.
        return 4 * share * self.embedding()

    def training(self) -> float:
        """Return what it takes to train the SAEs of a cell, and to encode validation."""
        plan = self.job.plan
        train_images = self.images["train"]
        of_each = self.on_cores(rate("sae")) + self.encoding(self.images["val"])
        seconds = count_saes(plan) * of_each
        for sizes in protocol_sizes(plan):
            for method, sae_count in sizes.by_method.items():
                recipe = largest_recipe(plan, method)
                head = registry.head("objective", plan.methods[method].objective)
                if recipe["frozen"] == "all" or not head.constants.get("TRAINS", True):
                    continue
                batch_size = min(recipe["batch_size"], train_images)
                steps = recipe.get("steps") or (
                    recipe["epochs"] * (train_images // batch_size)
                )
                flop = 4 * batch_size * self.d * (recipe["m"] + plan.k)
                of_step = self.products(flop, recipe["precision"])
                if self.has_gpu:
                    of_step = max(of_step, rate("gpu_step") / 1000)
                seconds += sae_count * steps * of_step
        return seconds

    def scoring(self) -> float:
        """Return what it takes to score the SAEs of a cell, the chosen ones by judges too."""
        held_out, test_images = self.images["held out"], self.images["test"]
        rankings = 0  # of all images for a latent, by each judge
        detection = self.metrics_of("score").get("detection")
        if detection:
            rankings = detection["draws"]
        ranked_millions = self.judges * rankings * self.m * held_out / 1e6
        # Monosemanticity of an image's k activations, by a backbone's d dimensions.
        ms_of_image = 2 * self.job.plan.k * self.d / 1e9 / rate("sparse")
        of_each = held_out * ms_of_image + ranked_millions * rate("rank")
        of_chosen = test_images * (1 + self.judges) * ms_of_image
        sae_count = count_saes(self.job.plan)
        encoded = sae_count * self.images["all"] + self.chosen * test_images
        core_seconds = sae_count * of_each + self.chosen * of_chosen
        return self.encoding(encoded) + self.on_cores(core_seconds)

    def probing(self) -> float:
        """Return what it takes to probe the chosen SAEs of a cell at every k'."""
        fit = self.fit
        # In passes of 100,000 images, 1000 classes and k' = 32. A pass has a part that
        # grows with k', and one that does not; k' are 1, 2, 4 and so on.
        budgets = fit["largest"].bit_length()
        passes = (2 * fit["largest"] + 14 * budgets) / 46
        passes *= fit["strengths"] * rate("probe_passes")
        passes *= fit["images"] / 1e5 * fit["classes"] / 1000
        fitting = self.on_cores(passes * rate("probe"))
        if self.has_gpu:
            fitting = passes * rate("gpu_probe") / 1000
        read_images = fit["images"] + self.images["held out"]
        return self.chosen * (self.encoding(read_images) + fitting)

    def probing_inputs(self) -> float:
        """Return what it takes to probe embeddings: twice the passes of codes."""
        fit = self.fit
        passes = 2 * fit["strengths"] * rate("probe_passes")
        return self.products(passes * 4 * fit["images"] * self.d * fit["classes"])

    def showing(self) -> float:
        """Return what an experiment's site takes: its pictures, and its SAEs' codes."""
        cells = [JobSizes(cell) for cell in self.job.at_each_cell()]
        seconds = 0.0
        for cell in {cell.at.dataset: cell for cell in cells}.values():
            test_images = min(cell.images["test"], MOST_PICTURES)
            # Each is read, and written twice, which takes about as long.
            seconds += 2 * cell.decoding() * test_images / cell.images["all"]
        for cell in cells:
            sae_count = len(cell.job.plan.methods)
            seconds += cell.encoding(sae_count * cell.images["test"])
        return seconds


# {name of a size in costs.yaml: bytes of it, or how many processes there are}
IN_MEMORY: dict[str, Callable[[JobSizes], float]] = {
    "image": lambda sizes: sizes.images["all"],
    "processes": lambda sizes: 1e6 * sizes.config.compute.decode_workers,
    "weights": lambda sizes: 4e6 * sizes.backbone.get("parameters", 0),
    "train": lambda sizes: sizes.inputs("train"),
    "inputs": lambda sizes: sizes.inputs(*SPLITS),
    "codes": lambda sizes: 8 * sizes.images["held out"] * sizes.job.plan.k,
    "largest_sae": lambda sizes: 8 * sizes.m * sizes.d,
    "chosen_saes": lambda sizes: 8 * sizes.m * sizes.d * sizes.chosen,
    "sae_of_each_method": lambda sizes: (
        8 * sizes.m * sizes.d * len(sizes.job.plan.methods)
    ),
    "chunk": lambda sizes: 4 * CHUNK * sizes.m,
    "ranked": JobSizes.ranked,
    "fit": JobSizes.fitted,
    "latents": lambda sizes: sizes.chosen * sizes.m,
}
# {rule: seconds of its jobs}; of others, their start is all.
WORK: dict[str, Callable[[JobSizes], float]] = {
    "dataset": JobSizes.decoding,
    "embed_shard": JobSizes.embedding,
    "embed": JobSizes.embedding,
    "train": JobSizes.training,
    "score": JobSizes.scoring,
    # Coders that are no Top-k encode twice.
    "robustness": lambda sizes: sizes.encoding(2 * sizes.chosen * sizes.images["test"]),
    "probe": JobSizes.probing,
    "probe_embeddings": JobSizes.probing_inputs,
    "heatmaps": JobSizes.looking,
    "site": JobSizes.showing,
}


# What a job takes, and asks for.


def rate(name: str) -> float:
    """Return one of the rates of costs.yaml, in its unit."""
    return settings.costs()["rates"][name]["value"]


def estimate_seconds(job: Job) -> float:
    """Return the seconds that a job takes, with its start.

    Args:
        job: Of any rule.

    Raises:
        UnknownSize: a size that they hang on is not known.
    """
    work = WORK.get(job.rule)
    return rate("start") + (work(JobSizes(job)) if work else 0)


def estimate_memory(rule: str, job: Job) -> float:
    """Return the MB that costs.yaml gives a rule for the sizes of a job.

    Raises:
        UnknownSize: one of these is not known.
    """
    factors = dict(settings.costs()["memory"]["rules"][rule])
    base = factors.pop("base")
    cells = [job]
    if rule == "gallery":
        cells = [job.at_gallery_cell()]
    elif rule in ("collect", "site"):
        cells = job.at_each_cell()
    megabytes = []
    for cell in cells:
        sizes = JobSizes(cell)
        parts = [factor * IN_MEMORY[name](sizes) for name, factor in factors.items()]
        megabytes.append(sum(parts) / 1e6)
    # Rows of all cells are joined; of other things one cell is looked at at a time.
    return base + (sum(megabytes) if rule == "collect" else max(megabytes))


def memory_request(job: Job, attempt: int) -> int:
    """Return the MB that a job asks for; at each attempt, from 1, twice as much."""
    table = settings.costs()["memory"]
    compute = job.config.compute
    sizes = JobSizes(job)
    of_gpu = table["gpu"] if sizes.has_gpu else 0
    try:
        megabytes = estimate_memory(job.rule, job)
        if job.rule == "train":
            # Validation is scored in turn with one SAE's training, beside several.
            scoring = estimate_memory("robustness", job)
            if compute.saes_at_once == 1:
                megabytes = max(megabytes, scoring) + sizes.inputs("train") / 1e6
            else:
                megabytes = compute.saes_at_once * (megabytes + of_gpu) + scoring
    except UnknownSize:
        megabytes = table["unknown"]
    # Snakemake itself runs beside the job.
    megabytes += of_gpu + table["cluster"]
    factor = table["margin"] * compute.memory_factor * 2 ** (attempt - 1)
    return min(math.ceil(megabytes * factor), compute.memory_limit or math.inf)


def runtime_request(job: Job, attempt: int) -> int:
    """Return the minutes that a job asks for; at each attempt twice as many."""
    table = settings.costs()["runtime"]
    compute = job.config.compute
    try:
        seconds = estimate_seconds(job)
        minutes = table["least"] + table["margin"] * seconds / 60
    except UnknownSize:
        minutes = table["unknown"]
    factor = compute.time_factor * 2 ** (attempt - 1)
    return min(math.ceil(minutes * factor), compute.time_limit or math.inf)


# The plan of an experiment.


def list_jobs(config: Config, experiment: str) -> dict[str, list[Job]]:
    """Return {rule: its jobs} of a run from an empty results/, in order of the rules."""
    jobs_of_rule = {}
    for rule, stage in STAGES.items():
        jobs_of_rule[rule] = [
            Job(rule, config, {"experiment": experiment, **wildcards})
            for wildcards in stage.jobs(config, experiment)
        ]
    return {rule: jobs for rule, jobs in jobs_of_rule.items() if jobs}


def measure_pace(jobs: list[Job]) -> float:
    """Return how many times its estimate a job of a rule took, of those that ended.

    It is the median, and `FASTEST_PACE` at least.
    """
    ratios = []
    for job in jobs:
        with suppress(OSError, ValueError, UnknownSize):
            times = job.log.with_suffix(".tsv").read_text().splitlines()[-1]
            seconds, core_seconds, _ = map(float, times.split())
            sizes = JobSizes(job)
            if not sizes.has_gpu:
                # Other work beside does not count.
                seconds = sizes.on_cores(core_seconds)
            ratios.append(seconds / estimate_seconds(job))
    return max(FASTEST_PACE, statistics.median(ratios)) if ratios else 1.0


def estimate_hours(jobs: list[Job]) -> float:
    """Return the hours that are left of a rule's jobs, one after another.

    A job of unknown size takes its start alone.
    """
    seconds = 0.0
    for job in jobs:
        if not job.is_done:
            try:
                seconds += estimate_seconds(job)
            except UnknownSize:
                seconds += rate("start")
    return seconds * measure_pace(jobs) / 3600


def small_training(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each dataset on which SAEs train too little to be compared."""
    for dataset in config.experiments[experiment].datasets:
        with suppress(UnknownSize):
            train_images = count_images(config, dataset)["train"]
            recipe = config.recipe(experiment, dataset)
            step_count = recipe.steps_on(max(1, train_images))
            if train_images < FEWEST_IMAGES * recipe.m or step_count < FEWEST_STEPS:
                yield (
                    f"dataset {dataset}: {train_images / recipe.m:.1f} training images "
                    f"a latent (m = {recipe.m}) and {step_count} steps of training: "
                    f"below {FEWEST_IMAGES} images a latent, or {FEWEST_STEPS} steps, "
                    "latents die and methods hardly differ; take a smaller m, more "
                    "`steps` (docs/data.md)"
                )


def describe_plan(config: Config, experiment: str) -> Iterator[str]:
    """Yield the plan of an experiment, line by line.

    Raises:
        UserError: there is no such experiment.
    """
    missing_inputs.refuse_unknown_experiment(config, experiment)
    description = config.experiments[experiment].description
    yield f"{experiment}: {description}" if description else experiment

    yield "\nNot on this machine"
    missing = [
        *missing_inputs.missing_files(config, experiment),
        *missing_inputs.missing_downloads(config, experiment),
    ]
    for line in missing or ["nothing is missing"]:
        yield f"  {line}"

    plans = {
        cell: settings.bank_plan(config, experiment, cell)
        for cell in settings.cells(config, experiment)
    }
    sizes = [size for plan in plans.values() for size in protocol_sizes(plan)]
    text = f"\nSAEs: {sum(size.trials for size in sizes)} in {len(plans)} cells"
    chosen_later = sum(size.after for size in sizes)
    if chosen_later:
        text += f", and up to {chosen_later} more at settings that validation chooses"
    yield text
    for line in small_training(config, experiment):
        yield f"  {line}"
    yield from _describe_disk(config, experiment, plans)
    yield from _describe_hours(config, experiment)


def _describe_disk(
    config: Config, experiment: str, plans: Mapping[settings.Cell, Plan]
) -> Iterator[str]:
    """Yield a table: a row for each embedded dataset, what is unknown, the total."""
    yield f"\n{'Disk, in GB':<44}{'images':>11}{'d':>6}{'embeddings':>12}{'SAEs':>9}"
    total = 0.0
    unknown: dict[str, None] = {}
    for place in settings.embedded_datasets(config, experiment):
        try:
            image_count = sum(count_images(config, place["dataset"]).values())
            figures = backbone_figures(config, **place)
        except UnknownSize as error:
            unknown[f"  not counted in disk and hours: {error}"] = None
            continue
        d = figures["d"]
        dtype = np.dtype(figures.get("dtype", "float32"))
        embeddings = image_count * d * dtype.itemsize
        saes = 0
        for cell, plan in plans.items():
            if place.items() <= cell.wildcards.items():
                m = largest_width(plan)
                # Two matrices and two biases, in float32.
                saes += count_saes(plan) * 4 * (2 * m * d + m + d)
        total += embeddings + saes
        yield (
            f"  {' / '.join(place.values()):<42}{image_count:>11,}{d:>6}"
            f"{embeddings / 1e9:>12,.2f}{saes / 1e9:>9,.2f}"
        )
    yield from unknown
    free = shutil.disk_usage(".").free
    lacking = f": {(total - free) / 1e9:,.2f} GB too little" if total > free else ""
    yield f"  total {total / 1e9:,.2f} GB; free here {free / 1e9:,.2f} GB{lacking}"


def _describe_hours(config: Config, experiment: str) -> Iterator[str]:
    """Yield a table: a row for each rule, and the total; and how long it takes here."""
    on_cpu = config.compute.device == "cpu"
    heading = "Jobs, and hours of those to do, each with what it asks for"
    yield f"\n{heading:<60}{'jobs':>6}{'done':>6}{'hours':>9}"
    total_hours = core_hours = 0.0
    total_count = total_done = 0
    for rule, jobs in list_jobs(config, experiment).items():
        pace = measure_pace(jobs)
        hours = estimate_hours(jobs)
        done_count = sum(job.is_done for job in jobs)
        name = rule
        if done_count < len(jobs) and pace != 1:
            name += f", {pace:.2g} times the rates, as measured"
        total_hours += hours
        core_hours += hours * JobSizes(jobs[0]).cores
        total_count += len(jobs)
        total_done += done_count
        yield f"  {name:<58}{len(jobs):>6}{done_count:>6}{_hours_text(hours):>9}"
    total = _hours_text(total_hours)
    yield f"  {'total':<58}{total_count:>6}{total_done:>6}{total:>9}"
    yield "  Done: its file is there. A run sees if it is up to date (docs/reruns.md)."
    # On a GPU one job goes after another.
    hours = core_hours / (os.cpu_count() or 1) if on_cpu else total_hours
    text = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    if hours > 48:
        text = f"{hours / 24:,.0f} days"
    if on_cpu:
        yield f"  Here: about {text}, by the rates in {settings.COSTS}."
        return
    yield (
        f"  On one GPU, a job after the other: about {text}, by the rates in "
        f"{settings.COSTS},\n  of which those of a GPU are assumed."
    )


def _hours_text(hours: float) -> str:
    return f"{hours:,.2f}" if hours < 10 else f"{hours:,.0f}"


def main(experiment: str, *overlays: str) -> None:
    """Print the plan of an experiment of ./config.yaml, with files laid over it."""
    config = settings.read_config("config.yaml", *overlays)
    settings.warn_of_unnamed_extensions(config)
    print("\n".join(describe_plan(config, experiment)))


if __name__ == "__main__":
    run_command(main)
