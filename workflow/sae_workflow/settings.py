"""From the config to the settings of each job: plain JSON that holds what the job reads and nothing else."""

import functools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sae.bank import plan as bank
from sae.config import entries
from sae.config.load import load_config
from sae.config.models import NO_OPTIONS, Config
from sae.config.yaml_file import parse_file
from sae.core import registry, versions
from sae.core.options import as_record, from_record
from sae.core.paths import STAGES
from sae.data.artifacts import names as artifact_names

HERE = Path(__file__).parent.parent
Plan = dict[str, Any]
WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".tar",
)  # suffixes of a file of weights


@functools.cache
def artifacts() -> dict[str, Any]:
    """{name: specification} of workflow/resources/artifacts.yaml."""
    return yaml.safe_load((HERE / "resources/artifacts.yaml").read_text())


def rule_names() -> list[str]:
    """The names of the rules, which no experiment can have too."""
    text = "\n".join(
        file.read_text() for file in sorted((HERE / "rules").glob("*.smk"))
    )
    return re.findall(r"^(?:rule|checkpoint|use rule \w+ as) (\w+)", text, re.MULTILINE)


def load(raw: dict[str, Any], files: Mapping[str, str] = {}) -> Config:
    """`sae.config.load` with what the workflow knows of artifacts and rules."""
    return load_config(raw, artifacts=artifacts(), reserved=rule_names(), files=files)


def read(*files: str | Path) -> Config:
    """The config in some files, each laid over those before it; see :func:`load`."""
    return load(*merged(*files))


def merged(*files: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Config files as Snakemake lays them over each other, and {key: the file that says it} if they are several.

    Raises:
        UserError: one of them cannot be read; says more than Snakemake itself does.
    """
    from snakemake.utils import update_config  # Here: most commands read one file.

    config: dict[str, Any] = {}
    said: dict[str, str] = {}
    for file in map(os.path.relpath, files):
        content = parse_file(file)
        update_config(config, content)
        said |= dict.fromkeys(_keys(content), file)
    there = {
        *_keys(config)
    }  # Below what a later file replaced, none of an earlier one is.
    return config, {key: file for key, file in said.items() if key in there} if len(
        {*said.values()}
    ) > 1 else {}


def _keys(content: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in content.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{above}{name}.")


def shell_prefix(config: Config) -> str:
    """What tells the shell of every job where the entries of one's own lie."""
    return (
        f"export SAE_EXTENSIONS={shlex.quote(config.extensions)}; "
        if config.extensions
        else ""
    )


def banks(config: Config, experiment: str) -> list[dict[str, Any]]:
    """Every (dataset, backbone, k) of an experiment, as dicts, in the order of the config."""
    spec = config.experiments[experiment]
    return [
        {"dataset": d, "backbone": b, "k": k}
        for d in spec.datasets
        for b in spec.backbones
        for k in spec.k_of(d)
    ]


def embedded(config: Config, experiment: str) -> list[dict[str, Any]]:
    """Every (dataset, backbone) of which an experiment reads embeddings, those of judges among them."""
    spec = config.experiments[experiment]
    return [
        {"dataset": d, "backbone": b} for d in spec.datasets for b in spec.embedding
    ]


def bank_plan(
    config: Config, experiment: str, dataset: str, backbone: str, k: int
) -> bank.Plan:
    """All that decides what a cell's SAEs are, complete with defaults; sweeps are in ascending order."""
    spec = config.experiments[experiment]
    alien = {*imported(config, experiment)} - {
        *imported(config, experiment, (dataset, backbone, k))
    }
    methods = {
        n: _method_plan(config, experiment, n, k)
        for n in spec.methods
        if n not in alien
    }
    return bank.Plan(
        dataset=dataset,
        backbone=backbone,
        k=k,
        seeds=spec.seeds,
        recipe=as_record(config.recipe(experiment, dataset)),
        methods=methods,
        protocols={
            name: config.protocols[name].options(own)
            for name, own in spec.protocols.items()
        },
        metrics={
            n: _metric_plan(config, experiment, n)
            for n in read_by(spec.protocols)
            if n in config.metrics
        },
    )


def _method_plan(
    config: Config, experiment: str, name: str, k: int
) -> bank.PlannedMethod:
    method, sweep = config.methods[name], config.sweep(experiment, name, k)
    as_said = (
        "objective",
        "penalty",
        "mask",
        "options",
        "recipe",
        "at",
        "against",
        "control",
    )
    own: dict[str, Any] = {field: getattr(method, field) for field in as_said}
    own["lambda"] = None if "lambda" in sweep else method.lam
    return bank.PlannedMethod(**own, sweep=sweep)


def imported(
    config: Config, experiment: str, cell: tuple[str, str, int] | None = None
) -> list[str]:
    """The methods of an experiment, or of a cell of it (dataset, backbone, k), whose SAEs were made elsewhere."""
    given = {
        name: config.methods[name].imported
        for name in config.experiments[experiment].methods
    }
    return [
        name
        for name, of in given.items()
        if of and (cell is None or of.belongs_to(*cell))
    ]


def import_plan(config: Config, method: str) -> Plan:
    """The options of `python -m sae import` that bring in the SAE of a method."""
    given = config.methods[method].imported
    assert given is not None
    return given.model_dump(exclude_none=True, exclude={"dataset", "backbone"})


def import_options(config: Config, method: str) -> str:
    """The same, as they stand on its command line."""
    options = import_plan(config, method)
    place = options.pop("place")
    return shlex.join(
        [
            place,
            *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()),
        ]
    )


def import_files(config: Config, method: str) -> list[str]:
    """The local files that an imported SAE is read from; none of a repository of the hub."""
    place = Path(import_plan(config, method)["place"])
    if place.is_dir():
        return sorted(str(file) for file in place.iterdir() if file.is_file())
    beside = [
        place.with_name(name)
        for name in ("cfg.json", "config.json", "made_by.json", "b_dec.npy")
    ]
    return (
        [str(file) for file in (place, *beside) if file.exists()]
        if place.exists()
        else []
    )


def training(plan: bank.Plan) -> list[versions.Name]:
    """What decides a cell's SAEs, and which of them are chosen."""
    used = {("objective", m.objective) for m in plan.methods.values()}
    used |= {("penalty", m.penalty) for m in plan.methods.values() if m.penalty}
    used |= {("protocol", name) for name in plan.protocols}
    used |= {("metric", name) for name in read_by(plan.protocols)}
    rooms = [
        ("models", "inputs"),
        ("protocols", "_cell"),
        ("training", "loop"),
        ("training", "calibrate"),
    ]
    return [*rooms, *sorted(used)]


def stages(config: Config, experiment: str) -> dict[str, dict[str, Plan]]:
    """{stage: {metric: all its options}}, without stages that have nothing to do."""
    spec = config.experiments[experiment]
    found: dict[str, dict[str, Plan]] = {stage: {} for stage in STAGES}
    for name, metric in config.metrics.items():
        if not metric.optional or name in spec.metrics:
            found[metric.constants["STAGE"]][name] = _metric_plan(
                config, experiment, name
            )
    return {stage: metrics for stage, metrics in found.items() if metrics}


def _metric_plan(config: Config, experiment: str, name: str) -> Plan:
    spec = config.experiments[experiment]
    metric = config.metrics[name].laid_over(spec.metrics.get(name, {}))
    facts = {
        "smallest_k": min(spec.every_k),
        "families": {b: config.backbones[b].family for b in spec.embedding},
    }
    filled = {
        option: facts[fact]
        for option, fact in metric.constants.get("FILLED", {}).items()
        if getattr(metric, option) is None
    }
    return as_record(metric.model_copy(update=filled), exclude=NO_OPTIONS)


def stage_settings(config: Config, experiment: str, stage: str) -> Plan:
    """Return the settings of a stage (`sae.scoring.stage.StageSettings`)."""
    metrics = stages(config, experiment).get(stage, {})
    plan: Plan = {"metrics": metrics}
    withheld = [name for name in metrics if name in _reading_concepts(config)]
    if withheld and config.experiments[experiment].concepts.test == "baselines":
        plan["tested"] = dict.fromkeys(withheld, baselines(config, experiment))
    return plan


def baselines(config: Config, experiment: str) -> list[str]:
    """Return the methods that are compared with no other one: baselines, controls."""
    return [
        name
        for name in config.experiments[experiment].methods
        if config.methods[name].control
        or not (config.methods[name].against or config.methods[name].imported)
    ]


def reads_concepts(config: Config, experiment: str) -> bool:
    """Return whether an experiment has a metric that reads annotations."""
    metrics = stages(config, experiment).get("score", {})
    return any(name in metrics for name in _reading_concepts(config))


def annotated(config: Config, experiment: str) -> list[str]:
    """Return the datasets of an experiment whose annotations a metric reads."""
    spec = config.experiments[experiment]
    return spec.datasets if reads_concepts(config, experiment) else []


def _reading_concepts(config: Config) -> list[str]:
    return [
        name
        for name, metric in config.metrics.items()
        if "concepts" in metric.constants["READS"]
    ]


def read_by(protocols: Iterable[str]) -> list[str]:
    """The metrics that protocols read on validation."""
    heads = [registry.head("protocol", name) for name in protocols]
    return list(
        dict.fromkeys(name for head in heads for name in head.constants["METRICS"])
    )


def scoring(config: Config, experiment: str, stage: str) -> list[versions.Name]:
    """A stage's metrics, and the space that they see."""
    return [
        ("models", "inputs"),
        *(("metric", name) for name in stages(config, experiment).get(stage, {})),
    ]


def probe_plan(config: Config, experiment: str) -> Plan:
    """The options of the metric `probe`, with which `python -m sae probe` probes the embeddings themselves."""
    return stages(config, experiment).get("probe", {}).get("probe", {})


def others(config: Config, experiment: str, backbone: str) -> list[str]:
    """The experiment's other backbones and its judges, whose embeddings judge the latents of this one's SAEs."""
    return [b for b in config.experiments[experiment].embedding if b != backbone]


def splits_of_others(config: Config, experiment: str, rule: str) -> list[str]:
    """The splits of theirs that `train` reads, or a stage of scoring."""
    own, read = (
        stages(config, experiment).get(rule, {}),
        read_by(config.experiments[experiment].protocols),
    )
    return (
        entries.splits_of_others(read, ("val",))
        if rule == "train"
        else entries.splits_of_others(own)
    )


def gallery(config: Config, experiment: str) -> dict[str, Any] | None:
    """The cell that the galleries show: by default the first dataset with images, the first backbone, the smallest k.

    None where the experiment has embeddings alone, or no protocol `paper`, whose choices galleries show.
    """
    spec = config.experiments[experiment]
    dataset = config.shown_dataset(experiment)
    if dataset is None or "paper" not in spec.protocols:
        return None
    default = {
        "dataset": dataset,
        "backbone": spec.backbones[0],
        "k": min(spec.k_of(dataset)),
    }
    return default | spec.gallery.model_dump(exclude_none=True)


def figures(config: Config, experiment: str) -> list[str]:
    """The figures that an experiment ends in: none of images where it has none."""
    if gallery(config, experiment) is not None:
        return config.figures
    reads = {
        name: registry.head("figure", name).constants["READS"]
        for name in config.figures
    }
    return [
        name
        for name, files in reads.items()
        if not any(file.startswith("gallery/") for file in files)
    ]


def names(config: Config, experiment: str) -> Plan:
    """How an experiment's methods, datasets and backbones are printed (`sae.report.names`).

    A method's looks follow from its place among the experiment's methods: others of the config change nothing here.
    """
    spec, methods = config.experiments[experiment], {}
    for position, name in enumerate(spec.methods):
        method = config.methods[name]
        here = {
            "label": method.label or name,
            "imported": method.imported is not None,
            "position": position,
        }
        methods[name] = (
            method.model_dump(include={"colour", "at", "against", "control"}) | here
        )
    return {
        "methods": methods,
        "datasets": {
            name: config.datasets[name].label or name for name in spec.datasets
        },
        "backbones": {
            name: config.backbones[name].label or name for name in spec.embedding
        },
    }


def roles(config: Config, experiment: str) -> Plan:
    """Of the same what decides which methods are shown, and nothing that is only printed."""
    methods = names(config, experiment)["methods"].items()
    return {
        "methods": {
            name: {k: v for k, v in m.items() if k not in ("label", "colour")}
            for name, m in methods
        }
    }


def made_by(config: Config, experiment: str) -> Plan:
    """What gives the rows of an experiment their meaning (`sae.comparison.board.MadeBy`)."""
    spec, used = config.experiments[experiment], dict[str, Plan]()
    for of in stages(config, experiment).values():
        used |= of
    protocols = {
        name: config.protocols[name].options(given)
        for name, given in spec.protocols.items()
    }
    methods = [config.methods[name] for name in spec.methods]
    made_by = {
        ("training", "loop"),
        ("models", "inputs"),
        *(("protocol", name) for name in protocols),
    }
    made_by |= {("objective", m.objective) for m in methods} | {
        ("penalty", m.penalty) for m in methods if m.penalty
    }
    of_cells = (
        "ranges",
        "own_values",
        "most_steps",
        "trials",
    )  # These are of methods and data, not of how many trials there are.
    return {
        "experiment": experiment,
        "methods": roles(config, experiment),
        "fronts": fronts_plan(config, experiment),
        "versions": {
            f"{kind} {name}": versions.version_of(kind, name)
            for kind, name in sorted(made_by)
        },
        "recipe": as_record(config.training[spec.training], exclude=["log_every"]),
        **recipes_by_dataset(config, experiment),
        "protocols": {
            p: {k: v for k, v in o.items() if k not in of_cells}
            for p, o in protocols.items()
        },
        "metrics": {
            m: {"version": versions.version_of("metric", m), "options": options}
            for m, options in used.items()
        },
        "families": families(config, experiment),
        "intervals": config.claims.model_dump(include={"confidence", "min_blocks"}),
    }


def recipes_by_dataset(config: Config, experiment: str) -> Plan:
    """Return what of the recipe differs for a dataset; nothing where nothing does."""
    spec = config.experiments[experiment]
    by_dataset = {}
    for dataset in spec.datasets:
        if dataset not in spec.by_dataset:
            continue
        options = spec.by_dataset[dataset].recipe
        options.pop("log_every", None)
        if options:
            by_dataset[dataset] = options
    return {"by_dataset": by_dataset} if by_dataset else {}


def families(config: Config, experiment: str) -> dict[str, str]:
    """{backbone: its family}, of those on which an experiment trains."""
    spec = config.experiments[experiment]
    return {name: config.backbones[name].family for name in spec.backbones}


def fronts_plan(config: Config, experiment: str) -> Plan:
    """The rule of an experiment's fronts (`sae.comparison.fronts.FrontRule`)."""
    own = config.experiments[experiment].protocols
    words = config.protocols["fair"].options(own.get("fair", {}))
    fair: Any = from_record(registry.head("protocol", "fair").options, words)
    rule = {name: getattr(fair, name) for name in ("l0", "firing", "widths")}
    if "fair" in own:
        common = registry.head("protocol", "fair").constants["COMMON"]
        rule |= {"tuning": fair.tuning, "tuned": sorted(common)}
        if not isinstance(fair.points, int):
            rule["grid"] = True
    return rule


def claims_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae tables` and `claims`."""
    rules = {
        "claims": as_record(config.claims),
        "fronts": fronts_plan(config, experiment),
        "families": families(config, experiment),
    }
    return names(config, experiment) | rules


def report_plan(config: Config, experiment: str) -> Plan:
    """The settings of `python -m sae site`; `config` is the part that the experiment uses."""
    spec = config.experiments[experiment]
    unprinted = {"label", "colour"}
    methods = {
        name: as_record(config.methods[name], exclude=unprinted)
        for name in spec.methods
    }
    used = {
        "experiment": spec.model_dump(exclude_defaults=True),
        "methods": {
            name: {k: v for k, v in m.items() if v not in (None, {})}
            for name, m in methods.items()
        },
        "training": as_record(config.training[spec.training]),
        "datasets": {name: config.datasets[name].spec for name in spec.datasets},
        "backbones": {name: config.backbones[name].spec for name in spec.embedding},
        "metrics": dict(
            metric
            for stage in stages(config, experiment).values()
            for metric in stage.items()
        ),
        "claims": as_record(config.claims),
        "protocols": {
            name: config.protocols[name].options(own)
            for name, own in spec.protocols.items()
        },
        # Of the machine only what decides on bits: the rest is where and how fast.
        "compute": config.compute.model_dump(
            include={"device", "threads", "embed_batch_size"}
        ),
    }
    shown = {
        "experiment": experiment,
        "figures": figures(config, experiment),
        "config": used,
    }
    return names(config, experiment) | shown


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
    return (
        entry.constants.get("FROM_HUB", False)
        and not artifact_names(entry.spec)
        and not weights_paths(entry.spec)
    )


def hub_backbones(config: Config, experiment: str) -> list[str]:
    """Those of an experiment whose weights come from there."""
    return [
        name
        for name in config.experiments[experiment].embedding
        if from_hub(config, name)
    ]


def weights_plan(config: Config, backbone: str) -> Plan:
    """The settings of `python -m sae weights`: what of a backbone's entry says which weights they are."""
    return {
        k: v
        for k, v in config.backbones[backbone].spec.items()
        if k in ("loader", "model", "pretrained")
    }


def local_weights(config: Config, backbone: str) -> list[str]:
    """Files on this machine that a backbone's embeddings are made of."""
    named = [
        Path(file)
        for file in weights_paths(config.backbones[backbone].spec).values()
        if Path(file).exists()
    ]
    return [
        str(file)
        for path in named
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]


def downloaded(config: Config, experiment: str) -> list[str]:
    """The datasets of an experiment that are to be downloaded by their type's own function."""
    return [
        name
        for name in config.experiments[experiment].datasets
        if config.datasets[name].spec.get("download")
    ]


def dataset_files(config: Config, dataset: str) -> list[str]:
    """The files that a dataset's index is made of, where its type names them."""
    entry = config.datasets[dataset]
    return [
        pattern.format(**entry.spec) for pattern in entry.constants.get("FILES", ())
    ]


def concept_files(config: Config, dataset: str) -> list[str]:
    """Return the files of one's own that say what people call a dataset's images.

    Optional ones are left out where they are not there.
    """
    annotation = config.datasets[dataset].concepts
    constants = annotation.constants
    files = [file.format(**annotation.spec) for file in constants.get("FILES", ())]
    if constants.get("FILES_ARE_OPTIONAL"):
        return [file for file in files if Path(file).exists()]
    return files


def given_embeddings(config: Config, dataset: str, backbone: str) -> list[str]:
    """The files of a dataset's embeddings that are given, not made."""
    entry = config.backbones[backbone]
    both = config.datasets[dataset].spec | entry.spec
    return [pattern.format(**both) for pattern in entry.constants.get("FILES", ())]
