"""Download the images of a dataset, or the weights of a backbone, for jobs on machines without internet."""

from pathlib import Path
from typing import Any

from sae.core import files
from sae.core.errors import UserError
from sae.data.entries import entry


def images(name: str, spec: dict[str, Any], out: str | Path) -> None:
    """Download the images of dataset `name` that are missing to below its root, then write the manifest `out`.

    The manifest holds the number of images of each part.

    Args:
        name: the dataset's.
        spec: its mapping in the config.
        out: the file to write.

    Raises:
        UserError: they cannot be downloaded, or the dataset's type has no `download`.
    """
    module, options = entry("dataset", spec)
    if not hasattr(module, "download"):
        raise UserError(
            f"dataset {name}: type {spec['type']} cannot download: take `download` out of its entry"
        )
    files.write_json(out, {"dataset": name, "images": module.download(options)})


def weights(name: str, spec: dict[str, Any], out: str | Path) -> None:
    """Download the files of backbone `name` that the Hugging Face hub's cache lacks, then write the manifest `out`.

    The manifest holds the repo, name and SHA-256 of each file; neither a path nor a time.

    Args:
        name: the backbone's.
        spec: its mapping in the config.
        out: the file to write.

    Raises:
        UserError: a file cannot be downloaded, or the backbone has none on the hub.
    """
    module, options = entry("backbone", spec)
    fetched = module.fetch(options) if hasattr(module, "fetch") else []
    if not fetched:
        raise UserError(
            f"backbone {name}: its weights are not named on the hub but local: there is nothing to fetch"
        )
    listed = [
        {"repo": file.repo, "file": file.name, "sha256": files.sha256(file.path)}
        for file in fetched
    ]
    files.write_json(out, {"backbone": name, "files": listed})
