# What the rules share: names of files, and settings as canonical JSON (a rule's parameter holds only what the rule reads).
from pathlib import Path

from sae.artifacts import names as artifact_names
from sae.codehash import code_hash
from sae.data.splits import SPLITS
from sae.plots import FIGURES
from sae.files import dumps

ENVIRONMENT = "../../environment.yml"
COMPUTE = config["compute"]


wildcard_constraints:
    experiment="|".join(config["experiments"]),
    dataset="|".join(config["datasets"]),
    backbone="|".join(config["backbones"]),
    artifact="|".join(settings.artifacts()),
    k=r"\d+",
    number="[12]",
    figure="|".join(FIGURES),


def artifact_files(*specs):
    """The manifests of the artifacts that some datasets' or backbones' specifications name."""
    names = [name for spec in specs for name in artifact_names(spec)]
    return [f"results/artifacts/{name}/artifact.json" for name in names]


def of_banks(experiment, pattern):
    """`pattern` filled in for every bank of an experiment, each name once."""
    banks = settings.banks(config, experiment)
    return list(dict.fromkeys(pattern.format(experiment=experiment, **bank) for bank in banks))


def scores_of(experiment, kind):
    """The files of one kind ('scores', 'curves') of all banks of an experiment."""
    return of_banks(experiment, f"results/{{experiment}}/scores/{{dataset}}/{{backbone}}/k{{k}}/{kind}.parquet")


def results_of(experiment):
    """What an experiment ends in, and every manifest on the way.

    Snakemake does not make a lost intermediate file again while the final files look fresh, and a job that fails loses
    its old output: without the manifests, stale tables could pass for finished.
    """
    manifests = [f"results/activations/{{dataset}}/{{backbone}}/{split}/manifest.json" for split in SPLITS]
    manifests.append("results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank.json")
    on_the_way = [file for pattern in manifests for file in of_banks(experiment, pattern)] + scores_of(
        experiment, "scores"
    )
    return on_the_way + expand(
        "results/{experiment}/{file}",
        experiment=experiment,
        file=[
            "metrics.parquet",
            "metrics.csv",
            "curves.parquet",
            *expand("tables/table{number}.{suffix}", number=(1, 2), suffix=("csv", "md", "tex")),
            *expand("figures/{figure}.{suffix}", figure=FIGURES, suffix=("png", "pdf")),
        ],
    )
