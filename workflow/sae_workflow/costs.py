"""What is known of the size of an experiment: images, dimensions, SAEs, bytes.

The config says it, what was made here, and workflow/resources/costs.yaml, where every
figure names its source. `sae_workflow.durations` and `sae_workflow.needs` make seconds
and memory of it. Quick to import, since the Snakefile does.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sae.bank.plan import Plan
from sae.config.models import Config, Dataset
from sae.core import paths, registry
from sae.core.errors import UserError
from sae.core.options import from_record
from sae.data.splits import SPLITS
from sae.protocols._history import Sizes
from sae_workflow import settings

COSTS = "workflow/resources/costs.yaml"
# Pixels: of `gflop` in costs.yaml, and where a dataset leaves the size to the backbone.
DEFAULT_IMAGE_SIZE = 224


class UnknownSize(Exception):
    """Nobody knows the size of something that memory and time hang on.

    Attributes:
        reasons: What is unknown, a line each; perhaps none.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = list(reasons)


@dataclass(frozen=True)
class DatasetFigures:
    """The figures of a dataset that are known.

    Attributes:
        name: Its name in the config.
        images_by_split: {split: how many images}; None where nobody knows.
        classes: How many classes probes tell apart; 0 if images have no single label,
            None where nobody knows.
        decoded_per_second: How many images a core decodes in a second.
        image_size: Pixels of an image, where the backbone's entry gives none.
    """

    name: str
    images_by_split: dict[str, int] | None
    classes: int | None
    decoded_per_second: float
    image_size: int = DEFAULT_IMAGE_SIZE

    @property
    def image_count(self) -> int:
        """The number of images in all splits, which must be known."""
        assert self.images_by_split is not None
        return sum(self.images_by_split.values())


@dataclass(frozen=True)
class BackboneFigures:
    """The figures of a backbone, all of which are known.

    Attributes:
        name: Its name in the config.
        dimensions: d of its embeddings.
        gflop: Work of an image of 224 pixels, in GFLOP; 0 where embeddings are given,
            not made.
        parameters: How many it has, in millions.
        dtype: In which embeddings are stored.
        precision: In which it computes.
        image_size: Pixels of the images that it is given; None leaves it to datasets.
        images_per_core_second: {pixels: how many a core embeds in a second, decoding
            included}, where that was measured.
    """

    name: str
    dimensions: int
    gflop: float = 0
    parameters: float = 0
    dtype: str = "float32"
    precision: str = "float32"
    image_size: int | None = None
    images_per_core_second: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Embedding:
    """A dataset as a backbone embeds it, where the sizes of both are known."""

    dataset: DatasetFigures
    backbone: BackboneFigures

    @property
    def images_by_split(self) -> dict[str, int]:
        """{split: how many images}."""
        assert self.dataset.images_by_split is not None
        return self.dataset.images_by_split

    @property
    def dimensions(self) -> int:
        """The length d of an embedding."""
        return self.backbone.dimensions

    @property
    def image_size(self) -> int:
        """Pixels of the images that the backbone is given."""
        return self.backbone.image_size or self.dataset.image_size


@dataclass(frozen=True)
class ProbeFit:
    """The size of a fit of probes, as a metric says it by its constant `FITS`.

    Attributes:
        most_images: How many training images it reads, at most.
        strengths: How many strengths of the penalty it tries.
        largest: The largest number k' of activations that a probe reads.
    """

    most_images: int
    strengths: int
    largest: int


@dataclass(frozen=True)
class DiskUse:
    """The disk space that a dataset takes which a backbone embeds.

    Attributes:
        embedding_bytes: Of the embeddings.
        sae_count: How many SAEs are trained on them, at most; a judge has none.
        sae_bytes: Of the files of those SAEs.
    """

    embedding_bytes: int
    sae_count: int
    sae_bytes: int


@functools.cache
def cost_table() -> dict[str, Any]:
    """Read costs.yaml."""
    return yaml.safe_load((settings.HERE.parent / COSTS).read_text())


def rate(name: str) -> float:
    """Return one of the rates of costs.yaml, in its unit."""
    return cost_table()["rates"][name]["value"]


def list_plans(config: Config, experiment: str) -> list[Plan]:
    """Return the plan of each cell of an experiment."""
    return [
        settings.bank_plan(config, experiment, cell)
        for cell in settings.cells(config, experiment)
    ]


def list_plans_on(config: Config, experiment: str, embedding: Embedding) -> list[Plan]:
    """Return the plan of each cell that trains on an embedded dataset."""
    place = (embedding.dataset.name, embedding.backbone.name)
    return [
        settings.bank_plan(config, experiment, cell)
        for cell in settings.cells(config, experiment)
        if (cell.dataset, cell.backbone) == place
    ]


def largest_recipe(plan: Plan, method: str) -> dict[str, Any]:
    """Return what a method's SAEs are trained with; of swept values, the largest."""
    planned = plan.methods[method]
    swept_method = plan.methods[planned.at or method]
    largest_values = {
        option: max(values) for option, values in swept_method.sweep.items()
    }
    return {**plan.recipe, **planned.recipe, **largest_values}


def largest_width(plan: Plan) -> int:
    """Return the largest number m of latents of the SAEs of a cell."""
    return max(largest_recipe(plan, method)["m"] for method in plan.methods)


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


def count_judged(plan: Plan) -> int:
    """Return how many SAEs of a cell are judged in full, at most."""
    return sum(size.judged for size in protocol_sizes(plan))


def list_embeddings(
    config: Config, experiment: str
) -> tuple[list[Embedding], list[str]]:
    """List the embedded datasets of an experiment whose sizes are known.

    Returns:
        These, and what nobody knows of the others, a line each, each once.
    """
    embeddings = []
    reasons: list[str] = []
    for place in settings.embedded_datasets(config, experiment):
        try:
            embeddings.append(embedding_of(config, place.dataset, place.backbone))
        except UnknownSize as error:
            reasons += error.reasons
    return embeddings, list(dict.fromkeys(reasons))


def embedding_of(config: Config, dataset: str, backbone: str) -> Embedding:
    """Return the sizes of a dataset that a backbone embeds.

    Raises:
        UnknownSize: the number of images is unknown, or costs.yaml lacks the backbone.
    """
    dataset_figures = dataset_figures_of(config, dataset)
    backbone_figures = _backbone_figures_of(config, dataset, backbone)

    reasons = []
    if not dataset_figures.images_by_split:
        index = paths.DATASET.format(dataset=dataset)
        reasons.append(
            f"no number of images of dataset {dataset}: it is known once its index is "
            f"made, `snakemake {index}` with the --configfile of the run"
        )
    if backbone_figures is None:
        model = config.backbones[backbone].model
        reasons.append(
            f"backbone {backbone}: {COSTS} has no figures of its model {model}"
        )
    if backbone_figures is None or reasons:
        raise UnknownSize(*reasons)
    return Embedding(dataset_figures, backbone_figures)


def dataset_figures_of(config: Config, dataset: str) -> DatasetFigures:
    """Return what is known of a dataset; an index that was made here counts first."""
    spec = config.datasets[dataset].spec
    in_cost_table = _figures_in_cost_table("datasets", dataset, spec)
    manifest = _read_manifest(paths.DATASET.format(dataset=dataset))
    images = manifest.get("images") or _planned_images(spec, in_cost_table)
    return DatasetFigures(
        name=dataset,
        images_by_split=images or _counted_images(config.datasets[dataset]),
        classes=manifest.get("classes", in_cost_table.get("classes")),
        decoded_per_second=in_cost_table.get("decode", rate("decode")),
        image_size=spec.get("image_size") or DEFAULT_IMAGE_SIZE,
    )


def _planned_images(
    spec: Mapping[str, Any], in_cost_table: Mapping[str, Any]
) -> dict[str, int] | None:
    """Return how many images each split of a dataset will have.

    Args:
        spec: The dataset's entry in the config.
        in_cost_table: What costs.yaml has of the dataset.

    Returns:
        None where neither of them says it of every split.
    """
    if "fractions" in spec and "total" in in_cost_table:
        total = in_cost_table["total"]
        images = {split: round(total * spec["fractions"][split]) for split in SPLITS}
        images["train"] = total - images["val"] - images["test"]
    else:
        # What the entry says counts before what costs.yaml has.
        images = {}
        for counts in (in_cost_table, spec.get("images", {}), spec.get("counts", {})):
            images.update({split: counts[split] for split in SPLITS if split in counts})

    # A part of the training images may be held out for validation, or not used.
    if "val_fraction" in spec and "train" in images and "val" not in images:
        images["val"] = round(images["train"] * spec["val_fraction"])
        images["train"] -= images["val"]
    if "train" in images:
        images["train"] = round(images["train"] * spec.get("train_share", 1))

    if not set(SPLITS) <= set(images):
        return None
    return {split: images[split] for split in SPLITS}


def _counted_images(entry: Dataset) -> dict[str, int] | None:
    """Return how many images each split will have, where the dataset's type can tell.

    None where it cannot, or its folder is not right, which other lines say.
    """
    module_name = registry.module_name("dataset", entry.type)
    head = registry.head("dataset", entry.type)
    is_own = module_name.startswith(registry.EXTENSIONS)
    if is_own or "count_images" not in head.defined_names:
        return None
    try:
        counts = registry.load("dataset", entry.type).count_images(entry)
    except (UserError, OSError):
        return None
    kept = entry.spec.get("train_share", 1)
    return {**counts, "train": round(counts["train"] * kept)}


def _backbone_figures_of(
    config: Config, dataset: str, backbone: str
) -> BackboneFigures | None:
    """Return what is known of a backbone; None where costs.yaml lacks it.

    Embeddings of the dataset that were made here say their dimensions.
    """
    entry = config.backbones[backbone]
    figures = {
        **_figures_in_cost_table("backbones", backbone, entry.spec),
        **entry.spec,
    }
    manifest = _read_manifest(
        paths.EMBEDDINGS_MANIFEST.format(
            dataset=dataset, backbone=backbone, split="train"
        )
    )
    shape = manifest.get("shape")
    if shape:
        figures["d"] = shape[1]
    if not entry.reads_images:
        figures["gflop"] = 0

    if "d" not in figures or "gflop" not in figures:
        return None
    return BackboneFigures(
        name=backbone,
        dimensions=figures["d"],
        gflop=figures["gflop"],
        parameters=figures.get("parameters", 0),
        dtype=figures.get("dtype", "float32"),
        precision=figures.get("precision", "float32"),
        image_size=figures.get("image_size"),
        images_per_core_second=figures.get("images_per_core_second") or {},
    )


def _read_manifest(path: str) -> dict[str, Any]:
    """Read a manifest that was made here; {} where there is none yet."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}


def _figures_in_cost_table(
    section: str, name: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what costs.yaml has of a dataset or backbone, {} if it has nothing.

    Args:
        section: "datasets" or "backbones".
        name: Its name in the config, by which it is looked for first.
        spec: Its entry in the config; its `model`, `name` and `type` are looked for
            next.
    """
    table = cost_table()[section]
    for key in (name, spec.get("model"), spec.get("name")):
        if key in table:
            return table[key]
    figures_of_type = table.get(spec.get("type"), {})
    # How many images there are is another dataset's of the type.
    return {key: value for key, value in figures_of_type.items() if key != "total"}


def disk_use(embedding: Embedding, plans: list[Plan]) -> DiskUse:
    """Return what embeddings, and the SAEs that some plans train on them, take."""
    d = embedding.dimensions
    m = max(map(largest_width, plans), default=0)
    sae_count = sum(map(count_saes, plans))
    bytes_of_number = np.dtype(embedding.backbone.dtype).itemsize
    return DiskUse(
        embedding_bytes=embedding.dataset.image_count * d * bytes_of_number,
        sae_count=sae_count,
        # Two matrices and two biases, in float32.
        sae_bytes=sae_count * 4 * (2 * m * d + m + d),
    )


def probe_fit(config: Config, experiment: str) -> ProbeFit | None:
    """Return what the probes of an experiment are fitted on; None where it has none."""
    probe_metrics = settings.metrics_by_stage(config, experiment).get("probe", {})
    for name, record in probe_metrics.items():
        # {what: the option of the metric that says it}
        option_names = config.metrics[name].constants.get("FITS")
        if option_names is not None:
            options = from_record(registry.head("metric", name).options, record)
            return ProbeFit(
                most_images=getattr(options, option_names["images"]),
                strengths=len(getattr(options, option_names["strengths"])),
                largest=getattr(options, option_names["largest"]),
            )
    return None


def count_rankings(config: Config, experiment: str) -> int:
    """Return how often a judge ranks all images for a latent, by all metrics."""
    count = 0
    score_metrics = settings.metrics_by_stage(config, experiment).get("score", {})
    for name, record in score_metrics.items():
        # Options of the metric, such as draws and kinds: numbers or lists.
        factor_names = config.metrics[name].constants.get("RANKINGS", ())
        options = from_record(registry.head("metric", name).options, record)
        factors = []
        for factor_name in factor_names:
            value = getattr(options, factor_name)
            factors.append(len(value) if isinstance(value, list) else value)
        if factors:
            count += math.prod(factors)
    return count


def most_ranked_images(config: Config, experiment: str) -> int:
    """Return of how many training images a metric that ranks reads, at most."""
    score_metrics = settings.metrics_by_stage(config, experiment).get("score", {})
    constants_of_metrics = [config.metrics[name].constants for name in score_metrics]
    return max(
        (
            constants["MOST_TRAIN"]
            for constants in constants_of_metrics
            if "RANKINGS" in constants
        ),
        default=0,
    )
