"""Read what Snakemake compares of the jobs of a plan, and derive what a change runs.

Snakemake runs a job again if its parameters, input files or command are not those that
it recorded when the job ran, and then all jobs that read what it makes. Both can be
read off the Snakefile before and after a change, without a run.
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# What takes seconds to import, and none of the project: its code is the folder's.
LIBRARIES = ["snakemake.api", "snakemake.persistence.file", "pydantic", "timm"]


@dataclass(frozen=True)
class PlannedJob:
    """A job, by all that Snakemake compares of it.

    Attributes:
        rule: the name of its rule.
        outputs: the files that it makes.
        params: its parameters as text, but for those that follow from its files.
        inputs: the files that it reads.
        followed_inputs: those of them that run it again when they are made anew.
        command: the command of its rule, with placeholders.
    """

    rule: str
    outputs: tuple[str, ...]
    params: tuple[str, ...]
    inputs: tuple[str, ...]
    followed_inputs: tuple[str, ...]
    command: str


def reader(calls_per_process: int | None = None) -> ProcessPoolExecutor:
    """Return where to run `read_jobs`: a process that has the libraries already.

    Args:
        calls_per_process: 1 to read the folder's code anew in each call. Otherwise all
            calls go by the code of the first one's folder.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *LIBRARIES])
    return ProcessPoolExecutor(
        1, mp_context=context, max_tasks_per_child=calls_per_process
    )


def read_jobs(folder: Path, target: str) -> list[PlannedJob]:
    """Plan a target by the Snakefile, the config and the code of a folder.

    It imports that code and stays in that folder: call it through a `reader`.
    """
    from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import DAGSettings

    os.chdir(folder)
    sys.path[:0] = [str(folder), str(folder / "workflow")]
    sys.argv = ["snakemake", "-n", target]
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        snakefile = api.workflow(ResourceSettings(cores=1), snakefile=Path("Snakefile"))
        snakefile.dag(DAGSettings(targets={target}))
        # Snakemake's interface prints plans and runs them; it does not hand them out.
        workflow = snakefile._workflow
        workflow._prepare_dag(
            forceall=False, ignore_incomplete=True, lock_warn_only=True
        )
        workflow._build_dag()
        return [_planned(job) for job in workflow.dag.jobs if job.output]


def _planned(job) -> PlannedJob:
    followed = [file for file in job.input if not file.is_ancient]
    return PlannedJob(
        rule=job.rule.name,
        outputs=tuple(sorted(map(str, job.output))),
        params=tuple(sorted(map(repr, job.non_derived_params))),
        inputs=tuple(sorted(map(str, job.input))),
        followed_inputs=tuple(sorted(map(str, followed))),
        command=job.rule.shellcmd,
    )


def jobs_that_run(
    before: list[PlannedJob], after: list[PlannedJob]
) -> list[PlannedJob]:
    """Derive which jobs of a plan run where all jobs of an earlier one are finished.

    They are those that the earlier plan had not, or had with other parameters, inputs
    or another command, and all that follow from them.
    """
    running = [job for job in after if job not in before]
    while True:
        made_anew = {file for job in running for file in job.outputs}
        following = [
            job
            for job in after
            if job not in running and made_anew.intersection(job.followed_inputs)
        ]
        if not following:
            return running
        running += following
