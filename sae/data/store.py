"""The activation store: one folder for each split, which is never changed after its manifest is written.

`embeddings.npy` holds (N, d) float16 or float32 and can be memory-mapped. `index.parquet` has the same N rows.
`manifest.json` is written last, with the shape, the dtype and the SHA-256 of both files.
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

from sae.core import files
from sae.data.parts import Part, header

AT_ONCE = 8192  # rows at most that are read from one memory map


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

    def drawn(self, count: int, seed: int = 0) -> np.ndarray:
        """The numbers of at most `count` rows, drawn at random, ascending."""
        every = len(self.index)
        return np.sort(
            np.random.default_rng(seed).choice(every, min(count, every), replace=False)
        )

    def sample(self, count: int, seed: int = 0) -> "Activations":
        """At most `count` of the rows, those :meth:`drawn`."""
        rows = self.drawn(count, seed)
        if len(rows) == len(self.index):
            return self
        embeddings = rows_of(self.embeddings, rows)
        return Activations(
            embeddings, self.index.iloc[rows].reset_index(drop=True), self.manifest
        )


def rows_of(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, d) some rows, in memory."""
    parts = np.array_split(rows, max(1, -(-len(rows) // AT_ONCE)))
    return np.concatenate([_anew(embeddings)[part] for part in parts])


def _anew(embeddings: np.ndarray) -> np.ndarray:
    """The same; of a whole memory map a new one, since pages read from one that stays open stay in memory."""
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
    parts: Sequence[Part],
    index: pd.DataFrame,
    provenance: dict[str, Any],
) -> None:
    """Write one split from complete parts of one d and dtype, in their order; a single part is linked, not copied."""
    folder, parts = Path(folder), [part for part in parts if part.rows]
    (folder / "manifest.json").unlink(missing_ok=True)
    kind = parts[0].kind
    assert kind is not None  # It is complete.
    with files.atomic_file(folder / "embeddings.npy") as temporary:
        if len(parts) == 1:
            with suppress(OSError):  # Not every file system has hard links.
                os.link(parts[0].path, temporary)
        if not temporary.exists():
            with open(temporary, "wb") as out:
                out.write(header(len(index), kind))
                for part in parts:
                    with open(part.path, "rb") as file:
                        file.seek(len(header(part.rows, kind)))
                        shutil.copyfileobj(file, out, 1 << 24)
    files.write_parquet(folder / "index.parquet", index)
    made = {
        "shape": [len(index), kind[0]],
        "dtype": str(kind[1]),
        "sha256": {
            name: files.sha256(folder / name)
            for name in ("embeddings.npy", "index.parquet")
        },
        "versions": versions(),
    }
    files.write_json(folder / "manifest.json", provenance | made)


def made_of(manifest: dict[str, Any]) -> list[str]:
    """The fingerprints of a split's images, and of its backbone with the precision: those of any processor."""
    return [manifest[part]["fingerprint"] for part in ("dataset", "backbone")]


def versions() -> dict[str, str]:
    """What an embedding may depend on: {package: version}."""
    packages = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")
    return {package: version(package) for package in packages} | {
        "python": platform.python_version()
    }


def read(folder: str | Path) -> Activations:
    """Open one split and check its content against its manifest.

    Raises:
        UserError: a file is missing, truncated or altered; the message names it.
    """
    embeddings, manifest = opened(folder)
    return Activations(
        embeddings, files.read_parquet(Path(folder) / "index.parquet"), manifest
    )


def opened(folder: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The embeddings and the manifest of one split, checked as by :func:`read`; the index is not loaded."""
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
