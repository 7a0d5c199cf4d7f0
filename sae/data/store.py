"""The activation store: one folder for each split, which is never changed after its manifest is written.

`embeddings.npy` holds (N, d) float16 or float32 and can be memory-mapped. `index.parquet` has the same N rows.
`manifest.json` is written last, with the shape, the dtype and the SHA-256 of both files.
"""

import os
import platform
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.core import files
from sae.core.errors import UserError
from sae.data.parts import Part, write_header

TYPES = ("float16", "float32")


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
    manifest: dict[str, Any]

    @property
    def grouped(self) -> bool:
        """Whether `group` joins several images."""
        return self.manifest["dataset"]["grouped"]

    def sample(self, count: int, seed: int = 0) -> "Activations":
        """At most `count` of the rows, drawn at random; they keep their order."""
        if len(self.index) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.index), count, replace=False))
        # A memory map of its own, closed at once: pages read from one that stays open would stay in memory.
        mapped = isinstance(self.embeddings, np.memmap) and self.embeddings.filename
        embeddings = np.load(mapped, mmap_mode="r") if mapped else self.embeddings
        return Activations(embeddings[rows], self.index.iloc[rows].reset_index(drop=True), self.manifest)


def write(folder: str | Path, batches: Iterable[np.ndarray], index: pd.DataFrame, provenance: dict[str, Any]) -> None:
    """Write one split.

    Args:
        folder: the split's folder; made if needed.
        batches: arrays (n, d), in the order of `index`.
        index: N rows.
        provenance: entries of the manifest: dataset, backbone, preprocessing, artifacts.

    Raises:
        UserError: an array does not have two dimensions, another type than float16 and float32, another d or type than
            the first, or values that are not finite; or there are no N rows.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    with files.atomic_file(folder / "embeddings.npy") as temporary:
        # Not a memory map: its pages would count as this process's memory, all of them in the end.
        shape, dtype, done = None, None, 0
        with open(temporary, "wb") as file:
            for batch in batches:
                if batch.ndim != 2 or batch.dtype.name not in TYPES or not np.isfinite(batch).all():
                    raise UserError(
                        f"{folder}: the backbone gave {batch.dtype} of shape {batch.shape}, or values that are not "
                        f"finite; expected (n, d) of {' or '.join(TYPES)}"
                    )
                if shape is None or dtype is None:
                    shape, dtype = (len(index), batch.shape[1]), batch.dtype
                    write_header(file, shape, dtype)
                if (batch.shape[1], batch.dtype) != (shape[1], dtype):
                    raise UserError(
                        f"{folder}: the backbone gave d and type {batch.shape[1], batch.dtype} after others"
                    )
                file.write(np.ascontiguousarray(batch).data)
                done += len(batch)
        if shape is None or dtype is None or done != len(index):
            raise UserError(f"{folder}: {done} embeddings for {len(index)} images")
    _seal(folder, index, provenance, shape, dtype)


def adopt(folder: str | Path, parts: Sequence[Part], index: pd.DataFrame, provenance: dict[str, Any]) -> None:
    """Write one split from finished parts, in their order; a single part is linked, not copied.

    Raises:
        UserError: the parts differ in d or dtype, or have not as many rows as `index`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    parts = [part for part in parts if part.rows]
    kinds = {(part.shape[1], part.dtype) for part in parts if part.shape is not None and part.dtype is not None}
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


def _seal(folder: Path, index: pd.DataFrame, provenance: dict[str, Any], shape: Sequence[int], dtype: np.dtype) -> None:
    files.write_parquet(folder / "index.parquet", index)
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


def versions() -> dict[str, str]:
    """What an embedding may depend on: {package: version}."""
    packages = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")
    return {package: version(package) for package in packages} | {"python": platform.python_version()}


def read(folder: str | Path) -> Activations:
    """Open one split and check its content against its manifest.

    Raises:
        UserError: a file is missing, truncated or altered, or holds no floats; the message names it.
    """
    folder = Path(folder)
    manifest = files.read_json(folder / "manifest.json", "manifest of activations")
    for name, digest in manifest["sha256"].items():
        files.check_sum(folder / name, digest, folder / "manifest.json", f"delete {folder} and run again")
    embeddings = np.load(folder / "embeddings.npy", mmap_mode="r")
    if list(embeddings.shape) != manifest["shape"] or embeddings.dtype.name not in TYPES:
        raise UserError(
            f"{folder / 'embeddings.npy'} holds {embeddings.dtype} of shape {embeddings.shape}, expected "
            f"{' or '.join(TYPES)} of shape {manifest['shape']}"
        )
    return Activations(embeddings, files.read_parquet(folder / "index.parquet"), manifest)
