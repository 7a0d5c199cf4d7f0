"""The activation store: a folder for each split, unchanged once its manifest is there.

`embeddings.npy` holds (N, d) float16 or float32 and can be memory-mapped.
`index.parquet` has the same N rows. `manifest.json` is written last, with the shape,
the dtype and the SHA-256 of both files.
"""

import mmap
import os
import platform
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sae.core import files
from sae.data.parts import PartialArray, header

# The most rows that are read from one memory map.
AT_ONCE = 8192
_COPIED_AT_ONCE = 1 << 24  # bytes


@dataclass(frozen=True)
class Activations:
    """One split of the store.

    Attributes:
        embeddings: (N, d) memory map, as the backbone gave them.
        index: N rows: `image_id`, `path`, `label`, `label_name`, `label_coarse`,
            `label_coarse_name`, `group`.
        manifest: the content of `manifest.json`.
    """

    embeddings: Float[np.ndarray, "images d"]
    index: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def grouped(self) -> bool:
        """True where `group` joins several images."""
        return self.manifest["dataset"]["grouped"]

    def draw_rows(self, count: int) -> Int[np.ndarray, " rows"]:
        """Draw at most `count` rows at random; return their numbers, ascending."""
        row_count = len(self.index)
        generator = np.random.default_rng(0)
        return np.sort(
            generator.choice(row_count, min(count, row_count), replace=False)
        )

    def sample(self, count: int) -> "Activations":
        """Return at most `count` of the rows, by :meth:`draw_rows`, in memory."""
        rows = self.draw_rows(count)
        if len(rows) == len(self.index):
            return self
        return Activations(
            rows_of(self.embeddings, rows),
            self.index.iloc[rows].reset_index(drop=True),
            self.manifest,
        )


def rows_of(
    embeddings: Float[np.ndarray, "images d"], rows: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, "rows d"]:
    """Read some rows of embeddings into memory.

    Args:
        embeddings: an array, or a memory map.
        rows: the numbers of the rows.
    """
    part_count = max(1, -(-len(rows) // AT_ONCE))
    parts = np.array_split(rows, part_count)
    return np.concatenate([_opened_anew(embeddings)[part] for part in parts])


def _opened_anew(
    embeddings: Float[np.ndarray, "images d"],
) -> Float[np.ndarray, "images d"]:
    """Open a memory map once more: pages stay in memory as long as it is open."""
    if (
        isinstance(embeddings, np.memmap)
        and isinstance(embeddings.base, mmap.mmap)
        and embeddings.flags.c_contiguous
    ):
        return np.memmap(
            embeddings.filename,
            embeddings.dtype,
            "r",
            embeddings.offset,
            embeddings.shape,
        )
    return embeddings


def adopt(
    folder: str | Path,
    parts: Sequence[PartialArray],
    index: pd.DataFrame,
    provenance: dict[str, Any],
) -> None:
    """Write one split from complete parts, laid end to end.

    A single part is linked, not copied, where the file system has hard links.

    Args:
        folder: the split's folder.
        parts: complete parts of one d and dtype, in their order; some may be empty.
        index: as many rows as the parts have together.
        provenance: what the manifest says beside shape, dtype, hashes and versions.
    """
    folder = Path(folder)
    parts = [part for part in parts if part.rows]
    (folder / "manifest.json").unlink(missing_ok=True)
    row_type = parts[0].row_type
    assert row_type is not None  # It is complete.

    with files.atomic_file(folder / "embeddings.npy") as temporary:
        if len(parts) == 1:
            with suppress(OSError):  # Not every file system has hard links.
                os.link(parts[0].path, temporary)
        if not temporary.exists():
            _join_parts(parts, temporary)
    files.write_parquet(folder / "index.parquet", index)

    hashed_files = ("embeddings.npy", "index.parquet")
    manifest = {
        **provenance,
        "shape": [len(index), row_type.d],
        "dtype": str(row_type.dtype),
        "sha256": {name: files.sha256(folder / name) for name in hashed_files},
        "versions": versions(),
    }
    files.write_json(folder / "manifest.json", manifest)


def _join_parts(parts: Sequence[PartialArray], target: Path) -> None:
    row_type = parts[0].row_type
    assert row_type is not None
    row_count = sum(part.rows for part in parts)
    with open(target, "wb") as joined_file:
        joined_file.write(header(row_count, row_type))
        for part in parts:
            with open(part.path, "rb") as part_file:
                part_file.seek(len(header(part.rows, row_type)))
                shutil.copyfileobj(part_file, joined_file, _COPIED_AT_ONCE)


def made_of(manifest: dict[str, Any]) -> list[str]:
    """Return the fingerprints of a split's images and of its backbone.

    That of the backbone covers its precision. Both are those of any processor.
    """
    return [manifest[part]["fingerprint"] for part in ("dataset", "backbone")]


def versions() -> dict[str, str]:
    """Return {package: version} of what an embedding may depend on."""
    packages = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")
    version_of_package = {package: version(package) for package in packages}
    version_of_package["python"] = platform.python_version()
    return version_of_package


def read(folder: str | Path) -> Activations:
    """Open one split and check its content against its manifest.

    Raises:
        UserError: a file is missing, truncated or altered; the message names it.
    """
    embeddings, manifest = open_embeddings(folder)
    index = files.read_parquet(Path(folder) / "index.parquet")
    return Activations(embeddings, index, manifest)


def open_embeddings(
    folder: str | Path,
) -> tuple[Float[np.ndarray, "images d"], dict[str, Any]]:
    """Open the embeddings and the manifest of one split; leave its index on disk.

    Raises:
        UserError: as :func:`read`; the index is checked too.
    """
    folder = Path(folder)
    manifest = files.read_json(folder / "manifest.json", "manifest of activations")
    for name, digest in manifest["sha256"].items():
        files.check_sum(
            folder / name,
            digest,
            folder / "manifest.json",
            f"delete {folder} and run again",
        )
    return np.load(folder / "embeddings.npy", mmap_mode="r"), manifest
