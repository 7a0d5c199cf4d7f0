"""What the Snakefile asks for before its rules are read, and before its first job starts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.shell import shell
from snakemake.utils import min_version

from sae.config.models import Config
from sae.core.errors import UserError
from sae_workflow import (
    handover,
    lock,
    missing,
    preflight,
    recorded,
    settings,
    stages,
    view,
)

OLDEST_SNAKEMAKE = "9.0"
# The environment variable by which a job on a cluster finds the run that submitted it.
RUN_VARIABLE = handover.VARIABLE


class Error(WorkflowError):
    """An error of the user's, which Snakemake prints without the places in our code."""

    # Python sets it on the way up, and Snakemake would print all of it.
    __traceback__ = property(lambda self: None, lambda self, places: None)


def plan(workflow: Any, said_in: dict[str, str] | None) -> Config:
    """Check this folder, read the config, and say how the shells of jobs start.

    A Snakemake that a job on a cluster starts plans as the run did that submitted it.

    Args:
        workflow: Snakemake's object of that name.
        said_in: {key of the config: the file that says it}, where the config is read
            already; None reads config.yaml and what is laid over it.

    Returns:
        Snakemake's `config`, checked and typed.

    Raises:
        Error: something is wrong, in one line.
    """
    min_version(OLDEST_SNAKEMAKE)
    if workflow.is_main_process:
        _claim_folder()
    with _in_one_line():
        if said_in is None:
            # Read twice: this says more of a file that cannot be read than Snakemake.
            _, said_in = settings.merged("config.yaml", *workflow.configfiles)
            workflow.configfile("config.yaml")
        is_main = workflow.is_main_process
        words, files = (workflow.config, said_in) if is_main else (handover.read(), {})
        config = settings.load(words, files)

    # Jobs run the Python that runs Snakemake, also where its environment is not active.
    preflight.activate()
    shell.prefix(_shell_prefix(workflow, config).replace("{", "{{").replace("}", "}}"))
    # A dry run needs neither data nor weights, but should not pass for a promise.
    # Targets are not known yet: hence `argv`.
    if workflow.is_main_process:
        missing.warn(config, sys.argv)
    return config


def start(workflow: Any, config: Config, job_of: Callable[..., stages.Job]) -> None:
    """Check what can be checked before the first job, and record what is planned.

    Args:
        workflow: Snakemake's object of that name.
        config: What :func:`plan` returned.
        job_of: Returns the `sae_workflow.stages.Job` of a rule's name and wildcards.

    Raises:
        Error: something is wrong, in one line.
    """
    preflight.take_back_stop_signals(workflow.scheduler)
    with _in_one_line():
        lock.end_orphans()
        preflight.writable("results")
        preflight.no_future("results", "sae", "workflow")

        jobs = list(workflow.dag.needrun_jobs())
        outputs = [str(file) for job in jobs for file in job.output]
        names = [(job.rule.name, dict(job.wildcards.items())) for job in jobs]
        missing.refuse_lost(config, names, outputs)

        for job in jobs:
            # Snakemake evaluates most of them later, when the plan is written.
            job.params, job.resources  # noqa: B018
            if job.rule.name in stages.STAGES:
                seconds = job_of(job.rule.name, job.wildcards).seconds
                view.expected[job.jobid] = job.rule.name, seconds

        handover.write(workflow.config)
        recorded.start(workflow, workflow.config)


def refuse_unknown_targets(workflow: Any, config: Config) -> None:
    """Refuse a target that is no experiment, rule or file; Snakemake would say less.

    A Snakefile that includes this one has rules of its own, which are not known yet.

    Raises:
        Error: names the target, and the experiments that there are.
    """
    if workflow.is_main_process and len(workflow.included_stack) == 1:
        with _in_one_line():
            missing.refuse_unknown(config, sys.argv, workflow.is_rule)


def _claim_folder() -> None:
    """See that records can be kept here, and that no other run is at work here."""
    preflight.stop_in_one_line()
    preflight.pass_over_damaged_records()
    try:
        preflight.records()
    except UserError as error:
        advice = "even a dry run keeps records there"
        raise Error(f"{error} ({advice})") from None
    lock.hold()
    handover.name_run()


def _shell_prefix(workflow: Any, config: Config) -> str:
    """What the shell of every job starts with: it finds entries of one's own.

    A job on this machine also holds its lock and heeds signals. Of a job on a node of a
    cluster the queue tells.
    """
    prefix = settings.shell_prefix(config)
    if workflow.is_main_process:
        # Under the live view (`--logger sae`) the terminal is the view's alone.
        handlers = workflow.output_settings.log_handler_settings
        prefix += lock.shell_prefix() + preflight.shell_prefix("sae" in handlers)
    return prefix


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Let Snakemake print a `UserError` without a traceback."""
    try:
        yield
    except UserError as error:
        raise Error(str(error)) from None
