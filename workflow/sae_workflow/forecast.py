"""What an experiment lacks, makes and costs, before anything is downloaded: what `make plan` prints.

Jobs, SAEs and bytes follow from config.yaml. Hours are an estimate from workflow/resources/costs.yaml, where every
figure names its source.
"""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from sae.config.models import Config
from sae_workflow import costs, missing, settings
from sae_workflow.stages import STAGES, Job, Unknown
from sae_workflow.start import start


def jobs(config: Config, experiment: str) -> dict[str, int]:
    """{rule: jobs} of a run from an empty results/, in the order of the stages."""
    counts = {
        rule: len(stage.jobs(config, experiment)) for rule, stage in STAGES.items()
    }
    return {rule: number for rule, number in counts.items() if number}


def left(config: Config, experiment: str) -> dict[str, list[Job]]:
    """{rule: its jobs of which nothing is there yet}."""
    every = {
        rule: [
            Job(rule, config, {"experiment": experiment} | of)
            for of in stage.jobs(config, experiment)
        ]
        for rule, stage in STAGES.items()
    }
    return {
        rule: [job for job in of if not job.is_done] for rule, of in every.items() if of
    }


def hours(todo: dict[str, list[Job]]) -> dict[str, costs.Seconds]:
    """{rule: hours of its jobs (of a GPU, of cores beside it, of cores without a GPU)}; the unknown takes its start."""
    spent: dict[str, costs.Seconds] = {}
    for rule, found in todo.items():
        spent[rule] = costs.cores(0)
        for job in found:
            seconds = costs.cores(costs.rate("start"))
            with suppress(Unknown):
                seconds = seconds + job.stage.seconds(job)
            spent[rule] = spent[rule] + seconds / 3600
    return spent


def text(config: Config, experiment: str) -> Iterator[str]:
    """The plan, line by line.

    Raises:
        UserError: there is no such experiment.
    """
    if experiment not in config.experiments:
        raise missing.unknown(config, experiment)
    yield f"{experiment}: {config.experiments[experiment].description}"
    yield "\nNot on this machine"
    lines = [
        *missing.local(config, experiment),
        *missing.hub(config, experiment, costs.figures()["hub"]),
    ]
    lines += missing.artifacts(config, experiment)
    yield from (f"  {line}" for line in lines or ["nothing is lacking"])
    banks = costs.plans(config, experiment)
    sizes = [size for plan in banks for size in costs.sizes(plan)]
    trials, after = (
        sum(size.trials for size in sizes),
        sum(size.after for size in sizes),
    )
    said = f", and at most {after} at what validation chooses" if after else ""
    yield f"\nSAEs: {trials} in {len(banks)} cells{said}"
    known, unknown = costs.cells(config, experiment)
    yield from (f"  left out of disk and hours: {what}" for what in unknown)
    yield from _disk_text(config, experiment, known)
    todo = left(config, experiment)
    yield from _hours_text(jobs(config, experiment), todo, config.compute.device)
    if not any(todo.values()):
        return
    yield "\nThe hours are estimates, from"
    for figure in costs.figures()["rates"].values():
        yield f"  {figure['value']:g} {figure['unit']}: {figure['text']}\n      {figure['source']}"


def _disk_text(
    config: Config, experiment: str, known: list[costs.Cell]
) -> Iterator[str]:
    rows = [
        (cell, *costs.disk(cell, costs.plans(config, experiment, cell)))
        for cell in known
    ]
    yield f"\n{'Disk':<40}{'images':>11}{'d':>6}{'embeddings':>13}{'SAEs':>6}{'SAE files':>12}"
    for cell, embeddings, saes, files in rows:
        name = f"  {cell.dataset} / {cell.backbone}"
        yield f"{name:<40}{sum(cell.rows.values()):>11,}{cell.d:>6}{_gb(embeddings):>13}{saes:>6}{_gb(files):>12}"
    embeddings, files = sum(row[1] for row in rows), sum(row[3] for row in rows)
    yield f"{'  total ' + _gb(embeddings + files):<57}{_gb(embeddings):>13}{_gb(files):>18}"


def _hours_text(
    counts: dict[str, int], todo: dict[str, list[Job]], device: str
) -> Iterator[str]:
    spent = hours(todo)
    yield f"\n{'Jobs, and hours of those to do':<42}{'on a GPU:':>12}{'and':>12}{'on CPUs:':>12}"
    columns = ("jobs", "done"), ("GPU hours", "core hours", "core hours")
    of_device = f"  (compute.device: {device})"
    yield (
        f"{of_device:<30}"
        + "".join(f"{c:>6}" for c in columns[0])
        + "".join(f"{c:>12}" for c in columns[1])
    )
    done = {rule: count - len(todo[rule]) for rule, count in counts.items()}
    for rule, row in [*spent.items(), ("total", np.sum(list(spent.values()), axis=0))]:
        numbers = (of.get(rule, sum(of.values())) for of in (counts, done))
        yield (
            f"  {rule:<28}"
            + "".join(f"{n:>6}" for n in numbers)
            + "".join(f"{_hours(h):>12}" for h in row)
        )
    yield "  Done: what it makes is there. A run looks whether that still holds (docs/reruns.md)."
    yield "  GPU hours: while it computes; a job that waits for its CPU part (compute.decode_workers) holds it longer."


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"


def _hours(value: float) -> str:
    return "-" if value == 0 else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def main(experiment: str, *overlays: str) -> None:
    """Print the plan of an experiment of ./config.yaml, with files laid over it."""
    print("\n".join(text(settings.read("config.yaml", *overlays), experiment)))


if __name__ == "__main__":
    start(main)
