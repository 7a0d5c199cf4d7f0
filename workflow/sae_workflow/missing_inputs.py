"""What a run asks for that is not there.

It is quick to import, since the Snakefile does, and asks no network.

Snakemake lacks it: it names missing files that are a rule's input. Folders of images,
weights in the hub's cache, names that a library does not know and typing errors in a
target it does not know of, or would find only after it has deleted the old result.
"""

import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from sae.config.models import Config
from sae.core import paths, registry
from sae.core.errors import UserError, did_you_mean
from sae.data import fetch
from sae.data.entries import BackboneEntry, DatasetEntry
from sae.data.splits import SPLITS
from sae_workflow import external_files, settings

# Files of weights, one of which is in the cache of the hub if any is.
_HUB_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_HUB_PREFIX = "hf-hub:"  # how timm and open_clip mark a repository's name


# What is told before a run.


def missing_judges(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line where a protocol chooses by what no backbone can judge.

    Protocols may choose by `detection`, for which a backbone of another family judges.
    """
    spec = config.experiments[experiment]
    families = {config.backbones[name].family for name in spec.embedding}
    chooses_by_judges = "detection" in settings.validation_metrics(spec.protocols)
    if len(families) == 1 and chooses_by_judges:
        yield (
            f"all backbones are of the family {families.pop()}, so nobody judges "
            "`detection`, and the trial of highest R2 is chosen: to choose by "
            "detection, name one of another family as `judges`"
        )


def missing_files(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each path or name of the config that does not exist here.

    These are roots of datasets, local weights, results of others, SAEs to import, and
    what libraries know.
    """
    spec = config.experiments[experiment]
    for dataset in spec.datasets:
        yield from _missing_root(config, dataset)
        if settings.reads_concepts(config, experiment):
            for file in external_files.concept_files(config, dataset):
                if not Path(file).exists():
                    yield (
                        f"dataset {dataset}: concepts {file} does not exist "
                        "(docs/data.md)"
                    )
        root = Path(config.datasets[dataset].spec.get("root") or ".")
        if root.exists():
            for backbone in spec.embedding:
                yield from _missing_given_embeddings(config, dataset, backbone)
        if not Path(paths.DATASET.format(dataset=dataset)).exists():
            yield from _wrong_dataset(config, dataset)
        # The root alone tells nothing: datasets share it, and a download may have
        # ended.
        is_downloaded = Path(paths.DOWNLOAD.format(dataset=dataset)).exists()
        if config.datasets[dataset].spec.get("download") and not is_downloaded:
            yield (
                f"dataset {dataset}: what {root} lacks will be downloaded by "
                "torchvision, which needs the internet"
            )
    for backbone in spec.embedding:
        yield from _missing_weights(config, backbone)
        manifests = [
            paths.EMBEDDINGS_MANIFEST.format(
                dataset=dataset, backbone=backbone, split=split
            )
            for dataset in spec.datasets
            for split in SPLITS
        ]
        if not all(map(os.path.exists, manifests)):
            yield from _wrong_backbone(config, backbone)
    yield from missing_leaderboard(config, experiment)
    for folder in config.compute.shared:
        if not Path(folder).is_dir():
            yield f"compute.shared: {folder} does not exist; nothing is taken from it"
    for method in settings.imported_methods(config, experiment):
        place = settings.import_settings(config, method)["place"]
        lines = list(_missing_import(config, method))
        if not lines and not Path(place).exists():
            lines = [
                f"method {method}: {place} does not exist here; it is looked for on "
                "the Hugging Face hub"
            ]
        yield from lines


def missing_leaderboard(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each folder of an experiment's leaderboard that has no results.

    Those of the config's experiments will be made.
    """
    folders_to_be_made = {
        os.path.abspath(paths.EXPERIMENT.format(experiment=name))
        for name in config.experiments
    }
    for folder in config.experiments[experiment].leaderboard:
        will_be_made = os.path.abspath(folder) in folders_to_be_made
        if not will_be_made and not Path(folder, "made_by.json").exists():
            yield f"leaderboard: {folder} has no made_by.json"


def missing_downloads(config: Config, experiment: str) -> Iterator[str]:
    """Yield a line for each backbone and artifact that will be downloaded."""
    for backbone in external_files.hub_backbones(config, experiment):
        spec = config.backbones[backbone].spec
        repository = settings.costs()["hub"].get(_hub_key(spec))
        if repository is None and spec["model"].startswith(_HUB_PREFIX):
            repository = spec["model"].removeprefix(_HUB_PREFIX)
        if repository is None:
            yield (
                f"backbone {backbone}: weights of {spec['model']} come from the "
                "Hugging Face hub or its cache"
            )
        else:
            yield from _missing_repository(backbone, repository)
    for name in settings.artifacts_of(config, experiment):
        if not Path(paths.ARTIFACT.format(artifact=name)).exists():
            yield f"artifact {name}: {_source_of_artifact(name)}"


def _missing_repository(backbone: str, reference: str) -> Iterator[str]:
    """Yield a line if the hub's cache lacks a repository, or it is none.

    Args:
        backbone: Whose weights lie there.
        reference: owner/name, perhaps with "@revision".
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repository, _, revision = reference.partition("@")
    try:
        # It returns a path, None or, of a file that is known to be missing, an object.
        cached_files = [
            try_to_load_from_cache(repository, file, revision=revision or None)
            for file in _HUB_FILES
        ]
    except HFValidationError as error:
        yield f"backbone {backbone}: {repository} is no name of a repository: {error}"
        return
    if not any(isinstance(file, str) for file in cached_files):
        yield (
            f"backbone {backbone}: will be downloaded from the Hugging Face hub, "
            f"{repository}"
        )


def _source_of_artifact(name: str) -> str:
    artifact = settings.artifacts()[name]
    sources = artifact["sources"]
    if "git" not in sources[0]:
        # A source has one key, its kind, such as `url`.
        kinds = [next(iter(source)) for source in sources]
        return f"will be fetched ({' or '.join(kinds)})"
    reference = sources[0]["git"]
    place = Path(paths.ARTIFACTS, name, fetch.BROUGHT_REPOSITORY)
    if place.exists():
        return f"will be made from {place}, commit {reference[-40:]}"
    return (
        f"will be fetched by git, about {artifact['megabytes']} MB. "
        f"{fetch.how_to_bring(reference, place)}"
    )


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
        parts = PurePosixPath(target).parts
        is_result = parts[:1] == (paths.RESULTS,) and len(parts) > 2
        name = parts[1] if is_result else target
        if name in config.experiments:
            for line in missing_leaderboard(config, name):
                raise UserError(f"experiments.{name}.{line}")
        elif not (
            is_rule(target)
            or Path(target).is_file()
            or "/" in name
            or name in paths.shared_folders()
        ):
            refuse_unknown_experiment(config, name)


def refuse_unknown_experiment(config: Config, experiment: str) -> None:
    """Raise the `UserError` that an experiment is not there, if it is not."""
    if experiment in config.experiments:
        return
    names = ", ".join(config.experiments)
    raise UserError(
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
    spec = config.datasets[dataset].spec
    root = spec.get("root")
    if root and not spec.get("download") and not _will_exist(root, coming):
        yield f"dataset {dataset}: {root} does not exist (docs/data.md)"


def _missing_given_embeddings(
    config: Config, dataset: str, backbone: str
) -> Iterator[str]:
    for path in external_files.given_embeddings(config, dataset, backbone):
        file = Path(path)
        if not file.exists():
            advice = ""
            if file.with_suffix(".npz").exists():
                advice = " (save each array of the .npz by itself, with `numpy.save`)"
            yield f"dataset {dataset}: {file} does not exist{advice}"


def _wrong_dataset(
    config: Config, dataset: str, coming: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line if a dataset's type finds its names or folders wrong."""
    entry = config.datasets[dataset]
    root = entry.spec.get("root", ".")
    is_made_later = entry.spec.get("download") or _overlaps(root, coming)
    if entry.type == "torchvision" or (os.path.exists(root) and not is_made_later):
        yield from _check_early("dataset", dataset, entry.type, entry)


def _missing_weights(
    config: Config, backbone: str, coming: Collection[str] = ()
) -> Iterator[str]:
    spec = config.backbones[backbone].spec
    for key, path in external_files.weights_paths(spec).items():
        if not _will_exist(path, coming):
            yield f"backbone {backbone}: {key} {path} does not exist (docs/data.md)"


def _wrong_backbone(config: Config, backbone: str) -> Iterator[str]:
    """Yield a line if the library of a backbone's loader does not know its model.

    Models that costs.yaml names are known without asking the library, so that a dry run
    does not wait for torch.
    """
    entry = config.backbones[backbone]
    weights = external_files.weights_paths(entry.spec).values()
    is_known = _hub_key(entry.spec) in settings.costs()["hub"]
    if not is_known and all(map(os.path.exists, weights)):
        yield from _check_early("backbone", backbone, entry.loader, entry)


def _check_early(
    kind: Literal["dataset", "backbone"],
    name: str,
    type_name: str,
    entry: DatasetEntry | BackboneEntry,
) -> Iterator[str]:
    """Yield what the type or loader of an entry finds wrong before any job.

    It says nothing if it has no function `check_early`, or is one of the user's own.

    Args:
        kind: What the entry is.
        name: Its name.
        type_name: Its type or loader.
        entry: The entry in the config, which has the options of that type or loader.
    """
    is_own = registry.module_name(kind, type_name).startswith(registry.EXTENSIONS)
    if is_own or "check_early" not in registry.head(kind, type_name).defined_names:
        return
    # Of a folder that is closed, say, the job names the file.
    with suppress(OSError):
        try:
            registry.load(kind, type_name).check_early(entry)
        except UserError as error:
            yield f"{kind} {name}: {error}"


def _hub_key(spec: Mapping[str, str]) -> str:
    """Return what costs.yaml calls the weights of a backbone: its model and tag."""
    return f"{spec['model']} {spec.get('pretrained', '')}".strip()


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
    return os.path.exists(path) or _overlaps(path, coming)


def _overlaps(path: str, coming: Collection[str]) -> bool:
    """Return whether a path is among, above or below what is made in time."""
    absolute = os.path.abspath(path)
    return any(
        os.path.commonpath((absolute, other)) in (absolute, other) for other in coming
    )
