"""What a run asks for that is not there.

It is quick to import, since the Snakefile does, and asks no network.
"""

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sae.config.models import Backbone, Config, Dataset
from sae.core import paths, registry
from sae.core.errors import UserError, did_you_mean
from sae.data import fetch
from sae.data.splits import SPLITS
from sae_workflow import costs, external_files, settings

# Below these SAEs train, and nothing can be said of their methods (docs/data.md).
FEWEST_IMAGES = 10  # for training, of each latent
FEWEST_STEPS = 50
_SAVE_ARRAYS = " (save each array of the .npz by itself, with `numpy.save`)"
# Files of weights, one of which is in the cache of the hub if any is.
_HUB_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_HUB_PREFIX = "hf-hub:"  # how timm and open_clip mark a repository's name


# What is told before a run.


def warn(config: Config, words: Collection[str]) -> None:
    """Tell on stderr what experiments lack: data, weights, labels, judges, images.

    Args:
        words: The words of a command line; the experiments among them are looked at.
    """
    for experiment in config.experiments:
        if experiment not in words:
            continue
        lines = [
            *missing_files(config, experiment),
            *repeated_labels(config, experiment),
            *missing_judges(config, experiment),
            *small_training(config, experiment),
        ]
        for line in lines:
            print(f"{experiment}: {line}", file=sys.stderr)


def repeated_labels(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each label that several methods, datasets or backbones have."""
    names = settings.printed_names(config, experiment)
    labels_of_section = {
        "methods": [method["label"] for method in names["methods"].values()],
        "datasets": list(names["datasets"].values()),
        "backbones": list(names["backbones"].values()),
    }
    for section, labels in labels_of_section.items():
        for label, count in Counter(labels).items():
            if count > 1:
                yield (
                    f"{section}: {count} have the label {label!r}, so each is printed "
                    "with its name behind it"
                )


def missing_judges(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line where a protocol chooses by what no backbone can judge.

    Protocols may choose by `detection`, for which a backbone of another family judges.
    """
    spec = config.experiments[experiment]
    families = {config.backbones[name].family for name in spec.embedding}
    chooses_by_judges = any(
        "families" in registry.head("metric", name).constants.get("FILLED", {}).values()
        for name in settings.validation_metrics(spec.protocols)
    )
    if len(families) == 1 and chooses_by_judges:
        yield (
            f"all backbones are of the family {families.pop()}, so nobody judges "
            "`detection`: name one of another family as `judges`"
        )


def small_training(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each dataset on which SAEs train too little to be compared."""
    for dataset in config.experiments[experiment].datasets:
        images = costs.dataset_figures_of(config, dataset).images_by_split
        if not images:
            continue
        recipe = config.recipe(experiment, dataset)
        images_per_latent = images["train"] / recipe.m
        step_count = recipe.steps_on(max(1, images["train"]))
        complaints = []
        if images_per_latent < FEWEST_IMAGES:
            complaints.append(
                f"{images_per_latent:.1f} training images a latent (m = {recipe.m}; "
                f"{FEWEST_IMAGES} or more are wanted: a smaller m)"
            )
        if step_count < FEWEST_STEPS:
            complaints.append(
                f"{step_count} steps of training ({FEWEST_STEPS} or more are wanted: "
                "say `steps`)"
            )
        if complaints:
            yield (
                f"dataset {dataset}: {' and '.join(complaints)}; with less, latents "
                "die and methods hardly differ (docs/data.md)"
            )


def missing_files(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each path or name of the config that does not exist here.

    These are roots of datasets, local weights, results of others, SAEs to import, and
    what libraries know.
    """
    spec = config.experiments[experiment]
    for dataset in spec.datasets:
        yield from _missing_of_dataset(config, experiment, dataset)
    for backbone in spec.embedding:
        yield from _missing_weights(config, backbone)
        manifests = (
            paths.EMBEDDINGS_MANIFEST.format(
                dataset=dataset, backbone=backbone, split=split
            )
            for dataset in spec.datasets
            for split in SPLITS
        )
        if not all(Path(manifest).exists() for manifest in manifests):
            yield from _wrong_backbone(config, backbone)
    yield from missing_leaderboard(config, experiment)
    for folder in config.compute.shared:
        if not Path(folder).is_dir():
            yield f"compute.shared: {folder} does not exist; nothing is taken from it"
    for method in settings.imported_methods(config, experiment):
        yield from _missing_or_on_hub(config, method)


def _missing_of_dataset(config: Config, experiment: str, dataset: str) -> Iterator[str]:
    """Yield what :func:`missing_files` does of one dataset."""
    spec = config.datasets[dataset].spec
    root = Path(spec.get("root") or ".")
    yield from _missing_root(config, dataset)
    yield from _missing_concepts(config, experiment, dataset)
    if root.exists():
        for backbone in config.experiments[experiment].embedding:
            yield from _missing_given_embeddings(config, dataset, backbone)
    if not Path(paths.DATASET.format(dataset=dataset)).exists():
        yield from _wrong_dataset(config, dataset)
    # The root alone tells nothing: datasets share it, and a download may have ended.
    is_downloaded = Path(paths.DOWNLOAD.format(dataset=dataset)).exists()
    if spec.get("download") and not is_downloaded:
        yield (
            f"dataset {dataset}: what {root} lacks will be downloaded by torchvision, "
            "which needs the internet"
        )


def _missing_or_on_hub(config: Config, method: str) -> Iterator[str]:
    """Yield a line if the SAE of a method is not on this machine."""
    place = settings.import_settings(config, method)["place"]
    lines = list(_missing_import(config, method))
    yield from lines
    if not lines and not Path(place).exists():
        yield (
            f"method {method}: {place} does not exist here; it is looked for on the "
            "Hugging Face hub"
        )


def missing_leaderboard(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each folder of an experiment's leaderboard that has no results.

    Those of the config's experiments will be made.
    """
    folders_to_be_made = {
        os.path.abspath(paths.EXPERIMENT.format(experiment=name))
        for name in config.experiments
    }
    for folder in config.experiments[experiment].leaderboard:
        if os.path.abspath(folder) in folders_to_be_made:
            continue
        if not Path(folder, "made_by.json").exists():
            yield f"leaderboard: {folder} has no made_by.json"


def missing_hub_weights(
    config: Config, experiment: str, repositories: Mapping[str, str]
) -> Iterator[str]:
    """Yield a line for each backbone whose weights are to come from the hub.

    Args:
        repositories: {model, or "model tag": repository}, perhaps with "@revision".
            Of a model that it lacks, and that names no repository itself, nobody knows
            here whether it is in the cache.
    """
    from huggingface_hub.errors import HFValidationError

    for name in external_files.hub_backbones(config, experiment):
        spec = config.backbones[name].spec
        model = spec["model"]
        named_repository = ""
        if model.startswith(_HUB_PREFIX):
            named_repository = model.removeprefix(_HUB_PREFIX)
        repository_and_revision = repositories.get(_hub_key(spec), named_repository)
        repository, _, revision = repository_and_revision.partition("@")
        if not repository:
            yield (
                f"backbone {name}: weights of {model} come from the Hugging Face hub "
                "or its cache"
            )
            continue
        try:
            is_in_cache = _is_in_hub_cache(repository, revision or None)
        except HFValidationError as error:
            yield f"backbone {name}: {repository} is no name of a repository: {error}"
            continue
        if not is_in_cache:
            yield (
                f"backbone {name}: will be downloaded from the Hugging Face hub, "
                f"{repository}"
            )


def _is_in_hub_cache(repository: str, revision: str | None) -> bool:
    """Say whether the weights of a repository are in the cache of the hub.

    Raises:
        HFValidationError: it is no name of a repository.
    """
    from huggingface_hub import try_to_load_from_cache

    # It returns a path, None or, of a file that is known to be missing, an object.
    cached_files = [
        try_to_load_from_cache(repository, file, revision=revision)
        for file in _HUB_FILES
    ]
    return any(isinstance(file, str) for file in cached_files)


def missing_artifacts(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each artifact that is not fetched yet."""
    for name in artifacts_of(config, experiment):
        if Path(paths.ARTIFACT.format(artifact=name)).exists():
            continue
        artifact = settings.artifacts()[name]
        sources = artifact["sources"]
        if "git" in sources[0]:
            yield _missing_repository(name, sources[0]["git"], artifact["megabytes"])
            continue
        # A source has one key, its kind, such as `url`.
        kinds = [next(iter(source)) for source in sources]
        yield f"artifact {name}: will be fetched ({' or '.join(kinds)})"


def _missing_repository(name: str, reference: str, megabytes: int) -> str:
    place = Path(paths.ARTIFACTS, name, fetch.BROUGHT_REPOSITORY)
    if place.exists():
        return f"artifact {name}: will be made from {place}, commit {reference[-40:]}"
    return (
        f"artifact {name}: will be fetched by git, about {megabytes} MB. "
        f"{fetch.how_to_bring(reference, place)}"
    )


def artifacts_of(config: Config, experiment: str) -> list[str]:
    """Return the artifacts of an experiment's datasets and backbones, each once."""
    spec = config.experiments[experiment]
    entries: list[Any] = [config.datasets[name] for name in spec.datasets]
    for name in settings.annotated_datasets(config, experiment):
        entries.append(config.datasets[name].concepts)
    entries += [config.backbones[name] for name in spec.embedding]

    artifacts: list[str] = []
    for named_entry in entries:
        artifacts += named_entry.artifact_names
    return list(dict.fromkeys(artifacts))


# What a run is refused for.


def refuse_unknown_targets(
    config: Config, command: Sequence[str], is_rule: Callable[[str], bool]
) -> None:
    """Refuse a target that can be no experiment, rule or file.

    An experiment whose leaderboard names a folder without results is refused, too.

    Args:
        command: The whole command line of this process. One that is not Snakemake's own
            says nothing of targets.
        is_rule: Whether there is a rule of a name.

    Raises:
        UserError: names the target, and the experiments that there are; or the folder.
    """
    from snakemake.cli import parse_args

    if Path(command[0]).stem not in ("snakemake", "__main__"):
        return
    # Snakemake has parsed this line before, and has said which profiles it read.
    with redirect_stderr(io.StringIO()):
        targets = parse_args(command[1:])[1].targets

    for target in targets:
        name = _experiment_of_target(target)
        if name in config.experiments:
            for line in missing_leaderboard(config, name):
                raise UserError(f"experiments.{name}.{line}")
        if is_rule(target) or Path(target).is_file():
            continue
        known_names = {*config.experiments, *paths.shared_folders()}
        if "/" not in name and name not in known_names:
            raise unknown_experiment(config, name)


def _experiment_of_target(target: str) -> str:
    """Return the experiment of a file below results/, or else the target itself."""
    parts = PurePosixPath(target).parts
    if parts[:1] == (paths.RESULTS,) and len(parts) > 2:
        return parts[1]
    return target


def unknown_experiment(config: Config, experiment: str) -> UserError:
    """Return the error that an experiment is not there."""
    names = ", ".join(config.experiments)
    return UserError(
        f"there is no experiment {experiment!r} in the config; there are: {names}, and "
        "those of a file of yours, given by make's CONFIG=FILE or snakemake's "
        f"--configfile config.yaml FILE{did_you_mean(experiment, config.experiments)}"
    )


def refuse_lost_inputs(
    config: Config,
    jobs: Iterable[tuple[str, Mapping[str, str]]],
    files_to_be_made: Iterable[str] = (),
) -> None:
    """Refuse a run that would make a file anew of what is not there.

    The run would delete the file that was made before, and fail. Such files are indices
    of datasets, embeddings and imported SAEs.

    Args:
        jobs: Rules and wildcards of the jobs that are to run.
        files_to_be_made: The files that they make. A path among, above or below them is
            there in time, as is what a bucket has.

    Raises:
        UserError: names the entries and their paths.
    """
    lines: list[str] = []
    coming = [os.path.abspath(file) for file in files_to_be_made]
    for rule, wildcards in jobs:
        if rule in ("dataset", "embed", "embed_shard"):
            lines += _missing_root(config, wildcards["dataset"], coming)
        if rule in ("dataset", "download"):
            lines += _wrong_dataset(config, wildcards["dataset"], coming)
        if rule in ("embed", "embed_shard", "weights"):
            lines += _wrong_backbone(config, wildcards["backbone"])
        if rule in ("embed", "embed_shard"):
            lines += _missing_weights(config, wildcards["backbone"], coming)
        if rule == "imported":
            lines += _missing_import(config, wildcards["method"], coming)
    if lines:
        # Several jobs may lack the same.
        text = "; ".join(dict.fromkeys(lines))
        raise UserError(f"{text}. Nothing was started: correct the entry in the config")


# One entry each. `coming` are absolute paths that are made in time.


def _missing_root(
    config: Config, dataset: str, coming: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line if the root of a dataset is not there, nor will be downloaded."""
    spec = config.datasets[dataset].spec
    root = spec.get("root")
    if root and not spec.get("download") and not _will_exist(root, coming):
        yield f"dataset {dataset}: {root} does not exist (docs/data.md)"


def _missing_concepts(config: Config, experiment: str, dataset: str) -> Iterator[str]:
    """Yield a line for each file of concepts that an experiment reads and lacks."""
    if not settings.reads_concepts(config, experiment):
        return
    for file in external_files.concept_files(config, dataset):
        if not Path(file).exists():
            yield f"dataset {dataset}: concepts {file} does not exist (docs/data.md)"


def _missing_given_embeddings(
    config: Config, dataset: str, backbone: str
) -> Iterator[str]:
    """Yield a line for each file of given embeddings that does not exist."""
    for path in external_files.given_embeddings(config, dataset, backbone):
        file = Path(path)
        if not file.exists():
            advice = _SAVE_ARRAYS if file.with_suffix(".npz").exists() else ""
            yield f"dataset {dataset}: {file} does not exist{advice}"


def _wrong_dataset(
    config: Config, dataset: str, coming: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line if a dataset's type finds its names or folders wrong."""
    dataset_entry = config.datasets[dataset]
    spec = dataset_entry.spec
    root = Path(spec.get("root", "."))
    is_made_later = spec.get("download") or _overlaps(str(root), coming)
    if dataset_entry.type == "torchvision" or (root.exists() and not is_made_later):
        problem = _check_early("dataset", dataset_entry.type, dataset_entry)
        if problem:
            yield f"dataset {dataset}: {problem}"


def _missing_weights(
    config: Config, backbone: str, coming: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for each path of a backbone's weights that does not exist."""
    spec = config.backbones[backbone].spec
    for key, path in external_files.weights_paths(spec).items():
        if not _will_exist(path, coming):
            yield f"backbone {backbone}: {key} {path} does not exist (docs/data.md)"


def _wrong_backbone(config: Config, backbone: str) -> Iterator[str]:
    """Yield a line if the library of a backbone's loader does not know its model.

    Models that costs.yaml names are known without asking the library, so that a dry run
    does not wait for torch.
    """
    backbone_entry = config.backbones[backbone]
    spec = backbone_entry.spec
    if _hub_key(spec) in costs.cost_table()["hub"]:
        return
    weights = external_files.weights_paths(spec).values()
    if not all(os.path.exists(path) for path in weights):
        return
    problem = _check_early("backbone", backbone_entry.loader, backbone_entry)
    if problem:
        yield f"backbone {backbone}: {problem}"


def _check_early(
    kind: Literal["dataset", "backbone"], name: str, entry: Dataset | Backbone
) -> str | None:
    """Return what a dataset's type or a backbone's loader finds wrong before any job.

    Args:
        kind: What the entry is.
        name: Its type or loader.
        entry: The entry in the config, which has the options of that type or loader.

    Returns:
        None if nothing is wrong, or the type or loader cannot tell: it has no function
        `check_early`, or is one of the user's own.
    """
    module_name = registry.module_name(kind, name)
    if module_name.startswith(registry.EXTENSIONS):
        return None
    if "check_early" not in registry.head(kind, name).defined_names:
        return None
    try:
        registry.load(kind, name).check_early(entry)
    except UserError as error:
        return str(error)
    except OSError:  # Of a folder that is closed, say: the job names the file.
        return None
    return None


def _hub_key(spec: Mapping[str, Any]) -> str:
    """Return what costs.yaml calls the weights of a backbone: its model and tag."""
    model: str = spec["model"]
    return f"{model} {spec['pretrained']}" if "pretrained" in spec else model


def _missing_import(
    config: Config, method: str, coming: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line if the SAE of a method is neither here nor can be on the hub."""
    place = settings.import_settings(config, method)["place"]
    if _will_exist(place, coming):
        return
    # Imported here, since it imports torch, which a plan does without.
    from sae.models.checkpoints import REPOSITORY

    imported_file = paths.IMPORTED.format(method=method)
    if not REPOSITORY.fullmatch(place):
        yield (
            f"method {method}: {place} does not exist, and is no owner/name[:folder] "
            "of the Hugging Face hub"
        )
    # A place like owner/name whose folder is here was a file, not a repository.
    elif Path(imported_file).exists() and Path(place).parent.is_dir():
        yield (
            f"method {method}: {place}, of which {imported_file} was made, does not "
            "exist any more"
        )


def _will_exist(path: str, coming: Collection[str]) -> bool:
    """Return whether a path exists, or is made in time."""
    return Path(path).exists() or _overlaps(path, coming)


def _overlaps(path: str, coming: Collection[str]) -> bool:
    """Return whether a path is among, above or below what is made in time."""
    absolute = os.path.abspath(path)
    for coming_path in coming:
        common = os.path.commonpath((absolute, coming_path))
        if common in (absolute, coming_path):
            return True
    return False
