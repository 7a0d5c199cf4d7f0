# What the rules share: names of files, and settings as canonical JSON (a rule's parameter holds only what the rule reads).
import shlex
from pathlib import Path

from sae.report import published
from sae.data.artifacts import names as artifact_names
from sae.core.codehash import code_hash
from sae.data.splits import SPLITS
from sae.core.files import dumps
from sae.report.figures import FIGURES
from sae_workflow import costs
from sae_workflow.needs import Needs

ENVIRONMENT = "../../environment.yml"
COMPUTE = config["compute"]
# Jobs that compute on an accelerator each take one: how many there are is for the profile to say.
GPU = int(COMPUTE["device"] != "cpu")
# What a job asks a cluster for. A local run takes no notice of it.
needs = Needs(config)
PUBLISHED = [f"workflow/resources/paper/{name}" for name in published.FILES.values()]
EVALUATED = ("extras", "ablation", "probe", "latents")
TABLES = (1, 2, 3, 4)


wildcard_constraints:
    experiment="|".join(config["experiments"]),
    dataset="|".join(config["datasets"]),
    backbone="|".join(config["backbones"]),
    artifact="|".join(settings.artifacts()),
    k=r"\d+",
    shard=r"\d+",
    shards=r"\d+",
    part=r"\d+",
    parts=r"\d+",
    number="|".join(map(str, TABLES)),
    figure="|".join(FIGURES),


def artifact_files(*specs):
    """The manifests of the artifacts that some datasets' or backbones' specifications name."""
    names = [name for spec in specs for name in artifact_names(spec)]
    return [f"results/artifacts/{name}/artifact.json" for name in names]


def images_of(dataset):
    """The manifests of what a dataset's images were downloaded as."""
    # That of the download is named only so that it is there: the dataset's own parameters say what is in it.
    own = [ancient(f"results/datasets/{dataset}/download.json")] if settings.downloads(config, dataset) else []
    return artifact_files(config["datasets"][dataset]) + own


def embed_code(w):
    """The code that embeds one dataset with one backbone."""
    modules = settings.dataset_module(config, w.dataset), settings.backbone_module(config, w.backbone)
    return code_hash("sae.data.embed", *modules)


def embed_inputs(w):
    """What the embeddings of a dataset by a backbone are made of."""
    return [
        f"results/datasets/{w.dataset}/index.parquet",
        f"results/datasets/{w.dataset}/manifest.json",
        *images_of(w.dataset),
        *artifact_files(config["backbones"][w.backbone]),
        *([f"results/weights/{w.backbone}.json"] if settings.from_hub(config, w.backbone) else []),
        *settings.local_weights(config, w.backbone),
        *settings.given_embeddings(config, w.dataset, w.backbone),
    ]


def parts_of(kind, w):
    """Marks of the jobs that train a bank's SAEs ('bank') or its ablation's ('bank_all'), if there are several."""
    trained, ablated = costs.saes(settings.bank_plan(config, w.experiment, w.dataset, w.backbone, int(w.k)))
    parts = settings.parts(config, trained if kind == "bank" else ablated)
    folder = f"results/{w.experiment}/saes/{w.dataset}/{w.backbone}/k{w.k}/.parts/{kind}"
    return [f"{folder}/{part}-of-{parts}" for part in range(parts)]


def shared(folder):
    """The option that names a folder of other people's results; a resource, not a parameter: it changes no result."""
    places = ":".join(f"{place}/{folder}" for place in COMPUTE["shared"])
    return f"--shared {shlex.quote(places)}" if places else ""


def of_banks(experiment, pattern):
    """`pattern` filled in for every bank of an experiment, each name once."""
    banks = settings.banks(config, experiment)
    return list(dict.fromkeys(pattern.format(experiment=experiment, **bank) for bank in banks))


def scores_of(experiment, kind):
    """The files of one kind ('scores', 'curves', ...) of all banks of an experiment."""
    return of_banks(experiment, f"results/{{experiment}}/scores/{{dataset}}/{{backbone}}/k{{k}}/{kind}.parquet")


def of_gallery(w, pattern):
    """`pattern` filled in for the cell that an experiment's galleries show."""
    return pattern.format(experiment=w.experiment, **settings.gallery(config, w.experiment))


def results_of(experiment):
    """What an experiment ends in, and every manifest on the way.

    Snakemake does not make a lost intermediate file again while the final files look fresh, and a job that fails loses
    its old output: without the manifests, stale tables could pass for finished.
    """
    on_the_way = [f"results/activations/{{dataset}}/{{backbone}}/{split}/manifest.json" for split in SPLITS]
    bank = "results/{experiment}/saes/{dataset}/{backbone}/k{k}"
    on_the_way += [f"{bank}/bank.json", f"{bank}/bank_all.json"]
    on_the_way.append("results/{experiment}/scores/{dataset}/{backbone}/embeddings.json")
    scores = [file for kind in ("scores", EVALUATED[0]) for file in scores_of(experiment, kind)]
    return [
        *(file for pattern in on_the_way for file in of_banks(experiment, pattern)),
        *scores,
        *expand(
            "results/{experiment}/{file}",
            experiment=experiment,
            file=[
                *expand("{table}.parquet", table=("metrics", "curves", "latents")),
                *(["gallery/images.parquet"] if settings.gallery(config, experiment) else []),
                *expand("tables/table{number}.{suffix}", number=TABLES, suffix=("csv", "md", "tex")),
                *expand(
                    "figures/{figure}.{suffix}",
                    figure=settings.figures(config, experiment),
                    suffix=("png", "pdf"),
                ),
                "metrics.csv",
                "claims.csv",
                "claims.md",
                "report/index.html",
            ],
        ),
    ]
