# The entry point: configuration, stages, and one target rule per experiment of config.yaml.
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from sae.core import registry
from sae.core.errors import UserError
from sae_workflow import lock, handover, missing, preflight, recorded, settings, view

min_version("9.0")
if workflow.is_main_process:
    preflight.stop_in_one_line()
    preflight.pass_over_damaged_records()
    try:
        preflight.records()
    except UserError as error:
        raise WorkflowError(f"{error} (even a dry run keeps records there)") from None
    lock.hold()
    handover.name_run()
# workflow/Snakefile has read config.yaml, and laid a config over it.
if "said_in" not in globals():
    try:
        _, said_in = settings.merged("config.yaml", *workflow.configfiles)
    except UserError as error:
        raise WorkflowError(str(error)) from None

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


# Used with `--sdm apptainer` alone: built from workflow/containers/sae.def.
container: "sae.sif"


# Goes with the jobs on a cluster.
envvars:
    handover.VARIABLE,


# `cfg` is the checked and typed form of Snakemake's `config`.
try:
    cfg = settings.load(config, said_in) if workflow.is_main_process else settings.load(handover.read())
except UserError as error:
    raise WorkflowError(str(error)) from None
# Jobs run the Python that runs Snakemake, also where its environment is not activated.
preflight.activate()
# Every job finds the entries of one's own. A job on a node holds no lock of this machine: the queue tells of that.
# Under the live view (`--logger sae`) the terminal is the view's alone.
viewed = "sae" in workflow.output_settings.log_handler_settings
here = lock.shell_prefix() + preflight.shell_prefix(viewed) if workflow.is_main_process else ""
shell.prefix((settings.shell_prefix(cfg) + here).replace("{", "{{").replace("}", "}}"))
# A dry run needs neither data nor weights, but should not pass for a promise. Targets are not known yet: hence `argv`.
if workflow.is_main_process:
    missing.warn(cfg, sys.argv)


onstart:
    preflight.take_back_stop_signals(workflow.scheduler)
    try:
        lock.end_orphans()
        preflight.writable("results")
        preflight.no_future("results", "sae", "workflow")
        todo = [*workflow.dag.needrun_jobs()]
        made = (str(file) for job in todo for file in job.output)
        missing.refuse_lost(cfg, ((job.rule.name, dict(job.wildcards.items())) for job in todo), made)
        for job in todo:
            job.params, job.resources  # Snakemake evaluates most of them later, when the plan is written.
            if job.rule.name in STAGES:
                view.expected[job.jobid] = job.rule.name, job_of(job.rule.name, job.wildcards).seconds
        handover.write(config)
        recorded.start(workflow, config)
    except UserError as error:
        raise WorkflowError(str(error)) from None


include: "workflow/rules/common.smk"
include: "workflow/rules/artifacts.smk"
include: "workflow/rules/activations.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


# `snakemake` alone runs the demo; `snakemake NAME` runs any other experiment.
for experiment in cfg.experiments:

    rule:
        name:
            experiment
        default_target: experiment == "demo"
        input:
            results_of(experiment),


# Snakemake would say no more than that no rule makes it. A Snakefile that includes this one has rules of its own.
if workflow.is_main_process and len(workflow.included_stack) == 1:
    try:
        missing.refuse_unknown(cfg, sys.argv, workflow.is_rule)
    except UserError as error:
        raise WorkflowError(str(error)) from None
