"""Files from elsewhere that the datasets, backbones and methods of a config name.

Snakemake lacks it: a rule's input is a list of files, which the workflow has to make of
folders, patterns and names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae.config.models import Config
from sae_workflow import settings

# Suffixes of a file of weights.
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".tar")
# Files that say more of an SAE, in the folder of its file.
FILES_BESIDE_SAE = ("cfg.json", "config.json", "made_by.json", "b_dec.npy")


# Backbones.


def weights_paths(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of weights that a backbone's entry names.

    Args:
        spec: The entry. Its key `pretrained` may name a tag of a library instead.

    Returns:
        {key of the entry: path}, whether the path exists or not.
    """
    paths = {key: spec[key] for key in ("checkpoint", "pretrained") if spec.get(key)}
    if "pretrained" in paths and not _is_path_of_weights(paths["pretrained"]):
        del paths["pretrained"]
    return paths


def _is_path_of_weights(text: str) -> bool:
    path = Path(text)
    return "/" in text or path.suffix in WEIGHTS_SUFFIXES or path.exists()


def is_from_hub(config: Config, backbone: str) -> bool:
    """Return whether a backbone's weights come by name from the Hugging Face hub.

    That its cache has them makes no difference.
    """
    entry = config.backbones[backbone]
    return (
        entry.constants.get("FROM_HUB", False)
        and not entry.artifact_names
        and not weights_paths(entry.spec)
    )


def hub_backbones(config: Config, experiment: str) -> list[str]:
    """Return the backbones of an experiment whose weights come from the hub."""
    backbones = config.experiments[experiment].embedding
    return [backbone for backbone in backbones if is_from_hub(config, backbone)]


def local_weights(config: Config, backbone: str) -> list[str]:
    """Return the files on this machine that a backbone's embeddings are made of."""
    weights_files: list[Path] = []
    for text in weights_paths(config.backbones[backbone].spec).values():
        path = Path(text)
        if path.is_dir():
            weights_files += sorted(path.iterdir())
        elif path.exists():
            weights_files.append(path)
    return [str(file) for file in weights_files]


def given_embeddings(config: Config, dataset: str, backbone: str) -> list[str]:
    """Return the files of a dataset's embeddings that are given, not made."""
    entry = config.backbones[backbone]
    keys = {**config.datasets[dataset].spec, **entry.spec}
    return [pattern.format(**keys) for pattern in entry.constants.get("FILES", ())]


# Datasets.


def downloaded_datasets(config: Config, experiment: str) -> list[str]:
    """Return the datasets of an experiment that their type's own function downloads."""
    return [
        dataset
        for dataset in config.experiments[experiment].datasets
        if config.datasets[dataset].spec.get("download")
    ]


def dataset_files(config: Config, dataset: str) -> list[str]:
    """Return the files that a dataset's index is made of, where its type names them."""
    entry = config.datasets[dataset]
    patterns = entry.constants.get("FILES", ())
    return [pattern.format(**entry.spec) for pattern in patterns]


def concept_files(config: Config, dataset: str) -> list[str]:
    """Return the files of one's own that say what people call a dataset's images."""
    annotation = config.datasets[dataset].concepts
    patterns = annotation.constants.get("FILES", ())
    return [pattern.format(**annotation.spec) for pattern in patterns]


# Methods whose SAEs were made elsewhere.


def imported_files(config: Config, method: str) -> list[str]:
    """Return the local files that the SAE of a method is imported from.

    An SAE that lies on the hub has none.
    """
    place = Path(settings.import_settings(config, method)["place"])
    if place.is_dir():
        return sorted(str(file) for file in place.iterdir() if file.is_file())
    if not place.exists():
        return []
    candidates = [place, *(place.with_name(name) for name in FILES_BESIDE_SAE)]
    return [str(file) for file in candidates if file.exists()]
