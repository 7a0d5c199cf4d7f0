"""What the Snakefile calls: before its rules are read, and before its first job.

Snakemake lacks a hook before the first job that may stop a run: `onstart` may, with what
is called here.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.shell import shell
from snakemake.utils import min_version

from sae.config.models import Config
from sae.core.errors import UserError
from sae_workflow import (
    forecast,
    lock,
    missing_inputs,
    planned_run,
    preflight,
    recorded_configs,
    run_progress,
    settings,
    stages,
    stop_signals,
)
from sae_workflow.stages import Job

OLDEST_SNAKEMAKE = "9.0"
# The environment variable by which a job on a cluster finds the run that submitted it.
RUN_VARIABLE = planned_run.RUN_VARIABLE


class Error(WorkflowError):
    """An error of the user's, which Snakemake prints without the places in our code."""

    # Python sets it on the way up, and Snakemake would print all of it.
    __traceback__ = property(lambda self: None, lambda self, places: None)


def read_config(workflow: Any, is_module: bool) -> Config:
    """Check this folder, read the config, and say how the shells of jobs start.

    A Snakemake that a job on a cluster starts plans as the run did that submitted it.

    Args:
        workflow: Snakemake's object of that name.
        is_module: Whether workflow/Snakefile has read the config.

    Returns:
        Snakemake's `config`, checked and typed.

    Raises:
        Error: something is wrong, in one line.
    """
    min_version(OLDEST_SNAKEMAKE)
    is_main = workflow.is_main_process
    if is_main:
        _claim_folder()
    with _in_one_line():
        if not is_main:
            config = settings.load(planned_run.read_planned_run())
        elif is_module:
            config = settings.load(workflow.config)
        else:
            config = _read_config_files(workflow)

    # Jobs run the Python that runs Snakemake, also where its environment is not active.
    preflight.activate_environment()
    prefix = _shell_prefix(workflow, config)
    shell.prefix(prefix.replace("{", "{{").replace("}", "}}"))
    # A dry run needs neither data nor weights, but should not pass for a promise.
    # Targets are not known yet: hence `argv`.
    if is_main:
        for experiment in config.experiments.keys() & set(sys.argv):
            warnings = [
                *missing_inputs.missing_files(config, experiment),
                *missing_inputs.missing_judges(config, experiment),
                *forecast.small_training(config, experiment),
            ]
            with suppress(BrokenPipeError):  # A run goes on where nobody reads them.
                for line in warnings:
                    print(f"{experiment}: {line}", file=sys.stderr)
    return config


def prepare_run(workflow: Any, config: Config, job_of: Callable[..., Job]) -> None:
    """Check what can be checked before the first job, and record what is planned.

    Args:
        workflow: Snakemake's object of that name.
        config: What :func:`read_config` returned.
        job_of: Returns the `sae_workflow.stages.Job` of a rule's name and wildcards.

    Raises:
        Error: something is wrong, in one line.
    """
    stop_signals.take_back_from_scheduler(workflow.scheduler)
    with _in_one_line():
        lock.end_orphans()
        preflight.check_writable("results")
        preflight.date_back_future_files("results", "sae", "workflow")

        jobs = list(workflow.dag.needrun_jobs())
        outputs = [str(file) for job in jobs for file in job.output]
        names = [(job.rule.name, dict(job.wildcards.items())) for job in jobs]
        missing_inputs.refuse_lost_inputs(config, names, outputs)

        for job in jobs:
            # Snakemake evaluates most of them later, when the plan is written.
            job.params, job.resources  # noqa: B018
            if job.rule.name in stages.STAGES:
                known_job = job_of(job.rule.name, job.wildcards)
                seconds = 0.0  # which says that it is unknown
                with suppress(forecast.UnknownSize):
                    seconds = forecast.estimate_seconds(known_job)
                run_progress.expected_seconds[job.jobid] = seconds

        planned_run.write_planned_run(workflow.config)
        recorded_configs.record_run(workflow, workflow.config)


def refuse_unknown_targets(workflow: Any, config: Config) -> None:
    """Refuse a target that is no experiment, rule or file; Snakemake would say less.

    A Snakefile that includes this one has rules of its own, which are not known yet.

    Raises:
        Error: names the target, and the experiments that there are.
    """
    if workflow.is_main_process and len(workflow.included_stack) == 1:
        with _in_one_line():
            missing_inputs.refuse_unknown_targets(config, sys.argv, workflow.is_rule)


def _read_config_files(workflow: Any) -> Config:
    """Read config.yaml, what goes with it, and what the command line lays over it."""
    command_line = workflow.config_settings
    # What a Snakefile says that includes this one; else it is the command line's.
    below = workflow.config
    if below == command_line.overwrite_config:
        below = {}
    config, raw, left_out = settings.read_files(
        "config.yaml",
        *command_line.configfiles,
        below=below,
        options=command_line.config,
    )
    settings.warn_of_left_out(left_out)
    settings.warn_of_unnamed_extensions(config)
    # Snakemake, which would not say what is wrong with it, lists it as a config file.
    workflow.configfile("config.yaml")
    workflow.config.clear()
    workflow.config.update(raw)
    return config


def _claim_folder() -> None:
    """See that records can be kept here, and that no other run is at work here."""
    stop_signals.stop_in_one_line()
    try:
        preflight.check_records()
    except UserError as error:
        advice = "even a dry run keeps records there"
        raise Error(f"{error} ({advice})") from None
    lock.hold()
    planned_run.name_run()


def _shell_prefix(workflow: Any, config: Config) -> str:
    """Return what the shell of every job starts with: it finds entries of one's own.

    A job on this machine also holds the lock of its run and heeds signals. Of a job on
    a node of a cluster the queue tells.
    """
    prefix = settings.extensions_prefix(config)
    if workflow.is_main_process:
        # Under the live view (`--logger sae`) the terminal is the view's alone.
        handlers = workflow.output_settings.log_handler_settings
        prefix += lock.shell_prefix()
        prefix += stop_signals.shell_prefix(into_log="sae" in handlers)
    return prefix


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Let Snakemake print a `UserError` without a traceback."""
    try:
        yield
    except UserError as error:
        raise Error(str(error)) from None
