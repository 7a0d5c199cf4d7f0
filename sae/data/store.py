"""The activation store: one folder a split, immutable once its manifest is there.

`embeddings.npy` (N, d) float16 or float32, memory-mappable; `index.parquet`, row for row; `manifest.json`, written
last, with the shape, the dtype and the SHA-256 of both.
"""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from sae.core import files
from sae.data.parts import write_header
from sae.core.errors import UserError


@dataclass(frozen=True)
class Activations:
    """One split of the store.

    Attributes:
        embeddings: (N, d) memory map, as the backbone gave them.
        index: N rows: `image_id`, `path`, `label`, `label_name`, `label_coarse`, `label_coarse_name`, `group`.
        manifest: what `manifest.json` holds.
    """

    embeddings: np.ndarray
    index: pd.DataFrame
    manifest: dict

    @property
    def grouped(self):
        """Whether `group` joins several images."""
        return self.manifest["dataset"]["grouped"]

    def sample(self, count, seed=0):
        """At most `count` of the rows, drawn at random, in their order."""
        if len(self.index) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.index), count, replace=False))
        # Through a map of its own, closed at once: pages read from a map that stays open would stay in memory.
        mapped = isinstance(self.embeddings, np.memmap)
        embeddings = np.load(self.embeddings.filename, mmap_mode="r") if mapped else self.embeddings
        return Activations(embeddings[rows], self.index.iloc[rows].reset_index(drop=True), self.manifest)


def write(folder, batches, index, provenance):
    """Write one split.

    Args:
        folder: where; made if needed.
        batches: iterable of arrays (n, d), in the order of `index`.
        index: DataFrame of N rows.
        provenance: goes into the manifest: dataset, backbone, preprocessing, artifacts.

    Raises:
        UserError: the backbone gave other than two dimensions, a value that is not finite, or a wrong number of rows.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    with files.atomic_file(folder / "embeddings.npy") as temporary:
        array, done = None, 0
        for batch in batches:
            if batch.ndim != 2 or not np.isfinite(batch).all():
                raise UserError(f"{folder}: the backbone gave shape {batch.shape} or values that are not finite")
            if array is None:
                shape = (len(index), batch.shape[1])
                array = np.lib.format.open_memmap(temporary, mode="w+", dtype=batch.dtype, shape=shape)
            array[done : done + len(batch)] = batch
            done += len(batch)
        if done != len(index):
            raise UserError(f"{folder}: {done} embeddings for {len(index)} images")
        array.flush()
    _seal(folder, index, provenance, array.shape, array.dtype)


def adopt(folder, parts, index, provenance):
    """Write one split from finished parts (`sae.data.parts.Part`), in their order; a single one is linked, not copied.

    Raises:
        UserError: the parts have other numbers of columns, or not as many rows as `index`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    parts = [part for part in parts if part.rows]
    kinds = {(part.shape[1], part.dtype) for part in parts}
    rows = sum(part.rows for part in parts)
    if len(kinds) != 1 or rows != len(index):
        raise UserError(f"{folder}: parts of {sorted(map(str, kinds))} with {rows} rows for {len(index)} images")
    ((d, dtype),) = kinds
    if len(parts) == 1:
        with files.atomic_file(folder / "embeddings.npy") as temporary:
            try:
                os.link(parts[0].path, temporary)
            except OSError:  # Not every file system has hard links.
                shutil.copyfile(parts[0].path, temporary)
    else:
        with files.atomic_file(folder / "embeddings.npy") as temporary, open(temporary, "wb") as file:
            write_header(file, (rows, d), dtype)
            for part in parts:
                with part.data() as data:
                    shutil.copyfileobj(data, file, 1 << 24)
    _seal(folder, index, provenance, (rows, d), dtype)


def _seal(folder, index, provenance, shape, dtype):
    with files.atomic_file(folder / "index.parquet") as temporary:
        index.to_parquet(temporary, index=False)
    hashes = {name: files.sha256(folder / name) for name in ("embeddings.npy", "index.parquet")}
    files.write_json(
        folder / "manifest.json",
        provenance
        | {
            "shape": list(shape),
            "dtype": str(dtype),
            "sha256": hashes,
            "versions": versions(),
        },
    )


def versions():
    """What an embedding may depend on: {package: version}."""
    packages = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")
    return {package: version(package) for package in packages} | {"python": platform.python_version()}


def read(folder):
    """Open one split, its content checked against its manifest.

    Raises:
        UserError: a file is missing, truncated or altered; the message names it.
    """
    folder = Path(folder)
    manifest = files.read_json(folder / "manifest.json", "manifest of activations")
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; delete {folder} and run again")
        found = files.sha256(folder / name)
        if found != digest:
            raise UserError(
                f"{folder / name} was altered or cut short: SHA-256 {found}, its manifest says {digest}; "
                f"delete {folder} and run again"
            )
    embeddings = np.load(folder / "embeddings.npy", mmap_mode="r")
    if list(embeddings.shape) != manifest["shape"]:
        raise UserError(f"{folder / 'embeddings.npy'} has shape {embeddings.shape}, expected {manifest['shape']}")
    return Activations(embeddings, pd.read_parquet(folder / "index.parquet"), manifest)
