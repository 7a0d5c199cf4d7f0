"""Download the images of a dataset to below its root, for jobs on machines without internet."""

from pathlib import Path
from typing import Any

from sae.core import files
from sae.core.errors import UserError
from sae.data.entries import entry


def download(name: str, spec: dict[str, Any], out: str | Path) -> None:
    """Download the images of dataset `name` that are missing, then write the manifest `out`: images of each part.

    Args:
        name: the dataset's.
        spec: its mapping in the config.
        out: the file to write.

    Raises:
        UserError: they cannot be downloaded, or the dataset's type has no `download`.
    """
    module, options = entry("dataset", spec)
    if not hasattr(module, "download"):
        raise UserError(f"dataset {name}: type {spec['type']} cannot download: take `download` out of its entry")
    files.write_json(out, {"dataset": name, "images": module.download(options)})
