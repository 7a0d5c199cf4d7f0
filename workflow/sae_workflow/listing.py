"""What lies below a dataset's root, told without opening a file: a plan notices one that is added, replaced or gone."""

import functools
import hashlib
import os
from collections.abc import Iterator

from sae.config.models import Dataset


def of(dataset: Dataset) -> str:
    """The number of files below a dataset's root, and a hash of their names, sizes and times.

    Empty where it is not needed: artifacts and embeddings are followed by their hashes, and torchvision checks what it
    downloads.
    """
    root = dataset.spec.get("root")
    return "" if root is None or dataset.spec.get("download") or not dataset.has_images else _below(root)


@functools.cache  # ImageNet's 1.3 million files take 5 seconds, and Snakemake asks several times.
def _below(root: str) -> str:
    count, hashed = 0, hashlib.sha256()
    for line in _files(root, "", ()):
        count += 1
        hashed.update(os.fsencode(line))
    return f"{count} files {hashed.hexdigest()[:16]}"


def _files(folder: str, name: str, above: tuple[os.stat_result, ...]) -> Iterator[str]:
    """A line for each file below a folder, in order of names. Links are followed, but for those to a folder above."""
    try:
        here, entries = os.stat(folder), sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # The job says what is wrong.
    if any(os.path.samestat(here, one) for one in above):
        return
    for entry in entries:
        try:
            is_folder, stat = entry.is_dir(), entry.stat()
        except OSError:  # A link to nowhere.
            continue
        if is_folder:
            yield from _files(entry.path, f"{name}{entry.name}/", (*above, here))
        else:
            yield f"{name}{entry.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
