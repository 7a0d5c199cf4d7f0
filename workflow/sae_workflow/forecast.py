"""What an experiment lacks, makes and costs, before anything is downloaded.

It is what `make plan` prints. Jobs, SAEs and bytes follow from config.yaml. Hours are
an estimate from workflow/resources/costs.yaml, where every figure names its source.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress

from sae.config.models import Config
from sae_workflow import costs, durations, missing_inputs, settings
from sae_workflow.command_line import run_command
from sae_workflow.costs import UnknownSize
from sae_workflow.durations import Seconds
from sae_workflow.jobs import Job
from sae_workflow.stages import STAGES, make_job


def count_jobs(config: Config, experiment: str) -> dict[str, int]:
    """Return {rule: jobs} of a run from an empty results/, in order of the rules."""
    counts = {}
    for rule, stage in STAGES.items():
        job_count = len(stage.jobs(config, experiment))
        if job_count:
            counts[rule] = job_count
    return counts


def jobs_to_do(config: Config, experiment: str) -> dict[str, list[Job]]:
    """Return {rule: its jobs of which nothing is there yet}, for rules with jobs."""
    jobs_of_rule = {}
    for rule, stage in STAGES.items():
        jobs = [
            make_job(rule, config, {"experiment": experiment, **wildcards})
            for wildcards in stage.jobs(config, experiment)
        ]
        if jobs:
            jobs_of_rule[rule] = [job for job in jobs if not job.is_done]
    return jobs_of_rule


def estimate_hours(to_do: dict[str, list[Job]]) -> dict[str, Seconds]:
    """Return {rule: hours of its jobs}, as `Seconds` but for the unit.

    A job of unknown size takes its start alone.
    """
    hours_of_rule = {}
    for rule, jobs in to_do.items():
        hours = Seconds()
        for job in jobs:
            seconds = durations.core_seconds(costs.rate("start"))
            with suppress(UnknownSize):
                seconds += job.stage.seconds(job)
            hours += seconds / 3600
        hours_of_rule[rule] = hours
    return hours_of_rule


def describe_plan(config: Config, experiment: str) -> Iterator[str]:
    """Yield the plan of an experiment, line by line.

    Raises:
        UserError: there is no such experiment.
    """
    if experiment not in config.experiments:
        raise missing_inputs.unknown_experiment(config, experiment)
    description = config.experiments[experiment].description
    yield f"{experiment}: {description}" if description else experiment

    yield "\nNot on this machine"
    hub = costs.cost_table()["hub"]
    missing = [
        *missing_inputs.missing_files(config, experiment),
        *missing_inputs.missing_hub_weights(config, experiment, hub),
        *missing_inputs.missing_artifacts(config, experiment),
    ]
    for line in missing or ["nothing is missing"]:
        yield f"  {line}"

    yield _describe_saes(config, experiment)
    for line in missing_inputs.small_training(config, experiment):
        yield f"  {line}"
    embeddings, unknown_sizes = costs.list_embeddings(config, experiment)
    for reason in unknown_sizes:
        yield f"  not counted in disk and hours: {reason}"
    yield from _describe_disk(config, experiment, embeddings)

    counts = count_jobs(config, experiment)
    to_do = jobs_to_do(config, experiment)
    hours_of_rule = estimate_hours(to_do)
    yield from _describe_hours(counts, to_do, hours_of_rule, config.compute.device)
    all_hours = durations.total(hours_of_rule.values())
    yield _describe_this_machine(all_hours, config.compute.device)
    if any(to_do.values()):
        yield "\nThe hours are estimates, from"
        for rate in costs.cost_table()["rates"].values():
            yield f"  {rate['value']:g} {rate['unit']}: {rate['text']}"
            yield f"      {rate['source']}"


def _describe_saes(config: Config, experiment: str) -> str:
    plans = costs.list_plans(config, experiment)
    sizes = [size for plan in plans for size in costs.protocol_sizes(plan)]
    known_beforehand = sum(size.trials for size in sizes)
    chosen_later = sum(size.after for size in sizes)
    text = f"\nSAEs: {known_beforehand} in {len(plans)} cells"
    if chosen_later:
        text += f", and up to {chosen_later} more at settings that validation chooses"
    return text


def _describe_disk(
    config: Config, experiment: str, embeddings: list[costs.Embedding]
) -> Iterator[str]:
    """Yield a table: a row for each embedded dataset, and the total."""
    yield (
        f"\n{'Disk':<40}{'images':>11}{'d':>6}{'embeddings':>13}{'SAEs':>6}"
        f"{'SAE files':>12}"
    )
    embedding_bytes = 0
    sae_bytes = 0
    for embedding in embeddings:
        plans = costs.list_plans_on(config, experiment, embedding)
        use = costs.disk_use(embedding, plans)
        embedding_bytes += use.embedding_bytes
        sae_bytes += use.sae_bytes
        name = f"  {embedding.dataset.name} / {embedding.backbone.name}"
        yield (
            f"{name:<40}{embedding.dataset.image_count:>11,}{embedding.dimensions:>6}"
            f"{_in_gb(use.embedding_bytes):>13}{use.sae_count:>6}"
            f"{_in_gb(use.sae_bytes):>12}"
        )
    total = f"  total {_in_gb(embedding_bytes + sae_bytes)}"
    yield f"{total:<57}{_in_gb(embedding_bytes):>13}{_in_gb(sae_bytes):>18}"


def _describe_hours(
    counts: dict[str, int],
    to_do: dict[str, list[Job]],
    hours_of_rule: dict[str, Seconds],
    device: str,
) -> Iterator[str]:
    """Yield a table: a row for each rule, and the total.

    Args:
        counts: {rule: all its jobs}.
        to_do: {rule: its jobs that are to be done}.
        hours_of_rule: {rule: hours of these}.
        device: The setting `compute.device`.
    """
    heading = "Jobs, and hours of those to do"
    yield f"\n{heading:<42}{'on a GPU:':>12}{'and':>12}{'on CPUs:':>12}"
    of_device = f"  (compute.device: {device})"
    yield (
        f"{of_device:<30}{'jobs':>6}{'done':>6}"
        f"{'GPU hours':>12}{'core hours':>12}{'core hours':>12}"
    )

    done_counts = {rule: count - len(to_do[rule]) for rule, count in counts.items()}
    for rule, hours in hours_of_rule.items():
        yield _row_of_hours(rule, counts[rule], done_counts[rule], hours)
    yield _row_of_hours(
        "total",
        sum(counts.values()),
        sum(done_counts.values()),
        durations.total(hours_of_rule.values()),
    )
    yield (
        "  Done: its files are there. A run checks that they are still up to date "
        "(docs/reruns.md)."
    )
    if device != "cpu":
        yield (
            "  GPU hours: computing time; a job that waits for its CPU part "
            "(compute.decode_workers) holds the GPU longer."
        )


def _describe_this_machine(hours: Seconds, device: str) -> str:
    """Say how long the hours take here, and what disk is free.

    Args:
        hours: Of all jobs that are to be done.
        device: The setting `compute.device`.
    """
    core_count = os.cpu_count() or 1
    machine = f"the {core_count} cores here"
    if device == "cpu":
        duration = hours.cores_alone / core_count
    else:
        machine += " and one GPU"
        duration = max(hours.gpu, hours.cores_beside_gpu / core_count)
    if duration < 1:
        minutes = max(1, round(60 * duration))
        text = "a minute" if minutes == 1 else f"{minutes} minutes"
    elif duration <= 48:
        text = f"{duration:,.1f} hours"
    else:
        text = f"{duration / 24:,.0f} days"
    free_disk = shutil.disk_usage(".").free
    return f"  With {machine}: about {text}. Free disk: {_in_gb(free_disk)}."


def _row_of_hours(name: str, job_count: int, done_count: int, hours: Seconds) -> str:
    columns = (hours.gpu, hours.cores_beside_gpu, hours.cores_alone)
    numbers = "".join(f"{_print_hours(value):>12}" for value in columns)
    return f"  {name:<28}{job_count:>6}{done_count:>6}{numbers}"


def _in_gb(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"


def _print_hours(hours: float) -> str:
    if hours == 0:
        return "-"
    return f"{hours:,.2f}" if hours < 10 else f"{hours:,.0f}"


def main(experiment: str, *overlays: str) -> None:
    """Print the plan of an experiment of ./config.yaml, with files laid over it."""
    config = settings.read_config("config.yaml", *overlays)
    print("\n".join(describe_plan(config, experiment)))


if __name__ == "__main__":
    run_command(main)
