"""What files are there, told without opening one: a plan notices one that is added, replaced or gone.

Snakemake alone does not: it looks into a file only if its time is newer, and `cp -p`, `rsync -a` or `tar x` keep times.
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator

from sae.config.models import Dataset


def of(dataset: Dataset) -> str:
    """The number of files below a dataset's root, and a hash of their names, sizes and times.

    Empty where it is not needed: artifacts and embeddings are followed by their hashes, and torchvision checks what it
    downloads.
    """
    root = dataset.spec.get("root")
    return (
        ""
        if root is None or dataset.spec.get("download") or not dataset.has_images
        else _below(root)
    )


def of_files(files: Iterable[str]) -> str:
    """The same of these files; empty where there are none."""
    there = [file for file in files if os.path.exists(file)]
    return (
        _told(_line(os.path.basename(file), os.stat(file)) for file in there)
        if there
        else ""
    )


@functools.cache  # ImageNet's 1.3 million files take 5 seconds, and Snakemake asks several times.
def _below(root: str) -> str:
    return _told(_files(root, "", ()))


def _told(lines: Iterable[str]) -> str:
    count, hashed = 0, hashlib.sha256()
    for line in lines:
        count += 1
        hashed.update(os.fsencode(line))
    return f"{count} files {hashed.hexdigest()[:16]}"


def _files(folder: str, name: str, above: tuple[os.stat_result, ...]) -> Iterator[str]:
    """A line for each file below a folder, in order of names. Links are followed, but for those to a folder above."""
    try:
        here, entries = (
            os.stat(folder),
            sorted(os.scandir(folder), key=lambda entry: entry.name),
        )
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
            yield _line(f"{name}{entry.name}", stat)


def _line(name: str, stat: os.stat_result) -> str:
    return f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
