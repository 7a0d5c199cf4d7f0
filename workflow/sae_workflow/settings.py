"""Read the config, and make of it the settings of each job.

Settings are plain JSON that holds what the job reads and nothing else: a rule runs
again when they change.

Snakemake lacks it: `validate()` finds a wrong key, but knows no entries in other files,
and a rule that reads `config` whole runs again with any change of it.
"""

import copy
import functools
import itertools
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from sae.bank.plan import Method, Plan
from sae.config import entries
from sae.config.extends import LONGEST_CHAIN, SECTIONS
from sae.config.load import load_config
from sae.config.models import Config, method_of
from sae.config.problems import ConfigError
from sae.config.yaml_file import parse_file
from sae.core import registry, versions
from sae.core.errors import UserError
from sae.core.options import as_record, facts_of_experiment
from sae.core.paths import STAGES
from sae.data.entries import NAMED_BY, NO_OPTIONS

# The folder workflow/.
HERE = Path(__file__).parent.parent
COSTS = "workflow/resources/costs.yaml"

# The folder beside config.yaml whose files go with it.
EXPERIMENTS = "config/experiments"

# What JSON can hold.
Record = dict[str, Any]


# The config.


@functools.cache
def artifacts() -> dict[str, Any]:
    """Read workflow/resources/artifacts.yaml: {artifact: its specification}."""
    return yaml.safe_load((HERE / "resources/artifacts.yaml").read_text())


@functools.cache
def costs() -> dict[str, Any]:
    """Read workflow/resources/costs.yaml."""
    return yaml.safe_load((HERE.parent / COSTS).read_text())


def rule_names() -> list[str]:
    """Return the names of the rules, which no experiment can have too."""
    rule_files = sorted((HERE / "rules").glob("*.smk"))
    text = "\n".join(file.read_text() for file in rule_files)
    return re.findall(r"^(?:rule|checkpoint|use rule \w+ as) (\w+)", text, re.MULTILINE)


def load(raw: dict[str, Any], files: Mapping[str, str] = {}) -> Config:
    """Check a config and give it types, with what is known of artifacts and rules.

    Args:
        raw: The config as YAML gives it.
        files: {key: the file that says it}, for messages.

    Raises:
        UserError: the config is not right.
    """
    return load_config(raw, artifacts=artifacts(), reserved=rule_names(), files=files)


def read_config(config_file: str | Path, *overlays: str | Path) -> Config:
    """Read the config of a folder, with files laid over it.

    Of a file in its config/experiments that is not right stderr gets a line.

    Args:
        config_file: Its config.yaml.
        overlays: Files laid over it, each over those before.

    Raises:
        UserError: a file cannot be read, or the config is not right.
    """
    config, _, left_out = read_files(config_file, *overlays)
    warn_of_left_out(left_out)
    return config


def warn_of_left_out(left_out: Mapping[str, str]) -> None:
    """Print a line on stderr for each file that :func:`read_files` left out."""
    for line in left_out.values():
        print(f"warning: {line}", file=sys.stderr, flush=True)


def warn_of_unnamed_extensions(config: Config) -> None:
    """Print a line on stderr for each extension that nothing in the config names.

    Looked at are metrics, figures, objectives and penalties.
    """
    methods = config.methods.values()
    named_in: dict[str, tuple[str, set[str | None]]] = {
        "metric": ("metrics", set(config.metrics)),
        "figure": ("figures", set(config.figures)),
        "objective": ("methods", {method.objective for method in methods}),
        "penalty": ("methods", {method.penalty for method in methods}),
    }
    for kind, (section, named) in named_in.items():
        for name in registry.names(kind):
            if registry.is_own(kind, name) and name not in named:
                print(
                    f"warning: extensions: {kind} {name} is not used, since {section} "
                    "of the config does not name it",
                    file=sys.stderr,
                    flush=True,
                )


def read_files(
    config_file: str | Path,
    *overlays: str | Path,
    below: Mapping[str, Any] = {},
    options: Mapping[str, Any] = {},
) -> tuple[Config, Record, dict[str, str]]:
    """Read the config of a folder without those of its experiments that are not right.

    Args:
        config_file: Its config.yaml.
        overlays: Files laid over it, each over those before.
        below: What all files are laid over.
        options: What is laid over all files.

    Returns:
        The config; the same as YAML gives it; and {file in config/experiments: a line
        that says why it is left out}.

    Raises:
        UserError: another file cannot be read, what is left is not right, or two files
            of the folder say one name.
    """
    # Imported here, since most commands read one file.
    from snakemake.utils import update_config

    left_out: dict[str, str] = {}
    while True:
        merged, file_of_key = merge_config_files(
            config_file, *overlays, left_out=left_out
        )
        raw = copy.deepcopy(dict(below))
        update_config(raw, merged)
        update_config(raw, options)
        try:
            return load(raw, file_of_key), raw, left_out
        except ConfigError as error:
            at_fault = [
                file
                for file in experiment_files(config_file)
                if file in error.lines_of_file and not _is_laid_over(file, file_of_key)
            ]
            if not at_fault:
                raise UserError("\n".join([str(error), *left_out.values()])) from None
            # What extends their entries is at fault the next time.
            for file in at_fault:
                left_out[file] = _line_of_left_out(error.lines_of_file[file][0])


def experiment_files(config_file: str | Path) -> list[str]:
    """Return the files of experiments that always go with a config.yaml."""
    folder = Path(config_file).parent / EXPERIMENTS
    # Hidden ones are editors' own.
    return sorted(map(os.path.relpath, folder.glob("[!.]*.yaml")))


def _is_laid_over(file: str, file_of_key: Mapping[str, str]) -> bool:
    """Return whether a file of one's own says an entry of a file of experiments, too.

    What is wrong with that entry may then be the former's doing.
    """
    return any(
        file_of_key.get(f"{section}.{name}") != file
        for section, named in parse_file(file).items()
        for name in named
    )


def _line_of_left_out(problem: str) -> str:
    return f"left out, with all its experiments: {' '.join(problem.split())}"


def configfiles_of(options: Sequence[str]) -> list[str]:
    """Return the files that options of Snakemake name as config files."""
    files: list[str] = []
    for position, option in enumerate(options):
        if option in ("--configfile", "--configfiles"):
            files += itertools.takewhile(
                lambda word: not word.startswith("-"), options[position + 1 :]
            )
    return files


def overlays_of(options: Sequence[str]) -> list[str]:
    """Return the files that options of Snakemake lay over config.yaml."""
    return beside_config_file(configfiles_of(options))


def beside_config_file(files: Iterable[str | Path]) -> list[str]:
    """Return which files are neither config.yaml nor go with it."""
    usual_files = {"config.yaml", *experiment_files("config.yaml")}
    return [file for file in map(os.path.relpath, files) if file not in usual_files]


def merge_config_files(
    config_file: str | Path,
    *overlays: str | Path,
    left_out: dict[str, str] | None = None,
) -> tuple[Record, dict[str, str]]:
    """Lay config files over each other as Snakemake does.

    Those in config/experiments beside the first one go with it, and are not laid over
    it once more.

    Args:
        config_file: The file that others are laid over.
        overlays: Files laid over it, each over those before.
        left_out: {file in config/experiments that is not read: why}. Those that cannot
            be read are added.

    Returns:
        The config, and {key: the file that says it}; that is empty where one file says
        everything. The key of a nested value has dots, such as "compute.threads".

    Raises:
        UserError: one of the other files cannot be read, with more than Snakemake says;
            or two files of the folder say one name.
    """
    # Imported here, since most commands read one file.
    from snakemake.utils import update_config

    if left_out is None:
        left_out = {}
    first = os.path.relpath(config_file)
    content_of_file = {first: parse_file(first)}
    files_beside = experiment_files(config_file)
    for file in files_beside:
        if file in left_out:
            continue
        try:
            content = _parse_experiments(file)
        except UserError as error:
            left_out[file] = _line_of_left_out(str(error))
            continue
        _refuse_names_said_twice(content_of_file, file, content)
        content_of_file[file] = content

    contents = list(content_of_file.items())
    for file in map(os.path.relpath, overlays):
        if file not in files_beside:
            contents.append((file, parse_file(file)))

    config: Record = {}
    file_of_key: dict[str, str] = {}
    for file, content in contents:
        _refuse_other_types(config, content, file)
        update_config(config, content)
        for key in _dotted_keys(content):
            file_of_key[key] = file

    if len(set(file_of_key.values())) <= 1:
        return config, {}
    # A later file may have replaced a mapping by a value: its keys are gone.
    keys_of_config = set(_dotted_keys(config))
    return config, {
        key: file for key, file in file_of_key.items() if key in keys_of_config
    }


def _parse_experiments(file: str) -> Record:
    """Return the content of a file in config/experiments.

    Raises:
        UserError: it cannot be read, or has more than named entries.
    """
    content = parse_file(file)
    for section, named in content.items():
        if section not in SECTIONS or not isinstance(named, dict):
            raise UserError(
                f"{file}: config key {section}: such a file has entries alone, of "
                f"{', '.join(SECTIONS)}; all else belongs into config.yaml"
            )
    return content


def _refuse_names_said_twice(
    content_of_file: Mapping[str, Record], file: str, content: Record
) -> None:
    """Refuse an entry of a file in config/experiments whose name is taken.

    Args:
        content_of_file: {file: content}, of config.yaml and the files before.
        file: The file.
        content: What it says.

    Raises:
        UserError: names both files.
    """
    for other_file, other_content in content_of_file.items():
        for section, named in content.items():
            named_before = other_content.get(section)
            if not isinstance(named_before, dict):
                continue
            for name in named.keys() & named_before.keys():
                raise UserError(
                    f"{file}: config key {section}.{name}: {other_file} has this name, "
                    "too: give one of them another name, or leave it out; what two "
                    "files need belongs into config.yaml"
                )


def _refuse_other_types(
    config: dict[str, Any], content: dict[str, Any], file: str
) -> None:
    """Refuse an entry of another type under a name that is taken: its keys would mix.

    Args:
        config: What the files before say.
        content: What a file says that is laid over them.
        file: Its path.

    Raises:
        UserError: names the entry, and both types.
    """
    for kind in ("dataset", "backbone"):
        section = f"{kind}s"
        key = NAMED_BY[kind]
        entries_before, new_entries = config.get(section), content.get(section)
        if not (isinstance(entries_before, dict) and isinstance(new_entries, dict)):
            continue
        for name, entry in new_entries.items():
            before = _taken_over(entries_before, name, key)
            new = entry.get(key) if isinstance(entry, dict) else None
            if None not in (before, new) and before != new:
                raise UserError(
                    f"{file}: config key {section}.{name}.{key}: there is a {kind} "
                    f"{name} already, of {key} {before}, and your keys would be laid "
                    "over its own: give yours another name"
                )


def _taken_over(entries: dict[str, Any], name: Any, key: str) -> Any:
    """Return the value of a key that an entry has, or takes over; None without one."""
    for _ in range(LONGEST_CHAIN):
        entry = entries.get(name) if isinstance(name, str) else None
        if not isinstance(entry, dict):
            return None
        if key in entry:
            return entry[key]
        name = entry.get("extends")
    return None


def _dotted_keys(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys of a mapping and of the mappings in it, such as "a" and "a.b"."""
    for name, value in content.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _dotted_keys(value, f"{prefix}{name}.")


def extensions_prefix(config: Config) -> str:
    """Return what tells the shell of every job where the entries of one's own lie."""
    if not config.extensions:
        return ""
    return f"export SAE_EXTENSIONS={shlex.quote(config.extensions)}; "


# What an experiment consists of.


@dataclass(frozen=True)
class Cell:
    """A dataset, a backbone and a budget k: what one job trains SAEs for."""

    dataset: str
    backbone: str
    k: int

    @property
    def wildcards(self) -> dict[str, Any]:
        """{wildcard: value}, as paths and rules have them."""
        return asdict(self)


def cells(config: Config, experiment: str) -> list[Cell]:
    """Return the cells of an experiment, in the order of the config."""
    spec = config.experiments[experiment]
    return [
        Cell(dataset, backbone, k)
        for dataset in spec.datasets
        for backbone in spec.backbones
        for k in spec.k_of(dataset)
    ]


def embedded_datasets(config: Config, experiment: str) -> list[dict[str, str]]:
    """Return what an experiment reads embeddings of, also by judges and metrics.

    Returns:
        {"dataset": ..., "backbone": ...} of each, as wildcards have them.
    """
    spec = config.experiments[experiment]
    return [
        {"dataset": dataset, "backbone": backbone}
        for dataset in spec.datasets
        for backbone in [
            *spec.embedding,
            *backbones_of_metrics(config, experiment, dataset),
        ]
    ]


def other_backbones(config: Config, experiment: str, backbone: str) -> list[str]:
    """Return the other backbones of an experiment, and its judges.

    Their embeddings judge the latents of SAEs that `backbone` was trained for.
    """
    embedding = config.experiments[experiment].embedding
    return [name for name in embedding if name != backbone]


def backbones_of_metrics(config: Config, experiment: str, dataset: str) -> list[str]:
    """Return the backbones that metrics of `score` name themselves, among `READS`.

    Where a dataset has no images there are none.
    """
    if not config.datasets[dataset].has_images:
        return []
    backbones: list[str] = []
    for name in metrics_by_stage(config, experiment).get("score", {}):
        backbones += entries.backbones_named(config.metrics[name].constants)
    return list(dict.fromkeys(backbones))


def families(config: Config, experiment: str) -> dict[str, str]:
    """Return {backbone: its family}, of those on which an experiment trains."""
    backbones = config.experiments[experiment].backbones
    return {name: config.backbones[name].family for name in backbones}


def same_pictures(config: Config, experiment: str) -> Record:
    """Return {"pictures": {dataset: what it calls them}}; {} where none says it."""
    entries = {
        name: config.datasets[name] for name in config.experiments[experiment].datasets
    }
    pictures = {name: entry.pictures for name, entry in entries.items()}
    said = {name: of_dataset for name, of_dataset in pictures.items() if of_dataset}
    return {"pictures": said} if said else {}


def imported_methods(config: Config, experiment: str) -> list[str]:
    """Return the methods of an experiment whose SAEs were made elsewhere."""
    methods = config.experiments[experiment].methods
    return [name for name in methods if config.methods[name].imported is not None]


def imported_methods_of_cell(config: Config, experiment: str, cell: Cell) -> list[str]:
    """Return the methods whose SAEs were made elsewhere and are scored in a cell."""
    methods = []
    for name in imported_methods(config, experiment):
        imported = config.methods[name].imported
        assert imported is not None
        if imported.belongs_to(cell.dataset, cell.backbone, cell.k):
            methods.append(name)
    return methods


def baselines(config: Config, experiment: str) -> list[str]:
    """Return the methods that are compared with no other one: baselines, controls."""
    return [
        name
        for name in config.experiments[experiment].methods
        if config.methods[name].control
        or not (config.methods[name].against or config.methods[name].imported)
    ]


def gallery_cell(config: Config, experiment: str) -> Cell | None:
    """Return the cell that the galleries show.

    By default it is of the first dataset with images, the first backbone and the
    smallest k.

    Returns:
        None where the experiment has embeddings alone, or no protocol `paper`, whose
        choices galleries show.
    """
    spec = config.experiments[experiment]
    dataset = config.shown_dataset(experiment)
    if dataset is None or "paper" not in spec.protocols:
        return None
    return Cell(
        dataset,
        spec.gallery.backbone or spec.backbones[0],
        spec.gallery.k or min(spec.k_of(dataset)),
    )


def shown_figures(config: Config, experiment: str) -> list[str]:
    """Return the figures of an experiment: without galleries, none that reads one."""
    if gallery_cell(config, experiment) is not None:
        return config.figures
    return [name for name in config.figures if not _reads_gallery(name)]


def _reads_gallery(figure: str) -> bool:
    files = registry.head("figure", figure).constants["READS"]
    return any(file.startswith("gallery/") for file in files)


# Metrics.


def metrics_by_stage(config: Config, experiment: str) -> dict[str, dict[str, Record]]:
    """Return the metrics of an experiment with all their options.

    Returns:
        {stage: {metric: options}}, without stages that have nothing to do.
    """
    spec = config.experiments[experiment]
    by_stage: dict[str, dict[str, Record]] = {stage: {} for stage in STAGES}
    for name, metric in config.metrics.items():
        if not metric.optional or name in spec.metrics:
            stage = entries.stage_of(metric.constants)
            by_stage[stage][name] = _metric_options(config, experiment, name)
    return {stage: metrics for stage, metrics in by_stage.items() if metrics}


def stages_of_tables(config: Config, experiment: str) -> list[str]:
    """Return the stages whose tables an experiment joins."""
    stages = list(metrics_by_stage(config, experiment))
    if config.experiments[experiment].heatmaps:
        stages.append("heatmaps")
    return stages


def _metric_options(config: Config, experiment: str, name: str) -> Record:
    """Return all options of a metric in an experiment.

    An option that is null has a fact of the experiment where it is marked so.
    """
    spec = config.experiments[experiment]
    metric = config.metrics[name].laid_over(spec.metrics.get(name, {}))
    facts = {
        option: _fact(config, experiment, fact)
        for option, fact in facts_of_experiment(type(metric)).items()
        if getattr(metric, option) is None
    }
    filled_metric = metric.model_copy(update=facts)
    return as_record(filled_metric, exclude=NO_OPTIONS)


def _fact(config: Config, experiment: str, name: str) -> Any:
    """Return a fact of an experiment (`sae.core.options.FromExperiment`)."""
    spec = config.experiments[experiment]
    if name == "smallest_k":
        return min(spec.every_k)
    if name == "families":
        return {
            backbone: config.backbones[backbone].family for backbone in spec.embedding
        }
    return _metric_options(config, experiment, "detection")


def concept_metrics(config: Config) -> list[str]:
    """Return the metrics of the config that read what people call images."""
    return [
        name
        for name, metric in config.metrics.items()
        if "concepts" in metric.constants["READS"]
    ]


def reads_concepts(config: Config, experiment: str) -> bool:
    """Return whether an experiment has a metric that reads annotations."""
    score_metrics = metrics_by_stage(config, experiment).get("score", {})
    return any(name in score_metrics for name in concept_metrics(config))


def annotated_datasets(config: Config, experiment: str) -> list[str]:
    """Return the datasets of an experiment whose annotations a metric reads."""
    if not reads_concepts(config, experiment):
        return []
    return config.experiments[experiment].datasets


def artifacts_of(config: Config, experiment: str) -> list[str]:
    """Return the artifacts of an experiment's datasets and backbones, each once."""
    spec = config.experiments[experiment]
    entries: list[Any] = [config.datasets[name] for name in spec.datasets]
    for name in annotated_datasets(config, experiment):
        entries.append(config.datasets[name].concepts)
    entries += [config.backbones[name] for name in spec.embedding]
    artifacts = [name for entry in entries for name in entry.artifact_names]
    return list(dict.fromkeys(artifacts))


def validation_metrics(protocols: Iterable[str]) -> list[str]:
    """Return the metrics that protocols read on validation, each once."""
    metrics: list[str] = []
    for protocol in protocols:
        metrics += registry.head("protocol", protocol).constants["METRICS"]
    return list(dict.fromkeys(metrics))


def splits_of_other_backbones(config: Config, experiment: str, rule: str) -> list[str]:
    """Return which splits of other backbones' embeddings a rule reads.

    Args:
        rule: "train", or a stage of scoring.
    """
    if rule == "train":
        metrics = validation_metrics(config.experiments[experiment].protocols)
        return entries.splits_of_others(metrics, ("val",))
    return entries.splits_of_others(metrics_by_stage(config, experiment).get(rule, {}))


# What gives numbers their meaning.


def training_names(plan: Plan) -> list[versions.Name]:
    """Return what decides on a cell's SAEs, and on which of them are chosen."""
    entry_names = set()
    for method in plan.methods.values():
        entry_names.add(("objective", method.objective))
        if method.penalty:
            entry_names.add(("penalty", method.penalty))
    entry_names.update(("protocol", name) for name in plan.protocols)
    entry_names.update(("metric", name) for name in validation_metrics(plan.protocols))
    return [
        ("models", "inputs"),
        ("protocols", "_cell"),
        ("training", "loop"),
        ("training", "calibrate"),
        *sorted(entry_names),
    ]


def scoring_names(config: Config, experiment: str, stage: str) -> list[versions.Name]:
    """Return what decides on the scores of a stage: inputs, and its metrics."""
    metrics = metrics_by_stage(config, experiment).get(stage, {})
    return [("models", "inputs"), *(("metric", name) for name in metrics)]


# Settings of jobs.


def weights_settings(config: Config, backbone: str) -> Record:
    """Return the settings of `python -m sae weights`: which weights a backbone has."""
    spec = config.backbones[backbone].spec
    return {key: spec[key] for key in ("loader", "model", "pretrained") if key in spec}


def import_settings(config: Config, method: str) -> Record:
    """Return the options of `python -m sae import` that bring in a method's SAE.

    Args:
        method: The name of a method whose SAE was made elsewhere.
    """
    imported = config.methods[method].imported
    assert imported is not None
    return imported.model_dump(exclude_none=True, exclude={"dataset", "backbone"})


def import_options(config: Config, method: str) -> str:
    """Return the options of `python -m sae import` as its command line has them."""
    options = import_settings(config, method)
    place = options.pop("place")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return shlex.join([place, *flags])


def bank_plan(config: Config, experiment: str, cell: Cell) -> Plan:
    """Return all that decides on a cell's SAEs, complete with defaults.

    Swept values are in ascending order.
    """
    spec = config.experiments[experiment]
    imported_here = imported_methods_of_cell(config, experiment, cell)
    imported_elsewhere = {*imported_methods(config, experiment)} - {*imported_here}
    return Plan(
        dataset=cell.dataset,
        backbone=cell.backbone,
        k=cell.k,
        seeds=spec.seeds,
        recipe=as_record(config.recipe(experiment, cell.dataset)),
        methods={
            name: _planned_method(config, experiment, name, cell.k)
            for name in spec.methods
            if name not in imported_elsewhere
        },
        protocols=_protocol_options(config, experiment),
        metrics={
            name: _metric_options(config, experiment, name)
            for name in validation_metrics(spec.protocols)
            if name in config.metrics
        },
    )


def _planned_method(config: Config, experiment: str, name: str, k: int) -> Method:
    entry = config.methods[name]
    method = method_of(entry)
    sweep = config.sweep(experiment, name, k)
    changes: Record = {"sweep": sweep, "label": None, "colour": None}
    if "lambda" in sweep:
        changes["lam"] = None
    if entry.imported is not None and entry.imported.dataset is None:
        dataset_count = len(config.experiments[experiment].datasets)
        changes["options"] = {**method.options, "other_datasets": dataset_count > 1}
    return method.model_copy(update=changes)


def _protocol_options(config: Config, experiment: str) -> dict[str, Record]:
    """Return {protocol: all its options} in an experiment."""
    protocols = config.experiments[experiment].protocols
    return {
        name: config.protocols[name].options(changes)
        for name, changes in protocols.items()
    }


def stage_settings(config: Config, experiment: str, stage: str) -> Record:
    """Return the settings of a stage (`sae.scoring.stage.StageSettings`)."""
    metrics = metrics_by_stage(config, experiment).get(stage, {})
    record: Record = {"metrics": metrics}
    # Metrics of concepts may keep the test scores of compared methods back.
    withheld = [name for name in metrics if name in concept_metrics(config)]
    if withheld and config.experiments[experiment].concepts.test == "baselines":
        record["tested"] = dict.fromkeys(withheld, baselines(config, experiment))
    return record


def probe_settings(config: Config, experiment: str) -> Record:
    """Return the options of the metric `probe`; {} where an experiment has none.

    `python -m sae probe` probes the embeddings themselves with them.
    """
    return metrics_by_stage(config, experiment).get("probe", {}).get("probe", {})


def printed_names(config: Config, experiment: str) -> Record:
    """Return how methods, datasets and backbones are printed (`sae.report.names`).

    A method's looks follow from its place among the experiment's methods: others of the
    config change nothing.
    """
    spec = config.experiments[experiment]
    methods = {}
    for position, name in enumerate(spec.methods):
        method = config.methods[name]
        methods[name] = {
            **method.model_dump(include={"colour", "at", "against", "control"}),
            "label": method.label or name,
            "imported": method.imported is not None,
            "position": position,
        }
    return {
        "methods": methods,
        "datasets": {
            name: config.datasets[name].label or name for name in spec.datasets
        },
        "backbones": {
            name: config.backbones[name].label or name for name in spec.embedding
        },
    }


def method_roles(config: Config, experiment: str) -> Record:
    """Return what decides on which methods are shown, and nothing that is printed."""
    methods = printed_names(config, experiment)["methods"]
    return {
        "methods": {
            name: _without(method, ("label", "colour"))
            for name, method in methods.items()
        }
    }


def made_by(config: Config, experiment: str) -> Record:
    """Return what gives the rows of an experiment their meaning.

    Its form is that of `sae.comparison.leaderboard.MadeBy`.
    """
    spec = config.experiments[experiment]
    # These are of methods and data, not of how many trials there are.
    options_of_cells = ("ranges", "own_values", "trials")
    protocols = {
        name: _without(options, options_of_cells)
        for name, options in _protocol_options(config, experiment).items()
    }
    metrics = {
        name: {"version": versions.version_of("metric", name), "options": options}
        for name, options in _all_metrics(config, experiment).items()
    }
    return {
        "experiment": experiment,
        "methods": method_roles(config, experiment),
        "versions": _versions_of_training(config, experiment),
        "recipe": as_record(config.training[spec.training], exclude=["log_every"]),
        **recipes_by_dataset(config, experiment),
        "protocols": protocols,
        "metrics": metrics,
        "families": families(config, experiment),
        **same_pictures(config, experiment),
        "intervals": config.claims.model_dump(include={"confidence"}),
    }


def _versions_of_training(config: Config, experiment: str) -> dict[str, str]:
    """Return {kind and name: version} of what trains and chooses SAEs."""
    spec = config.experiments[experiment]
    names = {("training", "loop"), ("models", "inputs")}
    names.update(("protocol", name) for name in spec.protocols)
    for method_name in spec.methods:
        method = config.methods[method_name]
        names.add(("objective", method.objective))
        if method.penalty:
            names.add(("penalty", method.penalty))
    return {
        f"{kind} {name}": versions.version_of(kind, name)
        for kind, name in sorted(names)
    }


def recipes_by_dataset(config: Config, experiment: str) -> Record:
    """Return what of the recipe differs for a dataset.

    Returns:
        {"by_dataset": {dataset: options}}; {} where nothing differs.
    """
    spec = config.experiments[experiment]
    by_dataset = {}
    for dataset in spec.datasets:
        if dataset not in spec.by_dataset:
            continue
        options = _without(spec.by_dataset[dataset].recipe, ("log_every",))
        if options:
            by_dataset[dataset] = options
    return {"by_dataset": by_dataset} if by_dataset else {}


def claims_settings(config: Config, experiment: str) -> Record:
    """Return the settings of `python -m sae tables` and `claims`."""
    return {
        **printed_names(config, experiment),
        "claims": as_record(config.claims),
        "families": families(config, experiment),
        **same_pictures(config, experiment),
    }


def report_settings(config: Config, experiment: str) -> Record:
    """Return the settings of `python -m sae site`."""
    return {
        **printed_names(config, experiment),
        "experiment": experiment,
        "figures": shown_figures(config, experiment),
        "config": _used_config(config, experiment),
    }


def _used_config(config: Config, experiment: str) -> Record:
    """Return the part of a config that an experiment uses, as its site prints it."""
    spec = config.experiments[experiment]
    methods = {}
    for name in spec.methods:
        record = as_record(config.methods[name], exclude={"label", "colour"})
        methods[name] = {
            key: value for key, value in record.items() if value not in (None, {})
        }
    return {
        "experiment": spec.model_dump(exclude_defaults=True),
        "methods": methods,
        "training": as_record(config.training[spec.training]),
        "datasets": {name: config.datasets[name].spec for name in spec.datasets},
        "backbones": {name: config.backbones[name].spec for name in spec.embedding},
        "metrics": _all_metrics(config, experiment),
        "claims": as_record(config.claims),
        "protocols": _protocol_options(config, experiment),
        # Of the machine only what decides on bits: the rest is where and how fast.
        "compute": config.compute.model_dump(
            include={"device", "threads", "embed_batch_size"}
        ),
    }


def _all_metrics(config: Config, experiment: str) -> dict[str, Record]:
    """Return {metric: its options}, of the metrics of all stages."""
    return {
        name: options
        for metrics in metrics_by_stage(config, experiment).values()
        for name, options in metrics.items()
    }


def _without(record: Mapping[str, Any], keys: Iterable[str]) -> Record:
    return {key: value for key, value in record.items() if key not in keys}
