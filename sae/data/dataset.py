"""A dataset: an index (what images there are, their labels, groups and splits) and a way to open one image."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from sae import artifacts, files, registry
from sae.data.splits import SPLITS
from sae.errors import UserError

COLUMNS = ["image_id", "path", "label", "label_name", "label_coarse", "label_coarse_name", "group", "split"]


@dataclass(frozen=True)
class Dataset:
    """What an entry of `sae.data.datasets` returns.

    Attributes:
        index: one row per image, columns `COLUMNS` (`label` int, `label_coarse` nullable int, the rest text).
        open: from a row's `path` to a PIL image in RGB.
        grouped: whether `group` joins several images (near-duplicates that must not cross splits).
    """

    index: pd.DataFrame
    open: Callable[[str], Image.Image]
    grouped: bool = False


def load(spec, artifacts_root):
    """Load the dataset that `spec` (its mapping in the config) describes, and check its index.

    Raises:
        UserError: unknown type, or an index that breaks the contract (a split without rows, a group in two splits).
    """
    dataset = registry.load("sae.data.datasets", spec["type"]).load(spec, artifacts_root)
    index = dataset.index
    if list(index.columns) != COLUMNS:
        raise UserError(f"dataset type {spec['type']}: index has columns {list(index.columns)}, expected {COLUMNS}")
    empty = [split for split in SPLITS if not (index["split"] == split).any()]
    if empty:
        raise UserError(f"dataset {spec['type']}: no image in split {', '.join(empty)}")
    if not index["image_id"].is_unique:
        twice = index["image_id"][index["image_id"].duplicated()].iloc[0]
        raise UserError(f"dataset {spec['type']}: image_id {twice!r} occurs twice")
    splits_of_group = index.groupby("group")["split"].nunique()
    if (splits_of_group > 1).any():
        raise UserError(f"dataset {spec['type']}: group {splits_of_group.idxmax()!r} lies in more than one split")
    return dataset


def build(name, spec, artifacts_root, out):
    """Write the index of dataset `name` to `out/index.parquet`, and `out/manifest.json` with its fingerprint.

    The splits and the row order are fixed here, once, for every backbone.
    """
    dataset = load(spec, artifacts_root)
    with files.atomic_file(Path(out) / "index.parquet") as temporary:
        dataset.index.to_parquet(temporary, index=False)
    sources = [artifacts.manifest(artifacts_root, a) for a in artifacts.names(spec)]
    index_hash = files.sha256(Path(out) / "index.parquet")
    files.write_json(
        Path(out) / "manifest.json",
        {
            "name": name,
            "spec": spec,
            "grouped": dataset.grouped,
            "images": {split: int((dataset.index["split"] == split).sum()) for split in SPLITS},
            "sha256": index_hash,
            "artifacts": sources,
            "fingerprint": files.sha256_text(files.dumps([spec, index_hash, [s["files"] for s in sources]]))[:16],
        },
    )
