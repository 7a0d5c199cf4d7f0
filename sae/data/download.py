"""Download a dataset's images or a backbone's weights.

The machines that run other jobs may have no internet.
"""

from pathlib import Path
from typing import Any

from sae.core import files
from sae.core.errors import UserError
from sae.data.entries import parse


def images(name: str, spec: dict[str, Any], out: str | Path) -> None:
    """Download the images of a dataset that are missing below its root.

    Then write a manifest, which holds the number of images of each part.

    Args:
        name: the dataset's.
        spec: its mapping in the config.
        out: the file to write.

    Raises:
        UserError: they cannot be downloaded, or the dataset's type has no `download`.
    """
    entry = parse("dataset", spec)
    if not hasattr(entry.entry_module, "download"):
        raise UserError(
            f"dataset {name}: type {entry.type} cannot download: take `download` out "
            "of its entry"
        )
    image_counts = entry.entry_module.download(entry.own_options)
    files.write_json(out, {"dataset": name, "images": image_counts})


def weights(name: str, spec: dict[str, Any], out: str | Path) -> None:
    """Download the files of a backbone that the Hugging Face hub's cache lacks.

    Then write a manifest, which holds the repo, name and SHA-256 of each file; neither
    a path nor a time.

    Args:
        name: the backbone's.
        spec: its mapping in the config.
        out: the file to write.

    Raises:
        UserError: a file cannot be downloaded, or the backbone has none on the hub.
    """
    entry = parse("backbone", spec)
    hub_files = []
    if hasattr(entry.entry_module, "fetch"):
        hub_files = entry.entry_module.fetch(entry.own_options)
    if not hub_files:
        raise UserError(
            f"backbone {name}: its weights are not named on the hub but local: there "
            "is nothing to fetch"
        )
    listed = [
        {"repo": file.repo, "file": file.name, "sha256": files.sha256(file.path)}
        for file in hub_files
    ]
    files.write_json(out, {"backbone": name, "files": listed})
