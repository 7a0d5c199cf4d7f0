"""What a job costs: seconds, memory and disk, from config.yaml and the figures of workflow/resources/costs.yaml.

Every figure there names its source. Quick to import, since the Snakefile does.
"""

import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from sae.data.splits import SPLITS
from sae_workflow import settings

COSTS = "workflow/resources/costs.yaml"
SIZE = 224  # pixels: of `gflop` in costs.yaml, and where a dataset leaves the size to the backbone


class Cell(NamedTuple):
    """A dataset embedded by a backbone: images per split, classes, d; what costs.yaml and the config say of both.

    classes: 0 if images have no single label, and are not probed; None if that is unknown.
    """

    dataset: str
    backbone: str
    rows: dict
    classes: int | None
    d: int
    specs: tuple


@functools.cache
def figures():
    """The figures of costs.yaml."""
    return yaml.safe_load((settings.HERE.parent / COSTS).read_text())


def rate(name):
    """One of the rates, in its unit."""
    return figures()["rates"][name]["value"]


def saes(plan):
    """Of a bank (`settings.bank_plan`): SAEs trained, and at most so many chosen besides the baselines and ablated."""
    seeds = len(plan["seeds"])
    return seeds * (1 + sum(map(len, plan["lambdas"].values()))), seeds * len(plan["lambdas"])


def plans(config, experiment):
    """The settings of every bank."""
    return [settings.bank_plan(config, experiment, **bank) for bank in settings.banks(config, experiment)]


def plans_of(cell, config, experiment):
    """The settings of a cell's banks."""
    return [p for p in plans(config, experiment) if (p["dataset"], p["backbone"]) == (cell.dataset, cell.backbone)]


def cells(config, experiment):
    """The cells of which everything is known, and a line for each dataset or backbone that costs.yaml lacks."""
    spec, found, unknown = config["experiments"][experiment], [], {}
    for dataset in spec["datasets"]:
        for backbone in spec["backbones"]:
            known, lacking = cell(config, dataset, backbone)
            found += [known] if known else []
            unknown |= dict.fromkeys(lacking)
    return found, [f"{what}: left out of disk and hours; add them to {COSTS}" for what in unknown]


def cell(config, dataset, backbone):
    """The `Cell` of a dataset and a backbone, or None; and what of it is unknown.

    What is already made in results/ is counted there.
    """
    specs = config["datasets"][dataset], config["backbones"][backbone]
    data, rows = rows_of(config, dataset)
    model = _figures("backbones", backbone, specs[1])
    shape = _made(f"results/activations/{dataset}/{backbone}/train/manifest.json", "shape")
    model = model | ({"d": shape[1]} if shape else {})
    needed = {"d"} if specs[1]["loader"] == "precomputed" else {"d", "gflop"}
    lacking = [] if rows else [f"no number of images of dataset {dataset}"]
    if not needed <= set(model):
        lacking.append(f"no figures of backbone {backbone} (model {specs[1]['model']})")
    if lacking:
        return None, lacking
    classes = _made(f"results/datasets/{dataset}/manifest.json", "classes")
    classes = data.get("classes") if classes is None else classes
    return Cell(dataset, backbone, rows, classes, model["d"], (data, model, *specs)), []


def rows_of(config, dataset):
    """What costs.yaml says of a dataset, and {split: images}, or None if that is unknown."""
    spec = config["datasets"][dataset]
    known = _figures("datasets", dataset, spec)
    return known, _made(f"results/datasets/{dataset}/manifest.json", "images") or images(spec, known)


def _made(manifest, key):
    try:
        return json.loads(Path(manifest).read_text())[key]
    except (OSError, ValueError, KeyError):
        return None


def _figures(kind, name, spec):
    keys = [name, *(spec[key] for key in ("model", "name", "type") if key in spec)]
    return next((figures()[kind][key] for key in keys if key in figures()[kind]), {})


def images(spec, known):
    """{split: images} of a dataset, from its entry in the config and what costs.yaml knows of it; None if unknown."""
    if "fractions" in spec and "total" in known:
        rows = {split: round(known["total"] * spec["fractions"][split]) for split in SPLITS}
        return rows | {"train": known["total"] - rows["val"] - rows["test"]}
    rows = known | spec.get("images", {}) | spec.get("counts", {})
    if "val_fraction" in spec and "train" in rows and "val" not in rows:
        rows["val"] = round(rows["train"] * spec["val_fraction"])
        rows["train"] -= rows["val"]
    return {split: rows[split] for split in SPLITS} if all(split in rows for split in SPLITS) else None


def disk(cell, bank_plans):
    """Bytes of a cell's embeddings, its SAEs at most (banks and ablations), and the bytes of those."""
    m, count = bank_plans[0]["training"]["m"], sum(sum(saes(plan)) for plan in bank_plans)
    itemsize = np.dtype(cell.specs[3].get("dtype", "float32")).itemsize
    return sum(cell.rows.values()) * cell.d * itemsize, count, count * 4 * (2 * m * cell.d + m + cell.d)


def dense(flop, precision="float32"):
    """Seconds of dense products: (of a GPU, of cores beside it, of cores without a GPU)."""
    return np.array([flop / 1e12 / rate(f"gpu_{precision}"), 0, flop / 1e9 / rate("cpu")])


def cores(seconds):
    """The same of work that is a CPU's in any case."""
    return np.array([0.0, seconds, seconds])


def decoding(rows, data):
    """Seconds to decode a dataset's images once.

    Args:
        rows: {split: images}.
        data: its figures in costs.yaml.
    """
    return cores(sum(rows.values()) / data.get("decode", rate("decode")))


def embedding(cell):
    """Seconds to embed a cell's images, decoding included; 0 for embeddings that are given."""
    _, model, dataset, backbone = cell.specs
    if backbone["loader"] == "precomputed":
        return cores(0.0)
    count, size = sum(cell.rows.values()), dataset.get("image_size") or SIZE
    flop = count * model["gflop"] * 1e9 * (size / SIZE) ** 2
    seconds = dense(flop, backbone.get("precision", "float32")) + decoding(cell.rows, cell.specs[0])
    measured = model.get("images_per_core_second")
    if measured:
        nearest = min(measured, key=lambda pixels: abs(pixels - size))
        seconds[2] = count / measured[nearest] * (size / nearest) ** 2
    return seconds


def probing(cell, probe):
    """Seconds to probe a cell's embeddings."""
    flop = 4 * min(cell.rows["train"], probe["max_train"]) * cell.d * (cell.classes or 0)
    return cores(dense(flop * len(probe["C"]) * probe["max_iter"])[2])


def of_bank(cell, plan, evaluation, judges):
    """{rule: seconds} of one bank of a cell.

    A score encodes train, val and, with its curves, test three times. A chosen SAE encodes what the probes read, and
    is probed and judged by each backbone on test; an ablated one is scored without curves.

    Args:
        plan, evaluation: `settings.bank_plan`, `settings.evaluation_plan`.
        judges: other backbones.
    """
    recipe, probe, rows = plan["training"], evaluation["probe"], cell.rows
    m, k, d = recipe["m"], plan["k"], cell.d
    trained, ablated = saes(plan)
    chosen = len(plan["seeds"]) + ablated
    batch = min(recipe["batch_size"], rows["train"])
    step = dense(4 * batch * d * (m + k), recipe.get("precision", "float32"))
    step[0] = max(step[0], rate("gpu_step") / 1000)
    training = recipe["epochs"] * (rows["train"] // batch) * step
    held_out = rows["val"] + rows["test"]
    ms = 2 * k * d / 1e9 / rate("sparse")
    scoring = dense(2 * d * m * (rows["train"] + held_out)) + cores(ms * held_out)
    probed = min(rows["train"], probe["max_train"])
    largest = evaluation["largest"]
    budgets = {2**e for e in range(largest.bit_length()) if 2**e <= largest} | {largest}
    classes = cell.classes or 0
    fits = probed / 1e5 * classes / 1000 * sum(budgets) / 32 * len(probe["C"]) * probe["max_iter"] * rate("probe")
    depth = dense(2 * d * m * (probed + held_out)) + cores(fits + ms * rows["test"] * (1 + judges))
    return {
        "train": trained * training,
        "ablate": ablated * training,
        "score": trained * (scoring + dense(2 * d * m * 2 * rows["test"])),
        "evaluate": chosen * depth + ablated * scoring,
    }
