"""Bring a backbone's weights from the Hugging Face hub into its cache, for jobs on machines without internet."""

from sae.core import files, registry
from sae.data.embed import LOADERS
from sae.core.errors import UserError


def fetch(name, spec, out):
    """Bring the files of backbone `name` that the cache lacks, then write the manifest `out`.

    It holds the repo, name and SHA-256 of each file; neither a path nor a time.

    Raises:
        UserError: a file is not to be had, or the backbone has none on the hub.
    """
    module = registry.load(LOADERS, spec["loader"])
    fetched = module.fetch(spec) if hasattr(module, "fetch") else []
    if not fetched:
        raise UserError(f"backbone {name}: its weights are not named on the hub but local: there is nothing to fetch")
    listed = [{"repo": file.repo, "file": file.name, "sha256": files.sha256(file.path)} for file in fetched]
    files.write_json(out, {"backbone": name, "files": listed})
