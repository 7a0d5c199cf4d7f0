"""What a run asks for that is not there. Quick to import, since the Snakefile does; asks no network."""

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sae.config.models import Config
from sae.core import paths, registry
from sae.core.errors import UserError, did_you_mean
from sae.data.artifacts import names as artifact_names
from sae.data.entries import NAMED_BY, entry
from sae.data.splits import SPLITS
from sae_workflow import costs, settings

_FROM_NPZ = " (save each array of the .npz by itself, with `numpy.save`)"
_HUB_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def warn(config: Config, arguments: Collection[str]) -> None:
    """Tell on stderr what the experiments named in a command line (its words) lack: data, weights, labels, judges."""
    for experiment in config.experiments:
        if experiment in arguments:
            for line in (
                *local(config, experiment),
                *labels(config, experiment),
                *unjudged(config, experiment),
            ):
                print(f"{experiment}: {line}", file=sys.stderr)


def labels(config: Config, experiment: str) -> Iterator[str]:
    """One line per label that several methods, datasets or backbones of an experiment have."""
    for section, found in settings.names(config, experiment).items():
        count = Counter(
            entry["label"] if section == "methods" else entry
            for entry in found.values()
        )
        for label in (label for label in count if count[label] > 1):
            yield f"{section}: {count[label]} have the label {label!r}, so each is printed with its name behind it"


def unjudged(config: Config, experiment: str) -> Iterator[str]:
    """One line where a protocol chooses by `detection` and all backbones are of one family, so that nobody judges."""
    spec = config.experiments[experiment]
    families = {config.backbones[name].family for name in spec.embedding}
    judged_by_families = any(
        "families" in registry.head("metric", name).constants.get("FILLED", {}).values()
        for name in settings.read_by(spec.protocols)
    )
    if len(families) == 1 and judged_by_families:
        all_are = f"all backbones are of the family {families.pop()}"
        yield f"{all_are}, so nobody judges `detection`: name one of another family as `judges`"


def refuse_unknown(
    config: Config, command: Sequence[str], is_rule: Callable[[str], bool]
) -> None:
    """Refuse a target that can be no experiment, rule or file, or whose experiment names a board that is not there.

    Args:
        command: the whole command line of this process; one that is not Snakemake's own says nothing of targets.

    Raises:
        UserError: names the target, and the experiments that there are; or the board.
    """
    from snakemake.cli import parse_args

    if Path(command[0]).stem not in ("snakemake", "__main__"):
        return
    with redirect_stderr(io.StringIO()):  # It tells of profiles, as it did before.
        targets = parse_args(command[1:])[1].targets
    for target in targets:
        parts = PurePosixPath(target).parts
        name = parts[1] if parts[:1] == (paths.RESULTS,) and len(parts) > 2 else target
        for line in board(config, name) if name in config.experiments else []:
            raise UserError(f"experiments.{name}.{line}")
        if is_rule(target) or Path(target).is_file():
            continue
        if (
            "/" not in name
            and name not in config.experiments.keys() | paths.shared_folders()
        ):
            raise unknown(config, name)


def unknown(config: Config, experiment: str) -> UserError:
    """What is said of an experiment that is not there."""
    there = ", ".join(config.experiments)
    more = "those of a file of yours, given by make's CONFIG=FILE or snakemake's --configfile config.yaml FILE"
    said = f"there is no experiment {experiment!r} in the config; there are: {there}, and {more}"
    return UserError(f"{said}{did_you_mean(experiment, config.experiments)}")


def local(config: Config, experiment: str) -> Iterator[str]:
    """One line per path of the config that does not exist: roots of datasets, local weights, others' results."""
    spec = config.experiments[experiment]
    for name in spec.datasets:
        dataset = config.datasets[name].spec
        root = Path(dataset.get("root") or ".")
        yield from _root(config, name)
        yield from _concepts(config, experiment, name)
        for backbone in spec.embedding if root.exists() else []:
            yield from _embeddings(config, name, backbone)
        if not Path(paths.DATASET.format(dataset=name)).exists():
            yield from _wrong_dataset(config, name)
        # The root alone tells nothing: datasets share it, and a download may have ended.
        is_downloaded = Path(paths.DOWNLOAD.format(dataset=name)).exists()
        if dataset.get("download") and not is_downloaded:
            yield (
                f"dataset {name}: what {root} lacks will be downloaded by torchvision, "
                "which needs the internet"
            )
    for name in spec.embedding:
        yield from _weights(config, name)
        made = (
            paths.EMBEDDINGS_MANIFEST.format(dataset=d, backbone=name, split=split)
            for d in spec.datasets
            for split in SPLITS
        )
        if not all(Path(manifest).exists() for manifest in made):
            yield from _wrong_backbone(config, name)
    yield from board(config, experiment)
    for place in config.compute.shared:
        if not Path(place).is_dir():
            yield f"compute.shared: {place} does not exist; nothing is taken from it"
    for name in settings.imported(config, experiment):
        place, lost = (
            settings.import_plan(config, name)["place"],
            [*_place(config, name)],
        )
        yield from lost
        if not lost and not Path(place).exists():
            yield f"method {name}: {place} does not exist here; it is looked for on the Hugging Face hub"


def board(config: Config, experiment: str) -> Iterator[str]:
    """One line per folder of an experiment's board that holds no results, nor will: those of the config are made."""
    coming = {
        os.path.abspath(paths.EXPERIMENT.format(experiment=name))
        for name in config.experiments
    }
    for place in config.experiments[experiment].board:
        if (
            os.path.abspath(place) not in coming
            and not Path(place, "made_by.json").exists()
        ):
            yield f"board: {place} has no made_by.json"


def refuse_lost(
    config: Config,
    jobs: Iterable[tuple[str, Mapping[str, str]]],
    made: Iterable[str] = (),
) -> None:
    """Refuse a run that would make a file of a path or a model that is not there, and lose the one made before.

    Such are indices of datasets, embeddings and imported SAEs.

    Args:
        jobs: rules and wildcards of those that are to run.
        made: the files that they make; a path among, above or below them is there in time, as what a bucket has.

    Raises:
        UserError: names the entry and its path.
    """
    lost = dict[str, None]()
    coming = [*map(os.path.abspath, made)]
    for rule, wildcards in jobs:
        if rule in ("dataset", "embed", "embed_shard"):
            lost |= dict.fromkeys(_root(config, wildcards["dataset"], coming))
        if rule in ("dataset", "download"):
            lost |= dict.fromkeys(_wrong_dataset(config, wildcards["dataset"], coming))
        if rule in ("embed", "embed_shard", "weights"):
            lost |= dict.fromkeys(_wrong_backbone(config, wildcards["backbone"]))
        if rule in ("embed", "embed_shard"):
            lost |= dict.fromkeys(_weights(config, wildcards["backbone"], coming))
        if rule == "imported":
            lost |= dict.fromkeys(_place(config, wildcards["method"], coming))
    if lost:
        raise UserError(
            f"{'; '.join(lost)}. Nothing was started: correct the entry in the config"
        )


def _root(config: Config, dataset: str, coming: Collection[str] = ()) -> Iterator[str]:
    spec = config.datasets[dataset].spec
    if (
        spec.get("root")
        and not spec.get("download")
        and not _there(spec["root"], coming)
    ):
        yield f"dataset {dataset}: {spec['root']} does not exist (docs/data.md)"


def _concepts(config: Config, experiment: str, dataset: str) -> Iterator[str]:
    """Yield a line for each file of concepts that an experiment reads and lacks."""
    if not settings.reads_concepts(config, experiment):
        return
    for file in settings.concept_files(config, dataset):
        if not Path(file).exists():
            yield f"dataset {dataset}: concepts {file} does not exist (docs/data.md)"


def _weights(
    config: Config, backbone: str, coming: Collection[str] = ()
) -> Iterator[str]:
    for key, path in settings.weights_paths(config.backbones[backbone].spec).items():
        if not _there(path, coming):
            yield f"backbone {backbone}: {key} {path} does not exist (docs/data.md)"


def _wrong_dataset(
    config: Config, dataset: str, coming: Collection[str] = ()
) -> Iterator[str]:
    """What a dataset's type finds wrong before any job: names, and folders without pictures."""
    spec = config.datasets[dataset].spec
    root = Path(spec.get("root", "."))
    is_made_later = spec.get("download") or _overlaps(str(root), coming)
    if spec["type"] == "torchvision" or (root.exists() and not is_made_later):
        wrong = _found_early("dataset", spec)
        if wrong:
            yield f"dataset {dataset}: {wrong}"


def _wrong_backbone(config: Config, backbone: str) -> Iterator[str]:
    """What the library of a backbone's loader says of its name, where the name is not known without asking."""
    spec = config.backbones[backbone].spec
    weights = settings.weights_paths(spec).values()
    if _hub_key(spec) in costs.figures()["hub"] or not all(
        map(os.path.exists, weights)
    ):
        return
    wrong = _found_early("backbone", spec)
    if wrong:
        yield f"backbone {backbone}: {wrong}"


def _found_early(
    kind: Literal["dataset", "backbone"], spec: dict[str, Any]
) -> str | None:
    """What `check_early` of an entry of the project says of its mapping; None where that is right."""
    name = spec[NAMED_BY[kind]]
    if (
        registry.module_name(kind, name).startswith(registry.EXTENSIONS)
        or "check_early" not in registry.head(kind, name).names
    ):
        return None
    try:
        module, options = entry(kind, spec)
        module.check_early(options)
    except UserError as error:
        return str(error)
    except OSError:  # Of a folder that is closed, say: the job names the file.
        return None
    return None


def _hub_key(spec: Mapping[str, Any]) -> str:
    """What costs.yaml calls the weights of a backbone: its model, and its tag if it has one."""
    model: str = spec["model"]
    return f"{model} {spec['pretrained']}" if "pretrained" in spec else model


def _place(config: Config, method: str, coming: Collection[str] = ()) -> Iterator[str]:
    place, made = (
        settings.import_plan(config, method)["place"],
        paths.IMPORTED.format(method=method),
    )
    if _there(place, coming):
        return
    from sae.models.checkpoints import (
        REPOSITORY,
    )  # Imports torch, which a plan does without.

    if not REPOSITORY.fullmatch(place):
        yield f"method {method}: {place} does not exist, and is no owner/name[:folder] of the Hugging Face hub"
    elif Path(made).exists() and Path(place).parent.is_dir():
        yield f"method {method}: {place}, of which {made} was made, does not exist any more"


def _there(path: str, coming: Collection[str]) -> bool:
    return Path(path).exists() or _overlaps(path, coming)


def _overlaps(path: str, coming: Collection[str]) -> bool:
    """Whether a path is among, above or below the absolute paths that are made in time."""
    whole = os.path.abspath(path)
    return any(os.path.commonpath((whole, made)) in (whole, made) for made in coming)


def _embeddings(config: Config, dataset: str, backbone: str) -> Iterator[str]:
    """The given embeddings of a dataset that do not exist."""
    for file in map(Path, settings.given_embeddings(config, dataset, backbone)):
        if not file.exists():
            there = file.with_suffix(".npz").exists()
            yield f"dataset {dataset}: {file} does not exist{_FROM_NPZ if there else ''}"


def hub(config: Config, experiment: str, repos: Mapping[str, str]) -> Iterator[str]:
    """One line per backbone whose weights are to come from the Hugging Face hub.

    Args:
        repos: {model, or model and tag: repo}; of others nobody knows here whether they are in the cache.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in settings.hub_backbones(config, experiment):
        backbone = config.backbones[name].spec
        model = backbone["model"]
        repo, _, revision = repos.get(
            _hub_key(backbone), model.removeprefix("hf-hub:") if ":" in model else ""
        ).partition("@")
        if not repo:
            yield f"backbone {name}: weights of {model} come from the Hugging Face hub or its cache"
        elif not any(
            isinstance(try_to_load_from_cache(repo, f, revision=revision or None), str)
            for f in _HUB_FILES
        ):
            yield f"backbone {name}: will be downloaded from the Hugging Face hub, {repo}"


def artifacts(config: Config, experiment: str) -> Iterator[str]:
    """One line per artifact that is not fetched yet."""
    for name in artifacts_of(config, experiment):
        if not Path(paths.ARTIFACT.format(artifact=name)).exists():
            kinds = (
                next(iter(source)) for source in settings.artifacts()[name]["sources"]
            )
            yield f"artifact {name}: will be fetched ({' or '.join(kinds)})"


def artifacts_of(config: Config, experiment: str) -> list[str]:
    """The artifacts of an experiment's datasets and backbones, each once."""
    spec = config.experiments[experiment]
    annotated = settings.annotated(config, experiment)
    entries = [
        *(config.datasets[name] for name in spec.datasets),
        *(config.datasets[name].concepts for name in annotated),
        *(config.backbones[name] for name in spec.embedding),
    ]
    return list(
        dict.fromkeys(
            artifact for entry in entries for artifact in artifact_names(entry.spec)
        )
    )
