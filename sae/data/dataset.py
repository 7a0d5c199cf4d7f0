"""A dataset: an index (what images there are, their labels, groups and splits) and a way to open one image."""

import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sae.core import files, registry
from sae.core.errors import UserError
from sae.core.options import Whole
from sae.data import artifacts, pictures
from sae.data.clock import Clock
from sae.data.entries import content as content_of
from sae.data.entries import entry
from sae.data.splits import SPLITS, choose_share

VERSION = 1
progress = logging.getLogger("sae.progress")
# Keys of a spec that do not say what the images are, but where they lie or what to check.
NO_CONTENT = {
    "root",
    "images",
    "max_broken",
    "max_megapixels",
    "duplicates",
    "download",
}
COLUMNS = [
    "image_id",
    "path",
    "label",
    "label_name",
    "label_coarse",
    "label_coarse_name",
    "group",
    "split",
]


def _no_images(path: str) -> Image.Image:
    raise UserError(
        f"the dataset has no images, so that {path!r} cannot be opened: use a loader that needs none"
    )


@dataclass(frozen=True)
class Dataset:
    """What an entry of `sae.data.datasets` returns.

    Attributes:
        index: one row per image, columns `COLUMNS` (`label` and `label_coarse` integers, null where there is no single
            label; the rest text).
        open: returns the image of a row's `path` as Pillow opened it, of any mode; of a dataset that was loaded
            (:func:`load`) in RGB (`sae.data.pictures.rgb`). Left out where there are only embeddings.
        grouped: whether `group` joins several images (near-duplicates that must not cross splits).
    """

    index: pd.DataFrame
    open: Callable[[str], Image.Image] = _no_images
    grouped: bool = False


def load(spec: dict[str, Any], artifacts_root: str | Path | None) -> Dataset:
    """Load the dataset that `spec` (its mapping in the config) describes, and check its index.

    Args:
        artifacts_root: folder of fetched artifacts; None for a dataset without any.

    Raises:
        UserError: the type is unknown, a name is no text, the index breaks the contract
            (:func:`check`), or `train_share` is said of a dataset without images.
    """
    try:
        module, options = entry("dataset", spec)
        dataset: Dataset = module.load(options, artifacts_root)
    except (
        UnicodeEncodeError
    ) as error:  # Python keeps bytes of names that are no UTF-8 as surrogates.
        place = f", root {spec['root']}" if "root" in spec else ""
        said = f"the name {error.object!r} is not UTF-8, and an index holds text"
        advice = "rename that file, folder, member of a tar or class"
        raise UserError(
            f"dataset type {spec['type']}{place}: {said}: {advice}"
        ) from None
    check(spec, dataset)
    if spec.get("train_share", 1) != 1:
        dataset = _with_share_of_train(spec, dataset)
        check(spec, dataset)
    return replace(dataset, open=_guarded(spec, dataset.open))


def _with_share_of_train(spec: dict[str, Any], dataset: Dataset) -> Dataset:
    """Return a dataset with a share of its training groups, `train_share` of its entry.

    The rows that stay keep their order. Groups are drawn class by class, by the coarse
    classes where there are any, with the `split_seed` of the entry, or 0.

    Raises:
        UserError: it has no images: given embeddings belong to all rows, one by one; or
            no training group is left.
    """
    if not getattr(registry.load("dataset", spec["type"]), "HAS_IMAGES", True):
        raise UserError(
            f"dataset type {spec['type']}: train_share is for datasets of images, since "
            "given embeddings belong to its rows one by one; leave it out"
        )
    index = dataset.index
    is_train = (index["split"] == "train").to_numpy()
    train = index[is_train]
    groups = train["group"] if dataset.grouped else train["image_id"]
    has_coarse = train["label_coarse"].notna().all()
    classes = train["label_coarse"] if has_coarse else train["label"]

    is_kept = np.ones(len(index), dtype=bool)
    is_kept[is_train] = choose_share(
        groups,
        classes.fillna(-1),
        spec["train_share"],
        spec.get("split_seed") or 0,
    )
    if not is_kept[is_train].any():
        raise UserError(
            f"dataset type {spec['type']}, key train_share: {spec['train_share']} "
            f"leaves none of {groups.nunique()} groups of training images; write a "
            "larger share"
        )
    return replace(dataset, index=index[is_kept].reset_index(drop=True))


def reader(
    spec: dict[str, Any], artifacts_root: str | Path | None
) -> Callable[[str], Image.Image]:
    """Return the function that opens an image.

    A type that has a `reader` or an `opener` does not list its images for this.
    """
    module, options = entry("dataset", spec)
    if hasattr(module, "reader"):
        return _guarded(spec, module.reader(options))
    if hasattr(module, "opener"):
        return _guarded(spec, module.opener(options, artifacts_root))
    return _guarded(spec, module.load(options, artifacts_root).open)


def _guarded(
    spec: dict[str, Any], open_image: Callable[[str], Image.Image]
) -> pictures.Guard:
    return pictures.Guard(
        open_image, spec.get("max_megapixels", pictures.MAX_MEGAPIXELS)
    )


def check(spec: dict[str, Any], dataset: Dataset) -> None:
    """Check an index against the contract.

    Raises:
        UserError: the columns are not `COLUMNS`, a label is no class number, a split has no rows, an image occurs
            twice, or a group lies in two splits.
    """
    index = dataset.index
    if list(index.columns) != COLUMNS:
        raise UserError(
            f"dataset type {spec['type']}: index has columns {list(index.columns)}, expected {COLUMNS}"
        )
    for column in ("label", "label_coarse"):
        if (
            not pd.api.types.is_integer_dtype(index[column])
            or index[column].dtype == "uint64"
        ):
            raise UserError(
                f"dataset {spec['type']}: {column} is {index[column].dtype}, expected int64 or Int64"
            )
        negative = index[(index[column] < 0).fillna(False)]
        if len(negative):
            found = f"image {negative['image_id'].iloc[0]!r} has the {column} {negative[column].iloc[0]}"
            advice = (
                "expected a class number from 0: correct it, or leave the labels out"
            )
            raise UserError(f"dataset {spec['type']}: {found}, {advice}")
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
        raise UserError(
            f"dataset {spec['type']}: group {splits_of_group.idxmax()!r} lies in more than one split"
        )


def build(
    name: str,
    spec: dict[str, Any],
    artifacts_root: str | Path | None,
    out: str | Path,
    *,
    workers: Whole = 0,
) -> None:
    """Write the index of dataset `name` to `out/index.parquet`, and `out/manifest.json` with its fingerprint.

    The splits and the row order are fixed here, once, for every backbone. Every image is decoded once; one that cannot
    be read is left out and named in the manifest. The column `pixels` holds what the others show
    (`sae.data.pictures.digest`): by it the fingerprint follows the images' content.

    Args:
        name: the dataset's.
        spec: its mapping in the config.
        artifacts_root: folder of fetched artifacts; None for a dataset without any.
        out: the folder to write into.
        workers: number of processes that decode; with 0, this process does.

    Raises:
        UserError: more images are broken than the spec's `max_broken` (default 0), or :func:`duplicates` does.
    """
    dataset, module = load(spec, artifacts_root), registry.load("dataset", spec["type"])
    shown = _look(name, dataset, workers) if getattr(module, "HAS_IMAGES", True) else []
    broken = {
        path: why
        for path, why in zip(dataset.index["path"], shown, strict=False)
        if isinstance(why, str)
    }
    if len(broken) > spec.get("max_broken", 0):
        some = " ".join(
            "; ".join(
                f"{path}: {why}" for path, why in list(broken.items())[:3]
            ).split()
        )
        raise UserError(
            f"dataset {name}: {len(broken)} of {len(dataset.index)} images cannot be read, `max_broken` of its entry "
            f"in the config allows {spec.get('max_broken', 0)}: {some}; mend them, or allow more to leave them out"
        )
    if broken:
        progress.warning(
            "dataset %s: %d broken images are left out: %s",
            name,
            len(broken),
            ", ".join(broken),
        )
        kept = dataset.index[~dataset.index["path"].isin(broken)].reset_index(drop=True)
        dataset = replace(dataset, index=kept)
        check(spec, dataset)
    index, doubled = dataset.index, []
    if shown:
        index = index.assign(
            pixels=[pixels for pixels in shown if not isinstance(pixels, str)]
        )
        doubled = duplicates(
            f"dataset {name}", "pictures", index, index["pixels"], spec
        )
    (Path(out) / "manifest.json").unlink(missing_ok=True)
    files.write_parquet(Path(out) / "index.parquet", index)
    sources = artifacts.manifests(artifacts_root, spec)
    content = {
        key: value
        for key, value in content_of("dataset", spec).items()
        if key not in NO_CONTENT
    }
    index_hash, labels = (
        files.sha256(Path(out) / "index.parquet"),
        dataset.index["label"],
    )
    files.write_json(
        Path(out) / "manifest.json",
        {
            "name": name,
            "spec": spec,
            "grouped": dataset.grouped,
            "images": {
                split: int((dataset.index["split"] == split).sum()) for split in SPLITS
            },
            "classes": int(labels.nunique()) if labels.notna().all() else 0,
            "broken": broken,
            "duplicates": doubled,
            "sha256": index_hash,
            "artifacts": sources,
            "fingerprint": files.sha256_text(
                files.dumps([content, index_hash, [s["files"] for s in sources]])
            )[:16],
        },
    )


def duplicates(
    what: str,
    things: str,
    index: pd.DataFrame,
    content: pd.Series,
    spec: dict[str, Any],
) -> list[dict[str, list[str]]]:
    """What lies in more than one split: {split: `image_id`s} of each such content, in the order of the rows.

    Args:
        what, things: what messages call all of them: their dataset, say, and "pictures".
        index: N rows with `image_id` and `split`.
        content: N hashes.
        spec: the dataset's mapping in the config.

    Raises:
        UserError: there are some, and the spec's `duplicates` does not allow them.
    """
    in_several = index.groupby(content)["split"].transform("nunique") > 1
    found = []
    for _, same in index[in_several].groupby(content[in_several], sort=False):
        found.append(
            {
                split: ids.tolist()
                for split, ids in same.groupby("split", sort=False)["image_id"]
            }
        )
    if found:
        some = "; ".join(
            " = ".join(f"{ids[0]} ({split})" for split, ids in same.items())
            for same in found[:3]
        )
        said = f"{what}: {things} that lie in more than one split: {len(found)}, such as {some}"
        if spec.get("duplicates") != "allow":
            advice = "set `duplicates: allow` in the entry of the dataset in the config: the manifest then lists them"
            raise UserError(
                f"{said}: scores would rest on what was trained on; remove them, or {advice}"
            )
        progress.warning("%s; its entry allows it", said)
    return found


def _look(name: str, dataset: Dataset, workers: int) -> list[int | str]:
    """:func:`_look_at` every image, in the order of the index."""
    global _open
    _open, paths = dataset.open, dataset.index["path"].tolist()
    found: list[int | str] = []
    clock = Clock(f"dataset {name}", len(paths), len(paths))
    # A multiprocessing.Pool would wait for ever when one of its processes is killed.
    pool = (
        ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
        if workers
        else None
    )
    with pool or nullcontext():
        for seen in (
            pool.map(_look_at, paths, chunksize=64) if pool else map(_look_at, paths)
        ):
            found.append(seen)
            clock.tell(1)
    return found


_open: Callable[
    [str], Image.Image
]  # Forked processes have it, so that it need not be pickled.


def _look_at(path: str) -> int | str:
    """The `sae.data.pictures.digest` of an image; of one that cannot be decoded the reason why not, in one line."""
    try:
        return pictures.digest(_open(path))
    except pictures.UNREADABLE as error:
        return f"{type(error).__name__}: {error}"
