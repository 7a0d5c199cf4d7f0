"""What an experiment lacks, makes and costs, before anything is downloaded: what `make plan` prints.

Jobs, SAEs and bytes follow from config.yaml. Hours are an estimate from workflow/resources/costs.yaml, where every
figure names its source.
"""

import sys
from pathlib import Path

import yaml

from sae.core.errors import UserError
from sae_workflow import costs, missing, settings


def jobs(config, experiment):
    """{rule: jobs} of a run from an empty results/, in the order of the stages."""
    spec = config["experiments"][experiment]
    banks = len(settings.banks(config, experiment))
    embedded = len(spec["datasets"]) * len(spec["backbones"])
    shards = config["compute"]["embed_shards"]
    sizes = [costs.saes(plan) for plan in costs.plans(config, experiment)]
    counts = {
        "artifact": len(missing.artifacts_of(config, experiment)),
        "weights": sum(settings.from_hub(config, backbone) for backbone in spec["backbones"]),
        "download": sum(settings.downloads(config, dataset) for dataset in spec["datasets"]),
        "dataset": len(spec["datasets"]),
        "embed_shard": embedded * shards if shards > 1 else 0,
        "embed": embedded,
        "train_part": sum(settings.parts(config, trained) for trained, _ in sizes),
        "train": banks,
        "score": banks,
        "ablate_part": sum(settings.parts(config, ablated) for _, ablated in sizes),
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


def hours(config, experiment, known, counts):
    """{rule: hours (of a GPU, of cores beside it, of cores without a GPU)} of the cells `known`."""
    seconds = {rule: costs.cores(count * costs.rate("start")) for rule, count in counts.items()}
    evaluation = settings.evaluation_plan(config, experiment)
    pictured = [cell for cell in known if cell.specs[3]["loader"] != "precomputed"]
    for cell in {cell.dataset: cell for cell in pictured}.values():
        seconds["dataset"] += costs.decoding(cell.rows, cell.specs[0])
    for cell in pictured:
        seconds["embed_shard" if "embed_shard" in seconds else "embed"] += costs.embedding(cell)
    for cell in known:
        for plan in costs.plans_of(cell, config, experiment):
            judges = len(settings.judges(config, experiment, cell.backbone))
            for rule, spent in costs.of_bank(cell, plan, evaluation, judges).items():
                seconds[rule] += spent
        seconds["probe_embeddings"] += costs.probing(cell, evaluation["probe"])
    return {rule: spent / 3600 for rule, spent in seconds.items()}


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
    lines = [*missing.local(config, experiment), *missing.hub(config, experiment, costs.figures()["hub"])]
    lines += missing.artifacts(config, experiment)
    yield from (f"  {line}" for line in lines or ["nothing is lacking"])
    banks = costs.plans(config, experiment)
    trained, ablated = map(sum, zip(*map(costs.saes, banks), strict=True))
    yield f"\nSAEs: {trained} in {len(banks)} banks, and at most {ablated} in the mask ablation"
    known, unknown = costs.cells(config, experiment)
    yield from (f"  {line}" for line in unknown)
    yield from _disk_text(config, experiment, known)
    counts = jobs(config, experiment)
    yield from _hours_text(counts, hours(config, experiment, known, counts), config["compute"]["device"])
    yield "\nThe hours are estimates, from"
    for figure in costs.figures()["rates"].values():
        yield f"  {figure['value']:g} {figure['unit']}: {figure['text']}\n      {figure['source']}"


def _disk_text(config, experiment, known):
    rows = [(cell, *costs.disk(cell, costs.plans_of(cell, config, experiment))) for cell in known]
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
