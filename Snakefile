# The entry point: the stages, and one target rule per experiment of config.yaml.
from sae_workflow import snakefile

# `cfg` is the checked and typed form of Snakemake's `config`. workflow/Snakefile has
# read that already.
cfg = snakefile.read_config(workflow, globals().get("IS_MODULE", False))


report: "workflow/report/workflow.rst"


# Used with `--sdm apptainer` alone: built from workflow/containers/sae.def.
container: "sae.sif"


# Goes with the jobs on a cluster.
envvars:
    snakefile.RUN_VARIABLE,


onstart:
    snakefile.prepare_run(workflow, cfg, job_of)


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


snakefile.refuse_unknown_targets(workflow, cfg)
