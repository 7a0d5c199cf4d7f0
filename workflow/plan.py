"""What an experiment lacks, makes and costs, before anything is downloaded: what `make plan` prints.

Jobs, SAEs and bytes follow from config.yaml. Hours are an estimate from workflow/resources/costs.yaml, where every
figure names its source.
"""

import functools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sae.data.splits import SPLITS
from sae.errors import UserError
from workflow import missing, settings

COSTS = "workflow/resources/costs.yaml"
SIZE = 224  # pixels: of `gflop` in costs.yaml, and where a dataset leaves the size to the backbone


class Cell(NamedTuple):
    """A dataset embedded by a backbone: images per split, classes (0: no probes), d; what the config says of both."""

    dataset: str
    backbone: str
    rows: dict
    classes: int
    d: int
    specs: tuple


@functools.cache
def costs():
    """The figures of costs.yaml."""
    return yaml.safe_load((settings.HERE.parent / COSTS).read_text())


def rate(name):
    """One of the rates, in its unit."""
    return costs()["rates"][name]["value"]


def jobs(config, experiment):
    """{rule: jobs} of a run from an empty results/, in the order of the stages."""
    spec = config["experiments"][experiment]
    banks = len(settings.banks(config, experiment))
    embedded = len(spec["datasets"]) * len(spec["backbones"])
    shards = config["compute"]["embed_shards"]
    counts = {
        "artifact": len(missing.artifacts_of(config, experiment)),
        "weights": sum(settings.from_hub(config, backbone) for backbone in spec["backbones"]),
        "download": sum(settings.downloads(config, dataset) for dataset in spec["datasets"]),
        "dataset": len(spec["datasets"]),
        "embed_shard": embedded * shards if shards > 1 else 0,
        "embed": embedded,
        "train": banks,
        "score": banks,
        "ablate": banks,
        "evaluate": banks,
        "probe_embeddings": embedded,
        "collect": 1,
        "table": 4,
        "claims": 1,
        "gallery": int(settings.gallery(config, experiment) is not None),
        "plot": len(settings.figures(config, experiment)),
        "page": 1,
    }
    return {rule: count for rule, count in counts.items() if count}


def saes(plan):
    """Of a bank (`settings.bank_plan`): SAEs trained, and at most so many chosen besides the baselines and ablated."""
    seeds = len(plan["seeds"])
    return seeds * (1 + sum(map(len, plan["lambdas"].values()))), seeds * len(plan["lambdas"])


def plans(config, experiment):
    """The settings of every bank."""
    return [settings.bank_plan(config, experiment, **bank) for bank in settings.banks(config, experiment)]


def cells(config, experiment):
    """The cells of which everything is known, and a line for each dataset or backbone that costs.yaml lacks."""
    spec, found, unknown = config["experiments"][experiment], [], {}
    for dataset in spec["datasets"]:
        for backbone in spec["backbones"]:
            specs = config["datasets"][dataset], config["backbones"][backbone]
            data, model = _figures("datasets", dataset, specs[0]), _figures("backbones", backbone, specs[1])
            rows = images(specs[0], data)
            if rows is None:
                unknown[f"no number of images of dataset {dataset}"] = True
            complete = {"d"} if specs[1]["loader"] == "precomputed" else {"d", "gflop"}
            if not complete <= set(model):
                unknown[f"no figures of backbone {backbone} (model {specs[1]['model']})"] = True
            elif rows:
                found.append(Cell(dataset, backbone, rows, data.get("classes", 0), model["d"], (data, model, *specs)))
    return found, [f"{what}: left out of disk and hours; add them to {COSTS}" for what in unknown]


def _figures(kind, name, spec):
    keys = [name, *(spec[key] for key in ("model", "name", "type") if key in spec)]
    return next((costs()[kind][key] for key in keys if key in costs()[kind]), {})


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


def decoding(cell):
    """Seconds to decode a cell's images once."""
    return cores(sum(cell.rows.values()) / cell.specs[0].get("decode", rate("decode")))


def embedding(cell):
    """Seconds to embed a cell's images, decoding included."""
    _, model, dataset, backbone = cell.specs
    count, size = sum(cell.rows.values()), dataset.get("image_size") or SIZE
    flop = count * model["gflop"] * 1e9 * (size / SIZE) ** 2
    seconds = dense(flop, backbone.get("precision", "float32")) + decoding(cell)
    measured = model.get("images_per_core_second")
    if measured:
        nearest = min(measured, key=lambda pixels: abs(pixels - size))
        seconds[2] = count / measured[nearest] * (size / nearest) ** 2
    return seconds


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
    fits = probed / 1e5 * cell.classes / 1000 * sum(budgets) / 32 * len(probe["C"]) * probe["max_iter"] * rate("probe")
    depth = dense(2 * d * m * (probed + held_out)) + cores(fits + ms * rows["test"] * (1 + judges))
    return {
        "train": trained * training,
        "ablate": ablated * training,
        "score": trained * (scoring + dense(2 * d * m * 2 * rows["test"])),
        "evaluate": chosen * depth + ablated * scoring,
    }


def hours(config, experiment, known, counts):
    """{rule: hours (of a GPU, of cores beside it, of cores without a GPU)} of the cells `known`."""
    seconds = {rule: cores(count * rate("start")) for rule, count in counts.items()}
    evaluation = settings.evaluation_plan(config, experiment)
    pictured = [cell for cell in known if cell.specs[3]["loader"] != "precomputed"]
    for cell in {cell.dataset: cell for cell in pictured}.values():
        seconds["dataset"] += decoding(cell)
    for cell in pictured:
        seconds["embed_shard" if "embed_shard" in seconds else "embed"] += embedding(cell)
    for cell in known:
        for plan in plans_of(cell, config, experiment):
            judges = len(settings.judges(config, experiment, cell.backbone))
            for rule, spent in of_bank(cell, plan, evaluation, judges).items():
                seconds[rule] += spent
        probe = evaluation["probe"]
        flop = 4 * min(cell.rows["train"], probe["max_train"]) * cell.d * cell.classes
        fits = flop * len(probe["C"]) * probe["max_iter"]
        seconds["probe_embeddings"] += cores(dense(fits)[2])
    return {rule: spent / 3600 for rule, spent in seconds.items()}


def plans_of(cell, config, experiment):
    """The settings of a cell's banks."""
    return [p for p in plans(config, experiment) if (p["dataset"], p["backbone"]) == (cell.dataset, cell.backbone)]


def text(config, experiment):
    """The plan, line by line.

    Raises:
        UserError: there is no such experiment.
    """
    if experiment not in config["experiments"]:
        known = ", ".join(config["experiments"])
        raise UserError(f"experiment {experiment!r} is not in config.yaml; there are: {known}")
    yield f"{experiment}: {config['experiments'][experiment].get('description', '')}"
    yield "\nNot on this machine"
    lines = [*missing.local(config, experiment), *missing.hub(config, experiment, costs()["hub"])]
    lines += missing.artifacts(config, experiment)
    yield from (f"  {line}" for line in lines or ["nothing is lacking"])
    trained, ablated = map(sum, zip(*map(saes, plans(config, experiment)), strict=True))
    yield f"\nSAEs: {trained} in {len(plans(config, experiment))} banks, and at most {ablated} in the mask ablation"
    known, unknown = cells(config, experiment)
    yield from (f"  {line}" for line in unknown)
    yield from _disk_text(config, experiment, known)
    counts = jobs(config, experiment)
    yield from _hours_text(counts, hours(config, experiment, known, counts), config["compute"]["device"])
    yield "\nThe hours are estimates, from"
    for figure in costs()["rates"].values():
        yield f"  {figure['value']:g} {figure['unit']}: {figure['text']}\n      {figure['source']}"


def _disk_text(config, experiment, known):
    rows = [(cell, *disk(cell, plans_of(cell, config, experiment))) for cell in known]
    yield f"\n{'Disk':<40}{'images':>11}{'d':>6}{'embeddings':>13}{'SAEs':>6}{'SAE files':>12}"
    for cell, embeddings, count, files in rows:
        name = f"  {cell.dataset} / {cell.backbone}"
        images = sum(cell.rows.values())
        yield f"{name:<40}{images:>11,}{cell.d:>6}{_gb(embeddings):>13}{count:>6}{_gb(files):>12}"
    embeddings, files = (sum(row[i] for row in rows) for i in (1, 3))
    yield f"{'  total ' + _gb(embeddings + files):<57}{_gb(embeddings):>13}{_gb(files):>18}"


def _hours_text(counts, spent, device):
    yield f"\n{'Jobs and hours':<36}{'on a GPU:':>12}{'and':>12}{'on CPUs:':>12}"
    yield f"{'  (compute.device: ' + device + ')':<30}{'jobs':>6}{'GPU hours':>12}{'core hours':>12}{'core hours':>12}"
    for rule, row in [*spent.items(), ("total", sum(spent.values()))]:
        columns = "".join(f"{_hours(h):>12}" for h in row)
        yield f"  {rule:<28}{counts.get(rule, sum(counts.values())):>6}{columns}"
    yield "  GPU hours: while it computes; a job that waits for its CPU part (compute.decode_workers) holds it longer."


def _gb(count):
    return f"{count / 1e9:,.2f} GB"


def _hours(value):
    return "-" if value == 0 else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def main(experiment):
    """Print the plan of an experiment of ./config.yaml."""
    config = yaml.safe_load(Path("config.yaml").read_text())
    try:
        settings.check(config)
        print("\n".join(text(config, experiment)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
