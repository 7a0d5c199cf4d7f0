"""From the config to the settings of each job: plain JSON that holds what the job reads and nothing else."""

import functools
import os
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from sae.config import load as configuration
from sae.config.models import Config, Method
from sae.core import registry
from sae.core.codehash import code_hash
from sae.core.paths import EMBEDDINGS_MANIFEST, STAGES
from sae.data.artifacts import names as artifact_names

HERE = Path(__file__).parent.parent
Plan = dict[str, Any]
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".tar")  # suffixes of a file of weights
NAMES_WEIGHTS = ("loader", "model", "pretrained")


@functools.cache
def artifacts() -> dict[str, Any]:
    """{name: specification} of workflow/resources/artifacts.yaml."""
    return yaml.safe_load((HERE / "resources/artifacts.yaml").read_text())


@functools.cache
def rule_names() -> list[str]:
    """The names of the rules, which no experiment can have too."""
    text = "\n".join(file.read_text() for file in sorted((HERE / "rules").glob("*.smk")))
    return re.findall(r"^(?:rule|checkpoint|use rule \w+ as) (\w+)", text, re.MULTILINE)


def load(raw: dict[str, Any]) -> Config:
    """`sae.config.load` with what the workflow knows of artifacts and rules."""
    return configuration.load(raw, artifacts=artifacts(), reserved=rule_names())


def read(path: str | Path) -> Config:
    """The config in a file; see :func:`load`."""
    return load(configuration.parse(path))


def check_files(*files: str | Path) -> None:
    """Refuse what Snakemake, which reads these files too, passes over or says less plainly: see `parse` there."""
    for file in dict.fromkeys(os.path.relpath(file) for file in files if Path(file).exists()):
        configuration.parse(file)


def shell_prefix(config: Config) -> str:
    """What tells the shell of every job where the entries of one's own lie."""
    return f"export SAE_EXTENSIONS={shlex.quote(config.extensions)}; " if config.extensions else ""


def banks(config: Config, experiment: str) -> list[dict[str, Any]]:
    """Every (dataset, backbone, k) of an experiment, as dicts, in the order of the config."""
    spec = config.experiments[experiment]
    return [{"dataset": d, "backbone": b, "k": k} for d in spec.datasets for b in spec.backbones for k in spec.k]


def embedded(config: Config, experiment: str) -> list[dict[str, Any]]:
    """Every (dataset, backbone) of which an experiment reads embeddings, those of judges among them."""
    spec = config.experiments[experiment]
    return [{"dataset": d, "backbone": b} for d in spec.datasets for b in spec.embedding]


def bank_plan(config: Config, experiment: str, dataset: str, backbone: str, k: int) -> Plan:
    """All that decides what a bank's SAEs are (`sae.bank.plan`), complete with defaults.

    Returns:
        {dataset, backbone, k, seeds, recipe, methods: {name: {objective, penalty, mask, lambda, options, recipe, sweep,
        at, against, control}}, fair}. `lambda` is null where it is swept; sweeps are in ascending order.
    """
    spec = config.experiments[experiment]
    alien = {*imported(config, experiment)} - {*imported(config, experiment, (dataset, backbone, k))}
    return {
        "dataset": dataset,
        "backbone": backbone,
        "k": k,
        "seeds": spec.seeds,
        "recipe": config.training[spec.training].model_dump(),
        "methods": {n: _method_plan(config, experiment, n, k) for n in spec.methods if n not in alien},
        "fair": _fair_plan(config, experiment, dataset, k),
    }


def _fair_plan(config: Config, experiment: str, dataset: str, k: int) -> Plan | None:
    """What protocol `fair` trains in a bank; None where the experiment does without it."""
    tuning, rule = config.experiments[experiment].fair, config.fair
    if tuning is None:
        return None
    lr = tuning.lr or rule.lr
    common, methods = {"lr": lr, "encoder_scale": rule.encoder_scale}, tuned(config, experiment)
    steps = None
    if tuning.most_steps:
        # The middles of the range's thirds, in the logarithm.
        tried = [float(f"{lr[0] * (lr[1] / lr[0]) ** (third / 6):.3g}") for third in (1, 3, 5)]
        steps = rule.steps.model_dump() | {"most": tuning.most_steps[dataset], "lr": tried}
    return {
        "trials": tuning.trials,
        "design_seed": rule.design_seed,
        "ranges": {name: common | tuning.ranges_at(name, k) for name in methods},
        "baseline": next(name for name, against in methods.items() if against is None),
        "steps": steps,
        "seeds": rule.seeds.model_dump(),
        "shortlist": rule.shortlist,
        "tolerances": rule.tolerances,
    }


def tuned(config: Config, experiment: str) -> dict[str, str | None]:
    """{method: the one it is `against`}, of those that protocol `fair` tunes."""
    methods = {name: config.methods[name] for name in config.experiments[experiment].methods}
    return {name: method.against for name, method in methods.items() if method.tuned}


def _method_plan(config: Config, experiment: str, name: str, k: int) -> Plan:
    method, sweep = config.methods[name], config.sweep(experiment, name, k)
    return {
        "objective": method.objective,
        "penalty": method.penalty,
        "mask": method.mask,
        "lambda": None if "lambda" in sweep else method.lam,
        "options": method.options,
        "recipe": method.recipe,
        "sweep": sweep,
        "at": method.at,
        "against": method.against,
        "control": method.control,
    }


def methods_of(plan: Plan, bank: str) -> Plan:
    """The part of a bank's plan that one of its files is made by; `bank` is its stem, such as 'bank_chosen'."""
    methods, fair = plan["methods"], plan["fair"]
    kept = _trained(plan, bank)
    if bank == "bank_chosen":
        kept |= {methods[name]["at"] for name in kept} - {None}
    if fair:
        # What is asked of a later round changes no earlier one.
        used = ["baseline", "steps"] + ([] if bank == "bank_lengths" else ["trials", "design_seed", "ranges"])
        seeds = ["tuning", *{"bank_shortlist": ["shortlist"], "bank_chosen": ["shortlist", "fresh"]}.get(bank, [])]
        fair = {key: fair[key] for key in used} | {"seeds": {key: fair["seeds"][key] for key in seeds}}
    return plan | {"methods": {name: spec for name, spec in methods.items() if name in kept}, "fair": fair}


def _trained(plan: Plan, bank: str) -> set[str]:
    """The methods whose SAEs one of a bank's files holds."""
    at = {name for name, spec in plan["methods"].items() if spec["at"]}
    fair = plan["fair"]
    return {
        "bank": plan["methods"].keys() - at,
        "bank_lengths": {fair["baseline"]} if fair else set(),
        "bank_shortlist": set(fair["ranges"]) if fair else set(),
        "bank_chosen": at | (set(fair["ranges"]) if fair else set()),
    }[bank]


def imported(config: Config, experiment: str, cell: tuple[str, str, int] | None = None) -> list[str]:
    """The methods of an experiment, or of a cell of it (dataset, backbone, k), whose SAEs were made elsewhere."""
    given = {name: config.methods[name].imported for name in config.experiments[experiment].methods}
    here = {name: of for name, of in given.items() if of}
    if cell:
        here = {name: of for name, of in here.items() if of.belongs_to(*cell)}
    return list(here)


def import_plan(config: Config, method: str) -> Plan:
    """The options of `python -m sae import` that bring in the SAE of a method."""
    given = config.methods[method].imported
    assert given is not None
    return given.model_dump(exclude_none=True, exclude={"dataset", "backbone"})


def import_options(config: Config, method: str) -> str:
    """The same, as they stand on its command line."""
    options = import_plan(config, method)
    place = options.pop("place")
    return shlex.join([place, *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())])


def import_files(config: Config, method: str) -> list[str]:
    """The local files that an imported SAE is read from; none of a repository of the hub."""
    place = Path(import_plan(config, method)["place"])
    if place.is_dir():
        return sorted(str(file) for file in place.iterdir() if file.is_file())
    beside = [place.with_name(name) for name in ("cfg.json", "config.json", "made_by.json", "b_dec.npy")]
    return [str(file) for file in (place, *beside) if file.exists()] if place.exists() else []


def import_modules() -> list[str]:
    """The modules that bring in SAEs of any format."""
    return ["sae.models.convert", *(registry.module("importer", name) for name in registry.names("importer"))]


def training_modules(plan: Plan, bank: str) -> list[str]:
    """The modules of the objectives and penalties that train the SAEs of one of a bank's files."""
    specs = [plan["methods"][name] for name in _trained(plan, bank)]
    used = {(kind, spec[kind]) for spec in specs for kind in ("objective", "penalty") if spec[kind]}
    return ["sae.training.loop", *(registry.module(kind, name) for kind, name in sorted(used))]


def is_fair(config: Config, experiment: str) -> bool:
    """Whether an experiment is compared by protocol `fair` too."""
    return config.experiments[experiment].fair is not None


def finds_steps(config: Config, experiment: str) -> bool:
    """Whether protocol `fair` looks for the number of steps of each cell; else every method sets its own."""
    tuning = config.experiments[experiment].fair
    return tuning is not None and tuning.most_steps is not None


def has_chosen(config: Config, experiment: str) -> bool:
    """Whether SAEs are trained after the selection: methods `at` the choice of another one, or candidates of `fair`."""
    methods = config.experiments[experiment].methods
    return is_fair(config, experiment) or any(config.methods[name].at for name in methods)


def parts(config: Config, plan: Plan, bank: str) -> int:
    """How many jobs train the SAEs of one of a bank's files, beside the file's own; 0: that one does."""
    from sae.bank.plan import count

    saes, limit = count(plan).get(bank, 0), config.compute.saes_per_job
    return 0 if limit is None or saes <= limit else -(-saes // limit)


def selection_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae select`: of each method with trials of its own, the options that it sweeps."""
    spec = config.experiments[experiment]
    own = {name: config.methods[name] for name in spec.methods if not config.methods[name].at}
    swept = {name: sorted({*method.sweep, *spec.sweep.get(name, {})}) for name, method in own.items()}
    methods = {name: {"against": method.against, "sweep": swept[name]} for name, method in own.items()}
    fair = None
    if spec.fair:
        fair = config.fair.model_dump(include={"seeds", "shortlist", "near", "tolerances", "l0", "firing"})
        fair |= {"trials": spec.fair.trials, "methods": tuned(config, experiment)}
    return {"methods": methods, "fair": fair}


def selecting_modules(config: Config, experiment: str) -> list[str]:
    """The modules of the metrics that selection reads."""
    names: tuple[str, ...] = ("reconstruction",)
    if is_fair(config, experiment):
        from sae.scoring import fair  # Loads pandas, which every start of Snakemake would pay for.

        names = fair.METRICS
    return [registry.module("metric", name) for name in names]


def shortlist_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae shortlist`: of :func:`selection_plan` what it reads."""
    fair = selection_plan(config, experiment)["fair"] or {}
    return {"fair": {name: fair[name] for name in ("trials", "methods", "shortlist", "near") if name in fair}}


def stages(config: Config, experiment: str) -> dict[str, dict[str, Plan]]:
    """{stage: {metric: all its options}}, without stages that have nothing to do.

    SAEs that are trained after the selection get the metrics of `score` in `score_chosen`.
    """
    spec = config.experiments[experiment]
    found: dict[str, dict[str, Plan]] = {stage: {} for stage in STAGES}
    for name, metric in config.metrics.items():
        if metric.optional and name not in spec.metrics:
            continue
        options = metric.options(spec.metrics.get(name, {}))
        if name == "probe" and options["largest"] is None:
            options["largest"] = min(spec.k)
        if name == "independent" and options["families"] is None:
            options["families"] = {b: config.backbones[b].family for b in spec.embedding}
        found[metric.constants["STAGE"]][name] = options
    if has_chosen(config, experiment):
        found["score_chosen"] = found["score"] | found["score_chosen"]
    return {stage: metrics for stage, metrics in found.items() if metrics}


def stage_plan(config: Config, experiment: str, stage: str) -> Plan:
    """The settings of `python -m sae score` for one stage."""
    return {"metrics": stages(config, experiment).get(stage, {})}


def metric_modules(config: Config, experiment: str, stage: str) -> list[str]:
    """The modules of a stage's metrics."""
    return [registry.module("metric", name) for name in stages(config, experiment).get(stage, {})]


def probe_plan(config: Config, experiment: str) -> Plan:
    """The options of the metric `probe`, with which `python -m sae probe` probes the embeddings themselves."""
    return stages(config, experiment).get("probe", {}).get("probe", {})


def others(config: Config, experiment: str, backbone: str) -> list[str]:
    """The experiment's other backbones and its judges, whose embeddings judge the latents of this one's SAEs."""
    return [b for b in config.experiments[experiment].embedding if b != backbone]


def gallery(config: Config, experiment: str) -> dict[str, Any] | None:
    """The cell that the galleries show: by default the first dataset with images, the first backbone, the smallest k.

    None where the experiment has embeddings alone, and so no galleries.
    """
    spec = config.experiments[experiment]
    pictured = [d for d in spec.datasets if config.datasets[d].has_images]
    if not pictured:
        return None
    default = {"dataset": pictured[0], "backbone": spec.backbones[0], "k": min(spec.k)}
    return default | spec.gallery.model_dump(exclude_none=True)


def figures(config: Config, experiment: str) -> list[str]:
    """The figures that an experiment ends in: none of images, protocol `fair` or known concepts where it has none."""
    loaders = {config.backbones[name].spec["loader"] for name in config.experiments[experiment].backbones}
    there = {
        "images": gallery(config, experiment) is not None,
        "fair": is_fair(config, experiment),
        "concepts": loaders == {"generated"} and "recovery" in config.metrics,
    }
    return [name for name in config.figures if all(there[need] for need in _needs(name))]


def _needs(figure: str) -> list[str]:
    constants = registry.head("figure", figure).constants
    needs = {
        "images": any(file.startswith("gallery/") for file in constants.get("READS", ())),
        "fair": constants.get("NEEDS_FAIR", False),
        "concepts": constants.get("NEEDS_CONCEPTS", False),
    }
    return [need for need, needed in needs.items() if needed]


def names(config: Config, experiment: str) -> Plan:
    """How an experiment's methods, datasets and backbones are printed (`sae.report.names`).

    A method's looks follow from its place among the experiment's methods: others of the config change nothing here.
    """
    spec = config.experiments[experiment]
    used = {name: config.methods[name] for name in spec.methods}
    return {
        "methods": {
            name: {
                "label": method.label or name,
                "colour": method.colour,
                "at": method.at,
                "against": method.against,
                "control": method.control,
                "imported": method.imported is not None,
                "position": position,
            }
            for position, (name, method) in enumerate(used.items())
        },
        "datasets": {name: config.datasets[name].label or name for name in spec.datasets},
        "backbones": {name: config.backbones[name].label or name for name in spec.embedding},
    }


def roles(config: Config, experiment: str) -> Plan:
    """Of the same what decides which methods are shown, and nothing that is only printed."""
    methods = names(config, experiment)["methods"]
    kept = ("at", "against", "control", "imported", "position")
    return {"methods": {name: {key: method[key] for key in kept} for name, method in methods.items()}}


def claims_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae claims`."""
    return names(config, experiment) | {"claims": config.claims.model_dump()}


def board_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae compare`: beside names and claims all that a comparison under `fair` rests on."""
    spec = config.experiments[experiment]
    assert spec.fair is not None
    protocol: Plan = {"fair": config.fair.model_dump(), "training": config.training[spec.training].model_dump()}
    protocol |= spec.fair.model_dump(include={"trials", "lr"})
    protocol["code of the rule"] = code_hash("sae.scoring.fair", "sae.bank.plan")
    protocol["baselines"] = {
        name: _method_plan(config, experiment, name, min(spec.k)) | {"sweep": None}
        for name, against in tuned(config, experiment).items()
        if against is None
    }
    # SAEs that were made elsewhere may belong to one cell alone.
    ours = [name for name in spec.methods if not config.methods[name].imported]
    definitions = {name: _definition(config, experiment, name) for name in ours}
    used: Plan = {}
    for metrics in stages(config, experiment).values():
        used |= metrics
    code = {name: code_hash(registry.module("metric", name)) for name in used}
    places = {"{dataset}/{backbone}".format(**e): e for e in embedded(config, experiment)}
    return claims_plan(config, experiment) | {
        "protocol": protocol,
        "definitions": definitions,
        "elsewhere": {
            name: {"objective": m.objective, "penalty": m.penalty, "options": m.options, "code": _code(m)}
            for name, m in (config.methods.items() if spec.fair.join or spec.fair.cells else ())
            if name not in spec.methods and not m.imported
        },
        "metrics": {name: {"code": code[name], "options": options} for name, options in used.items()},
        "most_steps": spec.fair.most_steps or {},
        "tolerance": max(config.fair.tolerances),
        "manifests": {name: EMBEDDINGS_MANIFEST.format(**place, split="test") for name, place in places.items()},
    }


def _definition(config: Config, experiment: str, name: str) -> Plan:
    """What a method is and how it is tuned, so that two runs can say whether it is the same."""
    spec, method = config.experiments[experiment], config.methods[name]
    assert spec.fair is not None
    definition = _method_plan(config, experiment, name, min(spec.k)) | {"sweep": None}
    return definition | {"ranges": spec.fair.ranges.get(name), "code": _code(method)}


def _code(method: Method) -> str:
    """The hash of what trains a method."""
    entries = (("objective", method.objective), ("penalty", method.penalty))
    return code_hash("sae.training.loop", *(registry.module(kind, entry) for kind, entry in entries if entry))


def joined(config: Config, experiment: str) -> list[str]:
    """The stored leaderboard that an experiment joins, or nothing."""
    tuning = config.experiments[experiment].fair
    return [tuning.join] if tuning and tuning.join else []


def other_cells(config: Config, experiment: str) -> list[str]:
    """The leaderboards whose cells an experiment counts beside its own."""
    tuning = config.experiments[experiment].fair
    return tuning.cells if tuning else []


def report_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae report`; `config` is the part that the experiment uses."""
    spec = config.experiments[experiment]
    used: Plan = {"experiment": spec.model_dump(exclude_defaults=True)}
    methods = {
        name: config.methods[name].model_dump(by_alias=True, exclude={"label", "colour", "extends"})
        for name in spec.methods
    }
    used["methods"] = {name: {key: v for key, v in m.items() if v not in (None, {})} for name, m in methods.items()}
    used["training"] = config.training[spec.training].model_dump()
    used["datasets"] = {name: dataset_spec(config, name) for name in spec.datasets}
    used["backbones"] = {name: backbone_spec(config, name) for name in spec.embedding}
    used["metrics"] = {
        name: options for stage in stages(config, experiment).values() for name, options in stage.items()
    }
    used["claims"] = config.claims.model_dump()
    used |= {"fair": config.fair.model_dump()} if spec.fair else {}
    # Of the machine only what decides on bits: the rest is where and how fast.
    used["compute"] = config.compute.model_dump(include={"device", "threads", "embed_batch_size"})
    return names(config, experiment) | {
        "experiment": experiment,
        "figures": figures(config, experiment),
        "fair": is_fair(config, experiment),
        "config": used,
    }


def dataset_spec(config: Config, dataset: str) -> Plan:
    """The mapping of a dataset that its jobs get."""
    return config.datasets[dataset].spec


def backbone_spec(config: Config, backbone: str) -> Plan:
    """The mapping of a backbone that its jobs get."""
    return config.backbones[backbone].spec


def embed_plan(config: Config, backbone: str) -> Plan:
    """The settings of `python -m sae embed`."""
    batch_size = config.compute.embed_batch_size
    return {"name": backbone, "backbone": backbone_spec(config, backbone), "batch_size": batch_size}


def weights_paths(spec: Plan) -> dict[str, str]:
    """{key: path} of the weights that a backbone's entry says are local; `pretrained` may be a tag instead."""
    paths = {key: spec[key] for key in ("checkpoint", "pretrained") if spec.get(key)}
    tag = paths.get("pretrained", "/")
    if "/" not in tag and Path(tag).suffix not in WEIGHTS and not Path(tag).exists():
        del paths["pretrained"]
    return paths


def from_hub(config: Config, backbone: str) -> bool:
    """Whether a backbone's weights come by name from the Hugging Face hub or its cache."""
    entry = config.backbones[backbone]
    return entry.constants.get("FROM_HUB", False) and not artifact_names(entry.spec) and not weights_paths(entry.spec)


def weights_plan(config: Config, backbone: str) -> Plan:
    """The settings of `python -m sae weights`: what of a backbone's entry says which weights they are."""
    return {key: value for key, value in backbone_spec(config, backbone).items() if key in NAMES_WEIGHTS}


def local_weights(config: Config, backbone: str) -> list[str]:
    """Files on this machine that a backbone's embeddings are made of."""
    named = [Path(file) for file in weights_paths(backbone_spec(config, backbone)).values() if Path(file).exists()]
    return [str(file) for path in named for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def downloads(config: Config, dataset: str) -> bool:
    """Whether a dataset is to be downloaded by its type's own function."""
    return bool(dataset_spec(config, dataset).get("download"))


def dataset_files(config: Config, dataset: str) -> list[str]:
    """The files that a dataset's index is made of, where its type names them."""
    entry = config.datasets[dataset]
    return [pattern.format(**entry.spec) for pattern in entry.constants.get("FILES", ())]


def given_embeddings(config: Config, dataset: str, backbone: str) -> list[str]:
    """The files of a dataset's embeddings that are given, not made."""
    both, entry = dataset_spec(config, dataset) | backbone_spec(config, backbone), config.backbones[backbone]
    return [pattern.format(**both) for pattern in entry.constants.get("FILES", ())]


def dataset_module(config: Config, dataset: str) -> str:
    """The module of a dataset's type."""
    return registry.module("dataset", config.datasets[dataset].type)


def backbone_module(config: Config, backbone: str) -> str:
    """The module of a backbone's loader."""
    return registry.module("backbone", config.backbones[backbone].loader)
