"""How long work takes, by the rates of workflow/resources/costs.yaml.

These are estimates, to tell an hour from a month. What a whole job takes is put
together in `sae_workflow.needs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sae.bank.plan import Plan
from sae.core import registry
from sae_workflow.costs import (
    DEFAULT_IMAGE_SIZE,
    DatasetFigures,
    Embedding,
    ProbeFit,
    largest_recipe,
    rate,
)


@dataclass(frozen=True)
class Seconds:
    """The time that work takes, with an accelerator and without one.

    Attributes:
        gpu: Seconds of a GPU.
        cores_beside_gpu: Core-seconds beside it.
        cores_alone: Core-seconds where there is no GPU.
    """

    gpu: float = 0.0
    cores_beside_gpu: float = 0.0
    cores_alone: float = 0.0

    def __add__(self, more: Seconds) -> Seconds:
        return Seconds(
            self.gpu + more.gpu,
            self.cores_beside_gpu + more.cores_beside_gpu,
            self.cores_alone + more.cores_alone,
        )

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(
            factor * self.gpu,
            factor * self.cores_beside_gpu,
            factor * self.cores_alone,
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Seconds:
        return Seconds(
            self.gpu / divisor,
            self.cores_beside_gpu / divisor,
            self.cores_alone / divisor,
        )


def total(parts: Iterable[Seconds]) -> Seconds:
    """Add up what several pieces of work take."""
    return sum(parts, start=Seconds())


def dense_product_seconds(flop: float, precision: str = "float32") -> Seconds:
    """Return what dense matrix products take.

    Args:
        flop: Floating-point operations.
        precision: In which a GPU computes them, "float32" or "bfloat16".
    """
    return Seconds(
        gpu=flop / 1e12 / rate(f"gpu_{precision}"),
        cores_alone=flop / 1e9 / rate("cpu"),
    )


def core_seconds(seconds: float) -> Seconds:
    """Return what work takes that is a CPU's, also beside a GPU.

    Args:
        seconds: Core-seconds.
    """
    return Seconds(cores_beside_gpu=seconds, cores_alone=seconds)


def decoding_seconds(dataset: DatasetFigures) -> Seconds:
    """Return what it takes to decode the images of a dataset once."""
    return core_seconds(dataset.image_count / dataset.decoded_per_second)


def embedding_seconds(embedding: Embedding) -> Seconds:
    """Return what it takes to embed a dataset, decoding included.

    Embeddings that are given take nothing.
    """
    backbone = embedding.backbone
    if not backbone.gflop:
        return Seconds()

    image_count = embedding.dataset.image_count
    size = embedding.image_size
    flop = image_count * backbone.gflop * 1e9 * (size / DEFAULT_IMAGE_SIZE) ** 2
    precision = "bfloat16" if backbone.precision == "auto" else backbone.precision
    seconds = dense_product_seconds(flop, precision) + decoding_seconds(
        embedding.dataset
    )

    # What was measured on a CPU is preferred, at the nearest size.
    measured = backbone.images_per_core_second
    if measured:
        nearest = min(measured, key=lambda pixels: abs(pixels - size))
        cores_alone = image_count / measured[nearest] * (size / nearest) ** 2
        seconds = replace(seconds, cores_alone=cores_alone)
    return seconds


def embedding_probe_seconds(embedding: Embedding, fit: ProbeFit) -> Seconds:
    """Return what it takes to probe embeddings."""
    image_count = min(embedding.images_by_split["train"], fit.most_images)
    flop_of_pass = (
        4 * image_count * embedding.dimensions * (embedding.dataset.classes or 0)
    )
    # A fit takes twice the passes of one on codes.
    return dense_product_seconds(
        flop_of_pass * fit.strengths * 2 * rate("probe_passes")
    )


def code_probe_seconds(embedding: Embedding, fit: ProbeFit) -> Seconds:
    """Return what it takes to probe an SAE's codes at every k'."""
    budgets = {2**exponent for exponent in range(fit.largest.bit_length())}
    budgets.add(fit.largest)

    image_count = min(embedding.images_by_split["train"], fit.most_images)
    # The rates are of 100,000 images, a thousand classes and k' = 32.
    relative_size = image_count / 1e5 * (embedding.dataset.classes or 0) / 1000
    # A pass has a part that grows with k', and one that does not.
    relative_passes = sum((budget + 14) / 46 for budget in budgets)
    passes = rate("probe_passes") * fit.strengths * relative_passes
    factor = relative_size * passes
    return Seconds(
        gpu=factor * (rate("gpu_probe") / 1000), cores_alone=factor * rate("probe")
    )


def training_seconds(
    embedding: Embedding, plan: Plan, method: str, steps: int | None = None
) -> Seconds:
    """Return what it takes to train one SAE of a method.

    Args:
        embedding: What the SAE is trained on.
        plan: The plan of its cell.
        method: The name of its method.
        steps: How many it is trained for, instead of what its recipe says.
    """
    recipe = largest_recipe(plan, method)
    objective = registry.head("objective", plan.methods[method].objective)
    if recipe["frozen"] == "all" or not objective.constants.get("TRAINS", True):
        return Seconds()

    train_images = embedding.images_by_split["train"]
    batch_size = min(recipe["batch_size"], train_images)
    flop_of_step = 4 * batch_size * embedding.dimensions * (recipe["m"] + plan.k)
    step = dense_product_seconds(flop_of_step, recipe["precision"])
    step = replace(step, gpu=max(step.gpu, rate("gpu_step") / 1000))

    step_count = steps or recipe.get("steps")
    if not step_count:
        step_count = recipe["epochs"] * (train_images // batch_size)
    return step_count * step
