# What the rules share: names of files, and settings as canonical JSON (a rule's parameter holds only what the rule reads).
from pathlib import Path

from sae.codehash import code_hash
from sae.files import dumps

ENVIRONMENT = "../../environment.yml"
SPLITS = ("train", "val", "test")
COMPUTE = config["compute"]


wildcard_constraints:
    experiment="|".join(config["experiments"]),
    dataset="|".join(config["datasets"]),
    backbone="|".join(config["backbones"]),
    artifact="|".join(settings.artifacts()),
    k=r"\d+",


def artifact_files(*specs):
    """The manifests of the artifacts that some datasets' or backbones' specifications name."""
    names = [name for spec in specs for name in settings.artifact_names(spec)]
    return [f"results/artifacts/{name}/artifact.json" for name in names]


def scores_of(experiment):
    """The score files of all banks of an experiment."""
    pattern = "results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet"
    return [pattern.format(experiment=experiment, **bank) for bank in settings.banks(config, experiment)]


def results_of(experiment):
    """What an experiment ends in."""
    return expand(
        "results/{experiment}/{file}",
        experiment=experiment,
        file=[
            "metrics.parquet",
            "metrics.csv",
            "tables/table1.csv",
            "tables/table1.md",
            "tables/table1.tex",
            "figures/lambda.png",
            "figures/lambda.pdf",
        ],
    )
