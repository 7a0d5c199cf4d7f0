"""What a job costs: seconds, memory and disk, from config.yaml and the figures of workflow/resources/costs.yaml.

Every figure there names its source. Quick to import, since the Snakefile does.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from sae.bank.plan import Plan
from sae.config.models import Config
from sae.core import paths, registry
from sae.core.options import from_record
from sae.data.splits import SPLITS
from sae.protocols._history import Sizes
from sae_workflow import settings

Seconds = np.ndarray  # (of a GPU, of cores beside it, of cores without a GPU)
COSTS = "workflow/resources/costs.yaml"
SIZE = 224  # pixels: of `gflop` in costs.yaml, and where a dataset leaves the size to the backbone


class Cell(NamedTuple):
    """A dataset embedded by a backbone: images per split, d, and what costs.yaml and the config say of both.

    data: as :func:`data_of`. model: without `gflop` where the embeddings are given, not made.
    """

    dataset: str
    backbone: str
    rows: dict[str, int]
    d: int
    data: dict[str, Any]
    model: dict[str, Any]


class Fits(NamedTuple):
    """What a metric fits probes on, by its constant `FITS`.

    images: Training images at most. strengths: How many strengths of the penalty are tried. largest: The largest k'.
    """

    images: int
    strengths: int
    largest: int


@functools.cache
def figures() -> dict[str, Any]:
    """The figures of costs.yaml."""
    return yaml.safe_load((settings.HERE.parent / COSTS).read_text())


def rate(name: str) -> float:
    """One of the rates, in its unit."""
    return figures()["rates"][name]["value"]


def plans(config: Config, experiment: str, of: Cell | None = None) -> list[Plan]:
    """The settings of every bank, or of a cell's."""
    banks = settings.banks(config, experiment)
    own = [
        bank
        for bank in banks
        if of is None or (bank["dataset"], bank["backbone"]) == of[:2]
    ]
    return [settings.bank_plan(config, experiment, **bank) for bank in own]


def recipe_of(plan: Plan, method: str) -> dict[str, Any]:
    """What a method's SAEs are trained with; of what is swept, the largest value."""
    spec = plan.methods[method]
    swept = plan.methods[spec.at or method].sweep
    return (
        plan.recipe
        | spec.recipe
        | {option: max(values) for option, values in swept.items()}
    )


def width(plan: Plan) -> int:
    """The largest m of a bank."""
    return max(recipe_of(plan, method)["m"] for method in plan.methods)


def sizes(plan: Plan) -> list[Sizes]:
    """How many SAEs each protocol trains in a cell, at most."""
    options = {
        name: from_record(registry.head("protocol", name).options, record)
        for name, record in plan.protocols.items()
    }
    return [
        registry.load("protocol", name).at_most(plan, own)
        for name, own in options.items()
    ]


def saes(plan: Plan) -> int:
    """All of them."""
    return sum(of.trials + of.after for of in sizes(plan))


def judged(plan: Plan) -> int:
    """Those that are judged in full."""
    return sum(of.judged for of in sizes(plan))


def cells(config: Config, experiment: str) -> tuple[list[Cell], list[str]]:
    """The cells that are embedded, of which everything is known, and what of the others costs.yaml lacks."""
    found = [cell(config, **place) for place in settings.embedded(config, experiment)]
    unknown = dict.fromkeys(what for _, lacking in found for what in lacking)
    return [cell for cell, _ in found if cell], list(unknown)


def cell(config: Config, dataset: str, backbone: str) -> tuple[Cell | None, list[str]]:
    """The `Cell` of a dataset and a backbone, or None; and what of it is unknown. Embeddings that are there count."""
    data, entry = data_of(config, dataset), config.backbones[backbone]
    shape = _made(
        paths.EMBEDDINGS_MANIFEST.format(
            dataset=dataset, backbone=backbone, split="train"
        )
    ).get("shape")
    model = (
        _figures("backbones", backbone, entry.spec)
        | entry.spec
        | ({"d": shape[1]} if shape else {})
    )
    if not entry.reads_images:
        model["gflop"] = 0
    index = paths.DATASET.format(dataset=dataset)
    uncounted = f"no number of images of dataset {dataset}: it is known once its index is made, `snakemake {index}`"
    lacking = [] if data["rows"] else [uncounted]
    if not {"d", "gflop"} <= set(model):
        lacking.append(
            f"no figures of backbone {backbone} (model {entry.model}): add them to {COSTS}"
        )
    return None if lacking else Cell(
        dataset, backbone, data["rows"], model["d"], data, model
    ), lacking


def data_of(config: Config, dataset: str) -> dict[str, Any]:
    """What is known of a dataset: `rows` {split: images}, None if unknown; `classes` of the probes, 0 if images have no
    single label, and None if that is unknown; `size`, pixels of an image where the backbone's entry gives none; perhaps
    `decode`, images a second.
    """
    spec = config.datasets[dataset].spec
    known, made = (
        _figures("datasets", dataset, spec),
        _made(paths.DATASET.format(dataset=dataset)),
    )
    if "fractions" in spec and "total" in known:
        rows = {
            split: round(known["total"] * spec["fractions"][split]) for split in SPLITS
        }
        rows["train"] = known["total"] - rows["val"] - rows["test"]
    else:
        rows = known | spec.get("images", {}) | spec.get("counts", {})
    if "val_fraction" in spec and "train" in rows and "val" not in rows:
        rows["val"] = round(rows["train"] * spec["val_fraction"])
        rows["train"] -= rows["val"]
    if "train" in rows:
        rows["train"] = round(rows["train"] * spec.get("train_share", 1))
    counted = (
        {split: rows[split] for split in SPLITS} if set(SPLITS) <= set(rows) else None
    )
    facts = {
        "rows": made.get("images", counted),
        "classes": made.get("classes", known.get("classes")),
    }
    return known | facts | {"size": spec.get("image_size") or SIZE}


def _made(manifest: str) -> dict[str, Any]:
    try:
        return json.loads(Path(manifest).read_text())
    except (OSError, ValueError):
        return {}


def _figures(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    keys = [name, *(spec[key] for key in ("model", "name") if key in spec)]
    of_type = {
        k: v
        for k, v in figures()[kind].get(spec.get("type"), {}).items()
        if k != "total"
    }  # Another one's.
    return next(
        (figures()[kind][key] for key in keys if key in figures()[kind]), of_type
    )


def disk(cell: Cell, bank_plans: list[Plan]) -> tuple[int, int, int]:
    """Bytes of a cell's embeddings, its SAEs at most, and the bytes of those; a judge has none."""
    m, count = max(map(width, bank_plans), default=0), sum(map(saes, bank_plans))
    itemsize = np.dtype(cell.model.get("dtype", "float32")).itemsize
    return (
        sum(cell.rows.values()) * cell.d * itemsize,
        count,
        count * 4 * (2 * m * cell.d + m + cell.d),
    )


def dense(flop: float, precision: str = "float32") -> Seconds:
    """Seconds of dense products."""
    return np.array(
        [flop / 1e12 / rate(f"gpu_{precision}"), 0, flop / 1e9 / rate("cpu")]
    )


def cores(seconds: float) -> Seconds:
    """The same of work that is a CPU's in any case."""
    return np.array([0.0, seconds, seconds])


def decoding(data: dict[str, Any]) -> Seconds:
    """Seconds to decode a dataset's images once."""
    return cores(sum(data["rows"].values()) / data.get("decode", rate("decode")))


def embedding(cell: Cell) -> Seconds:
    """Seconds to embed a cell's images, decoding included; 0 for embeddings that are given."""
    if not cell.model["gflop"]:
        return cores(0.0)
    images, size = (
        sum(cell.rows.values()),
        cell.model.get("image_size") or cell.data["size"],
    )
    flop = images * cell.model["gflop"] * 1e9 * (size / SIZE) ** 2
    asked = cell.model.get("precision", "float32")
    seconds = dense(flop, "bfloat16" if asked == "auto" else asked) + decoding(
        cell.data
    )
    if measured := cell.model.get("images_per_core_second"):
        nearest = min(measured, key=lambda pixels: abs(pixels - size))
        seconds[2] = images / measured[nearest] * (size / nearest) ** 2
    return seconds


def fits(config: Config, experiment: str) -> Fits | None:
    """What the probes of an experiment are fitted on; None where it has none."""
    for name, record in settings.stages(config, experiment).get("probe", {}).items():
        fits = config.metrics[name].constants.get("FITS")
        if fits is not None:
            options = from_record(registry.head("metric", name).options, record)
            images, strengths, largest = (
                getattr(options, fits[what])
                for what in ("images", "strengths", "largest")
            )
            return Fits(images, len(strengths), largest)
    return None


def rankings(config: Config, experiment: str) -> int:
    """How often each judge ranks all images for each latent, by all metrics of `score`."""
    count = 0
    for name, record in settings.stages(config, experiment).get("score", {}).items():
        factors = config.metrics[name].constants.get("RANKINGS", ())
        options = from_record(registry.head("metric", name).options, record)
        values = [getattr(options, factor) for factor in factors]
        sizes = [len(value) if isinstance(value, list) else value for value in values]
        count += math.prod(sizes) if sizes else 0
    return count


def ranked_images(config: Config, experiment: str) -> int:
    """The most training images of which a metric that ranks holds codes and embeddings."""
    names = settings.stages(config, experiment).get("score", {})
    every = [config.metrics[name].constants for name in names]
    return max((c["MOST_TRAIN"] for c in every if "RANKINGS" in c), default=0)


def probing(cell: Cell, fits: Fits) -> Seconds:
    """Seconds to probe a cell's embeddings."""
    images = min(cell.rows["train"], fits.images)
    flop = 4 * images * cell.d * (cell.data["classes"] or 0)
    return dense(flop * fits.strengths * 2 * rate("probe_passes"))


def probing_codes(cell: Cell, fits: Fits) -> Seconds:
    """Seconds to probe an SAE's codes at every k'; a pass takes a part that grows with k', and one that does not."""
    budgets = {2**e for e in range(fits.largest.bit_length())} | {fits.largest}
    images = min(cell.rows["train"], fits.images)
    size = images / 1e5 * (cell.data["classes"] or 0) / 1000
    share_of_pass = sum((budget + 14) / 46 for budget in budgets)
    passes = rate("probe_passes") * fits.strengths * share_of_pass
    return size * passes * np.array([rate("gpu_probe") / 1000, 0, rate("probe")])


def training(cell: Cell, plan: Plan, method: str, steps: int | None = None) -> Seconds:
    """Seconds to train an SAE of a method.

    Args:
        steps: instead of what its recipe says.
    """
    s, rows = recipe_of(plan, method), cell.rows["train"]
    objective = registry.head("objective", plan.methods[method].objective)
    if s["frozen"] == "all" or not objective.constants.get("TRAINS", True):
        return cores(0)
    batch = min(s["batch_size"], rows)
    step = dense(4 * batch * cell.d * (s["m"] + plan.k), s["precision"])
    step[0] = max(step[0], rate("gpu_step") / 1000)
    return (steps or s.get("steps") or s["epochs"] * (rows // batch)) * step
