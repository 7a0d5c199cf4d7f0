"""From config.yaml to the settings of each job, and the checks that need more than a schema."""

import functools
from pathlib import Path

import jsonschema
import yaml

from sae.core import registry
from sae.core.errors import UserError
from sae.core.names import format_lambda
from sae.data.artifacts import names as artifact_names
from sae.data.splits import SPLITS
from sae.report.figures import FIGURES

HERE = Path(__file__).parent.parent
REGULARIZERS, DATASETS, LOADERS = "sae.training.penalties", "sae.data.datasets", "sae.data.backbones"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".tar")  # suffixes of a file of weights
HUB_LOADERS = ("timm", "open_clip")
NAMES_WEIGHTS = ("loader", "model", "pretrained")
# Names of rules and folders of results/, which an experiment cannot take.
RESERVED = {
    "artifact",
    "artifacts",
    "weights",
    "download",
    "activations",
    "datasets",
    "store",
    "logs",
    "benchmarks",
    "dataset",
    "embed",
    "embed_shard",
    "train",
    "train_part",
    "ablate",
    "ablate_part",
    "score",
    "evaluate",
    "probe_embeddings",
    "collect",
    "table",
    "claims",
    "gallery",
    "plot",
    "page",
}


@functools.cache
def artifacts():
    """{name: specification} of workflow/resources/artifacts.yaml."""
    return yaml.safe_load((HERE / "resources/artifacts.yaml").read_text())


@functools.cache
def _schema():
    return yaml.safe_load((HERE / "schemas/config.schema.yaml").read_text())


def check(config):
    """Check the configuration.

    Raises:
        UserError: the message names every wrong key and the values it may take.
    """
    problems = [_explain(e) for e in jsonschema.Draft202012Validator(_schema()).iter_errors(config)]
    if not problems:
        problems = [f"config key {key}: {text}" for key, text in _cross_checks(config)]
    if problems:
        raise UserError("\n".join(["config.yaml is not right:", *problems]))


def _explain(error):
    where = ".".join(str(p) for p in error.absolute_path) or "(top level)"
    hint = ""
    if error.validator == "additionalProperties":
        hint = f"; allowed: {', '.join(sorted(error.schema['properties']))}"
    elif error.validator == "type" and isinstance(error.instance, str) and "number" in str(error.validator_value):
        hint = " (write 0.001 or 1.0e-3: YAML reads 1e-3 as text)"
    return f"config key {where}: {error.message}{hint}"


def _cross_checks(config):
    for name, spec in config["datasets"].items():
        yield from _known(f"datasets.{name}.type", [spec["type"]], registry.names(DATASETS))
        yield from _known(f"datasets.{name}.artifacts", artifact_names(spec), artifacts())
        for part in ("train", "test"):
            if spec["type"] == "torchvision" and "download" in spec[part]:
                yield f"datasets.{name}.{part}.download", "set `download` of the entry instead: jobs do not download"
        shares = sum(spec.get("fractions", {"train": 1.0}).values())
        if abs(shares - 1) > 1e-9:
            yield f"datasets.{name}.fractions", f"they sum to {shares:g}; they must sum to 1"
    for name, spec in config["backbones"].items():
        yield from _known(f"backbones.{name}.loader", [spec["loader"]], registry.names(LOADERS))
        yield from _known(f"backbones.{name}.artifacts", artifact_names(spec), artifacts())
        if spec["model"].startswith("hf-hub:") and "checkpoint" in spec:
            yield f"backbones.{name}.checkpoint", "`hf-hub:` names the weights too; leave it out, or change `model`"
    for name, spec in config["experiments"].items():
        key = f"experiments.{name}"
        if name in RESERVED:
            yield key, "this name is taken by a rule or folder; choose another"
        yield from _known(f"{key}.datasets", spec["datasets"], config["datasets"])
        yield from _known(f"{key}.backbones", spec["backbones"], config["backbones"])
        yield from _check_sources(key, config, spec)
        yield from _known(f"{key}.training", [spec["training"]], config["training"])
        yield from _known(f"{key}.lambdas", spec["lambdas"], registry.names(REGULARIZERS))
        for part, value in spec.get("gallery", {}).items():
            yield from _known(f"{key}.gallery.{part}", [value], spec[part if part == "k" else f"{part}s"])
        shown = config["datasets"].get(spec.get("gallery", {}).get("dataset"), {})
        if shown.get("type") == "table":
            yield f"{key}.gallery.dataset", "it holds embeddings alone, without images to show"
        m = config["training"].get(spec["training"], {}).get("m")
        for k in spec["k"]:
            if m is not None and k > m:
                yield f"{key}.k", f"k = {k} is larger than m = {m} of training.{spec['training']}; allowed: 1 to {m}"
        for regularizer, grid in spec["lambdas"].items():
            yield from _check_grid(f"{key}.lambdas.{regularizer}", grid, [f"k{k}" for k in spec["k"]])


def _known(key, names, allowed):
    for name in names:
        if name not in allowed:
            yield key, f"{name!r} is not known; allowed: {', '.join(sorted(map(str, allowed)))}"


def _check_sources(key, config, spec):
    """Embeddings that are given belong to a table, and a table has nothing else."""
    for dataset in spec["datasets"]:
        for backbone in spec["backbones"]:
            kind = config["datasets"].get(dataset, {}).get("type")
            loader = config["backbones"].get(backbone, {}).get("loader")
            if kind and loader and (kind == "table") != (loader == "precomputed"):
                why = "embeddings of type `table` need the loader `precomputed`, and images another one"
                pair = f"dataset {dataset} (type {kind}) and backbone {backbone} (loader {loader})"
                yield key, f"{pair} do not go together: {why}"


def _check_grid(key, grid, ks):
    lists = {key: grid}
    if isinstance(grid, dict):
        yield from _known(key, grid, ks)
        missing = [k for k in ks if k not in grid]
        if missing:
            yield key, f"no grid for {', '.join(missing)}"
        lists = {f"{key}.{k}": values for k, values in grid.items()}
    for where, values in lists.items():
        seen = [format_lambda(v) for v in values]
        twice = sorted({s for s in seen if seen.count(s) > 1})
        if twice:
            yield where, f"two values are both written {twice[0]} in paths; leave one out or set them further apart"


def banks(config, experiment):
    """Every (dataset, backbone, k) of an experiment, as dicts, in the order of the config."""
    spec = config["experiments"][experiment]
    return [
        {"dataset": dataset, "backbone": backbone, "k": k}
        for dataset in spec["datasets"]
        for backbone in spec["backbones"]
        for k in spec["k"]
    ]


def bank_plan(config, experiment, dataset, backbone, k):
    """The settings of `python -m sae train` for one bank."""
    spec = config["experiments"][experiment]
    grids = {r: grid[f"k{k}"] if isinstance(grid, dict) else grid for r, grid in spec["lambdas"].items()}
    return {
        "dataset": dataset,
        "backbone": backbone,
        "k": k,
        "seeds": spec["seeds"],
        "mask": "batch_active",
        "lambdas": {r: sorted(float(v) for v in grid) for r, grid in grids.items()},
        "training": config["training"][spec["training"]],
    }


def parts(config, saes):
    """How many jobs train the SAEs of a bank, beside the bank's own; 0: that one does."""
    limit = config["compute"]["saes_per_job"]
    return 0 if limit is None or saes <= limit else -(-saes // limit)


def evaluation_plan(config, experiment):
    """The settings of `python -m sae evaluate`: K of the probes is the experiment's smallest k."""
    return {"largest": min(config["experiments"][experiment]["k"])} | probe_plan(config, experiment)


def probe_plan(config, experiment):
    """The settings of `python -m sae probe`; an experiment may have its own."""
    return {"probe": config["probe"] | config["experiments"][experiment].get("probe", {})}


def judges(config, experiment, backbone):
    """The backbones whose embeddings judge the latents of another one's SAEs: the experiment's others."""
    return [b for b in config["experiments"][experiment]["backbones"] if b != backbone]


def gallery(config, experiment):
    """The cell that the galleries show: by default the first dataset with images, the first backbone, the smallest k.

    None where the experiment has embeddings alone, and so no galleries.
    """
    spec = config["experiments"][experiment]
    pictured = [d for d in spec["datasets"] if config["datasets"][d]["type"] != "table"]
    if not pictured:
        return None
    return {"dataset": pictured[0], "backbone": spec["backbones"][0], "k": min(spec["k"])} | spec.get("gallery", {})


def figures(config, experiment):
    """The figures that an experiment ends in."""
    shown = gallery(config, experiment) is not None
    return [name for name, figure in FIGURES.items() if shown or not figure.needs_images]


def report_plan(config, experiment):
    """What the report says of the settings: the parts of the config that the experiment uses."""
    spec = config["experiments"][experiment]
    used = {"experiment": spec, "training": config["training"][spec["training"]]}
    for kind in ("datasets", "backbones"):
        used[kind] = {name: config[kind][name] for name in spec[kind]}
    used |= probe_plan(config, experiment) | {"claims": config["claims"]}
    # Of the machine only what decides on bits: the rest is where and how fast.
    used["compute"] = {key: config["compute"][key] for key in ("device", "threads", "embed_batch_size")}
    return {"experiment": experiment, "figures": figures(config, experiment), "config": used}


def embed_plan(config, backbone):
    """The settings of `python -m sae embed`."""
    return {
        "name": backbone,
        "backbone": config["backbones"][backbone],
        "batch_size": config["compute"]["embed_batch_size"],
    }


def weights_paths(spec):
    """{key: path} of the weights that a backbone's entry says are local; `pretrained` may be a tag instead."""
    paths = {key: spec[key] for key in ("checkpoint", "pretrained") if key in spec}
    tag = paths.get("pretrained", "/")
    if "/" not in tag and Path(tag).suffix not in WEIGHTS and not Path(tag).exists():
        del paths["pretrained"]
    return paths


def from_hub(config, backbone):
    """Whether a backbone's weights come by name from the Hugging Face hub or its cache."""
    spec = config["backbones"][backbone]
    return spec["loader"] in HUB_LOADERS and not artifact_names(spec) and not weights_paths(spec)


def weights_plan(config, backbone):
    """The settings of `python -m sae weights`: what of a backbone's entry says which weights they are."""
    return {key: value for key, value in config["backbones"][backbone].items() if key in NAMES_WEIGHTS}


def local_weights(config, backbone):
    """Files on this machine that a backbone's embeddings are made of."""
    named = [Path(f) for f in weights_paths(config["backbones"][backbone]).values() if f and Path(f).exists()]
    return [str(file) for path in named for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def downloads(config, dataset):
    """Whether a dataset is to be downloaded by its type's own function."""
    return bool(config["datasets"][dataset].get("download"))


def given_embeddings(config, dataset, backbone):
    """The files of a dataset's embeddings that are given, not made (loader `precomputed`)."""
    spec = config["backbones"][backbone]
    if spec["loader"] != "precomputed":
        return []
    return [f"{config['datasets'][dataset]['root']}/{spec['model']}/{split}.npy" for split in SPLITS]


def tables(config, dataset):
    """The files of a dataset of type `table`, which its index is made of."""
    spec = config["datasets"][dataset]
    return [f"{spec['root']}/{split}.csv" for split in SPLITS] if spec["type"] == "table" else []


def dataset_module(config, dataset):
    """The module of a dataset's type."""
    return registry.module(DATASETS, config["datasets"][dataset]["type"])


def backbone_module(config, backbone):
    """The module of a backbone's loader."""
    return registry.module(LOADERS, config["backbones"][backbone]["loader"])


def regularizer_modules(config, experiment):
    """The modules of an experiment's regularizers."""
    return [registry.module(REGULARIZERS, r) for r in config["experiments"][experiment]["lambdas"]]
