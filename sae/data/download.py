"""Bring the images of a dataset that downloads itself below its root, for jobs on machines without internet."""

from sae.core import files, registry
from sae.data.dataset import DATASETS
from sae.core.errors import UserError


def download(name, spec, out):
    """Bring the images of dataset `name` that are not there yet, then write the manifest `out`: images of each part.

    Raises:
        UserError: they are not to be had, or the dataset's type cannot download.
    """
    module = registry.load(DATASETS, spec["type"])
    if not hasattr(module, "download"):
        raise UserError(f"dataset {name}: type {spec['type']} cannot download: take `download` out of its entry")
    files.write_json(out, {"dataset": name, "images": module.download(spec)})
