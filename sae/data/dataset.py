"""A dataset: an index (what images there are, their labels, groups and splits) and a way to open one image."""

import functools
import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from sae.data import artifacts
from sae.core import files, registry
from sae.data.splits import SPLITS
from sae.core.errors import UserError

progress = logging.getLogger("sae.progress")
DATASETS = "sae.data.datasets"
# Keys of a spec that say where the images are or what to check, not what they are.
NO_CONTENT = {"root", "images", "max_broken", "download"}
# What PIL raises on broken pictures.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
COLUMNS = ["image_id", "path", "label", "label_name", "label_coarse", "label_coarse_name", "group", "split"]


@dataclass(frozen=True)
class Dataset:
    """What an entry of `sae.data.datasets` returns.

    Attributes:
        index: one row per image, columns `COLUMNS` (`label` and `label_coarse` integers, null where there is no single
            label; the rest text).
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
    dataset = registry.load(DATASETS, spec["type"]).load(spec, artifacts_root)
    check(spec, dataset)
    return dataset


def reader(spec, artifacts_root):
    """Only the function that opens an image: a type with a `reader` need not list its images for that."""
    module = registry.load(DATASETS, spec["type"])
    return module.reader(spec) if hasattr(module, "reader") else module.load(spec, artifacts_root).open


def has_images(spec):
    """Whether a dataset is made of images, not of embeddings alone."""
    return getattr(registry.load(DATASETS, spec["type"]), "HAS_IMAGES", True)


def check(spec, dataset):
    """Check an index against the contract.

    Raises:
        UserError: other columns, a split without rows, an image twice, or a group in two splits.
    """
    index = dataset.index
    if list(index.columns) != COLUMNS:
        raise UserError(f"dataset type {spec['type']}: index has columns {list(index.columns)}, expected {COLUMNS}")
    empty = [split for split in SPLITS if not (index["split"] == split).any()]
    if empty:
        raise UserError(f"dataset {spec['type']}: no image in split {', '.join(empty)}")
    if not index["image_id"].is_unique:
        twice = index["image_id"][index["image_id"].duplicated()].iloc[0]
        raise UserError(f"dataset {spec['type']}: image_id {twice!r} occurs twice")
    if not dataset.grouped:
        return
    splits_of_group = index.groupby("group")["split"].nunique()
    if (splits_of_group > 1).any():
        raise UserError(f"dataset {spec['type']}: group {splits_of_group.idxmax()!r} lies in more than one split")


def build(name, spec, artifacts_root, out, *, workers=0):
    """Write the index of dataset `name` to `out/index.parquet`, and `out/manifest.json` with its fingerprint.

    The splits and the row order are fixed here, once, for every backbone. So is which images can be read: each is
    decoded once; a broken one is left out, and named in the manifest.

    Args:
        workers: processes that decode; 0 decodes here.

    Raises:
        UserError: more broken images than the spec's `max_broken` (default 0).
    """
    dataset = load(spec, artifacts_root)
    broken = _broken(name, dataset, workers) if has_images(spec) else {}
    if len(broken) > spec.get("max_broken", 0):
        some = "; ".join(f"{path}: {why}" for path, why in list(broken.items())[:3])
        raise UserError(
            f"dataset {name}: {len(broken)} of {len(dataset.index)} images cannot be read, `max_broken` of its entry "
            f"in the config allows {spec.get('max_broken', 0)}: {some}; mend them, or allow more to leave them out"
        )
    if broken:
        progress.warning("dataset %s: %d broken images are left out: %s", name, len(broken), ", ".join(broken))
        kept = dataset.index[~dataset.index["path"].isin(broken)].reset_index(drop=True)
        dataset = Dataset(kept, dataset.open, dataset.grouped)
        check(spec, dataset)
    (Path(out) / "manifest.json").unlink(missing_ok=True)
    with files.atomic_file(Path(out) / "index.parquet") as temporary:
        dataset.index.to_parquet(temporary, index=False)
    sources = [artifacts.manifest(artifacts_root, a) for a in artifacts.names(spec)]
    content = {key: value for key, value in spec.items() if key not in NO_CONTENT}
    index_hash, labels = files.sha256(Path(out) / "index.parquet"), dataset.index["label"]
    files.write_json(
        Path(out) / "manifest.json",
        {
            "name": name,
            "spec": spec,
            "grouped": dataset.grouped,
            "images": {split: int((dataset.index["split"] == split).sum()) for split in SPLITS},
            "classes": int(labels.nunique()) if labels.notna().all() else 0,
            "broken": broken,
            "sha256": index_hash,
            "artifacts": sources,
            "fingerprint": files.sha256_text(files.dumps([content, index_hash, [s["files"] for s in sources]]))[:16],
        },
    )


def _broken(name, dataset, workers):
    """{path: why} of the images that cannot be decoded."""
    paths, found, started, told = dataset.index["path"].tolist(), {}, time.monotonic(), time.monotonic()
    check_one = functools.partial(why_broken, dataset.open)
    for number, (path, why) in enumerate(zip(paths, _map(check_one, paths, workers), strict=True), 1):
        if why is not None:
            found[path] = why
        if time.monotonic() - told > 30:
            told = time.monotonic()
            rate = number / (told - started)
            left = (len(paths) - number) / rate / 60
            progress.info("%s: %d of %d images checked, %.0f/s, %.0f min left", name, number, len(paths), rate, left)
    return found


def why_broken(open_image, path):
    """None for an image that can be decoded, else the reason in one line."""
    try:
        open_image(path)
    except UNREADABLE as error:
        return f"{type(error).__name__}: {error}"
    return None


def _map(function, items, workers):
    """`map` in the given order, by forked processes, which need no pickled function."""
    global _mapped
    if not workers:
        yield from map(function, items)
        return
    _mapped = function
    # Not a Pool: that waits for ever when one of its processes is killed.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_call, items, chunksize=64)


def _call(item):
    return _mapped(item)
