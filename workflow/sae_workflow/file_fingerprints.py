"""Fingerprints of files that tell, without opening one, that a file is another one.

A plan notices by them that a file was added, replaced or lost. Snakemake alone does
not: it looks into a file only if its time is newer, and `cp -p`, `rsync -a` or `tar x`
keep times.
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator

from sae.data.entries import DatasetEntry


def fingerprint_images(dataset: DatasetEntry) -> str:
    """Return the fingerprint of all files below a dataset's root.

    Returns:
        How many files there are, and a hash of their names, sizes and times. "" where
        that is not needed: artifacts and embeddings are followed by their hashes, and
        torchvision checks what it downloads.
    """
    root = dataset.spec.get("root")
    if root is None or dataset.spec.get("download") or not dataset.has_images:
        return ""
    return _fingerprint_folder(root)


def fingerprint_files(paths: Iterable[str]) -> str:
    """Return the fingerprint of those of some files that exist.

    Returns:
        How many exist, and a hash of their names, sizes and times; "" if none does.
    """
    lines = [
        _describe(os.path.basename(path), os.stat(path))
        for path in paths
        if os.path.exists(path)
    ]
    return _fingerprint(lines) if lines else ""


@functools.cache  # ImageNet's 1.3 million files take 5 s, and Snakemake asks often.
def _fingerprint_folder(root: str) -> str:
    return _fingerprint(_describe_folder(root, prefix="", folders_above=()))


def _fingerprint(lines: Iterable[str]) -> str:
    file_count = 0
    sha256 = hashlib.sha256()
    for line in lines:
        file_count += 1
        sha256.update(os.fsencode(line))
    return f"{file_count} files {sha256.hexdigest()[:16]}"


def _describe_folder(
    folder: str, prefix: str, folders_above: tuple[os.stat_result, ...]
) -> Iterator[str]:
    """Yield a line for each file below a folder, in order of names.

    Links are followed, but for those to a folder above.

    Args:
        folder: Its path.
        prefix: What names of files in it begin with: the path from the root to it.
        folders_above: The folders from the root to it.
    """
    try:
        folder_stat = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # The job says what is wrong.
    if any(os.path.samestat(folder_stat, above) for above in folders_above):
        return

    for entry in entries:
        try:
            is_folder = entry.is_dir()
            stat = entry.stat()
        except OSError:  # A link to nowhere.
            continue
        name = f"{prefix}{entry.name}"
        if is_folder:
            yield from _describe_folder(
                entry.path, f"{name}/", (*folders_above, folder_stat)
            )
        else:
            yield _describe(name, stat)


def _describe(name: str, stat: os.stat_result) -> str:
    return f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
