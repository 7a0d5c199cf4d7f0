"""A dataset: what images there are, with labels, groups and splits, and how one opens.

:func:`build` writes the index of a dataset once. :func:`load` and :func:`reader` are
for those who need the images themselves.
"""

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Whole
from sae.data import artifacts, pictures
from sae.data.clock import Clock
from sae.data.entries import DatasetEntry, ImageDatasetEntry, parse
from sae.data.splits import SPLITS, choose_share

VERSION = 1
progress = logging.getLogger("sae.progress")
# Keys of a dataset's mapping that do not say what the images are, but where they lie or
# what to check.
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
OpenImage = Callable[[str], Image.Image]


def _no_images(path: str) -> Image.Image:
    raise UserError(
        f"the dataset has no images, so that {path!r} cannot be opened: use a loader "
        "that needs none"
    )


@dataclass(frozen=True)
class Dataset:
    """A dataset as an entry of `sae.data.datasets` returns it.

    Attributes:
        index: one row per image, columns `COLUMNS` (`label` and `label_coarse`
            integers, null where there is no single label; the rest text).
        open: returns the image of a row's `path` as Pillow opened it, of any mode; of a
            dataset that was loaded (:func:`load`) in RGB (`sae.data.pictures.rgb`).
            Left out where there are only embeddings.
        grouped: whether `group` joins several images (near-duplicates that must not
            cross splits).
    """

    index: pd.DataFrame
    open: OpenImage = _no_images
    grouped: bool = False


def load(spec: dict[str, Any], artifacts_root: str | Path | None) -> Dataset:
    """Load the dataset that `spec` (its mapping in the config) describes.

    Args:
        spec: the mapping.
        artifacts_root: folder of fetched artifacts; None for a dataset without any.

    Returns:
        The dataset, its index checked. Its images open in RGB.

    Raises:
        UserError: the type is unknown, a name is no text, the index breaks the contract
            (:func:`check`), or `train_share` is said of a dataset without images.
    """
    return _load_entry(parse("dataset", spec), artifacts_root)


def _load_entry(entry: DatasetEntry, artifacts_root: str | Path | None) -> Dataset:
    try:
        dataset: Dataset = entry.entry_module.load(entry.own_options, artifacts_root)
    # Python keeps bytes of names that are no UTF-8 as surrogates.
    except UnicodeEncodeError as error:
        spec = entry.spec
        root = f", root {spec['root']}" if "root" in spec else ""
        raise UserError(
            f"dataset type {entry.type}{root}: the name {error.object!r} is not UTF-8, "
            "and an index holds text: rename that file, folder, member of a tar or "
            "class"
        ) from None
    check(entry.type, dataset)
    if isinstance(entry, ImageDatasetEntry) and entry.train_share != 1:
        dataset = _with_share_of_train(entry, dataset)
        check(entry.type, dataset)
    return replace(dataset, open=_guarded(entry, dataset.open))


def _with_share_of_train(entry: ImageDatasetEntry, dataset: Dataset) -> Dataset:
    """Return a dataset with a share of its training groups, drawn class by class."""
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
        entry.train_share,
        entry.spec.get("split_seed") or 0,
    )
    if not is_kept[is_train].any():
        raise UserError(
            f"dataset type {entry.type}, key train_share: {entry.train_share} "
            f"leaves none of {groups.nunique()} groups of training images; write a "
            "larger share"
        )
    return replace(dataset, index=index[is_kept].reset_index(drop=True))


def reader(spec: dict[str, Any], artifacts_root: str | Path | None) -> OpenImage:
    """Return the function that opens an image of a dataset by its `path`, in RGB.

    Args:
        spec: the dataset's mapping in the config.
        artifacts_root: folder of fetched artifacts; None for a dataset without any.
    """
    return reader_of(parse("dataset", spec), artifacts_root)


def reader_of(entry: DatasetEntry, artifacts_root: str | Path | None) -> OpenImage:
    """Return the function that opens an image of an entry by its `path`, in RGB.

    A type that has a `reader` or an `opener` does not list its images for this.
    """
    module = entry.entry_module
    if hasattr(module, "reader"):
        open_image = module.reader(entry.own_options)
    elif hasattr(module, "opener"):
        open_image = module.opener(entry.own_options, artifacts_root)
    else:
        open_image = module.load(entry.own_options, artifacts_root).open
    return _guarded(entry, open_image)


def _guarded(entry: DatasetEntry, open_image: OpenImage) -> pictures.Guard:
    most_megapixels = None
    if isinstance(entry, ImageDatasetEntry):
        most_megapixels = entry.max_megapixels
    return pictures.Guard(open_image, most_megapixels or pictures.MAX_MEGAPIXELS)


def check(type_name: str, dataset: Dataset) -> None:
    """Check an index against the contract.

    Args:
        type_name: the dataset's type, for error messages.
        dataset: what the type's `load` returned.

    Raises:
        UserError: the columns are not `COLUMNS`, a label is no class number, a class
            has two names or lies in two coarse ones, a split has no rows, an image
            occurs twice, or a group lies in two splits.
    """
    index = dataset.index
    if list(index.columns) != COLUMNS:
        raise UserError(
            f"dataset type {type_name}: index has columns {list(index.columns)}, "
            f"expected {COLUMNS}"
        )
    for column in ("label", "label_coarse"):
        _check_class_numbers(type_name, index, column)
    for of, column in (
        ("label", "label_name"),
        ("label_coarse", "label_coarse_name"),
        ("label", "label_coarse"),
    ):
        _check_one_of_each(type_name, index, of, column)

    empty = [split for split in SPLITS if not (index["split"] == split).any()]
    if empty:
        raise UserError(f"dataset {type_name}: no image in split {', '.join(empty)}")
    if not index["image_id"].is_unique:
        repeated = index["image_id"][index["image_id"].duplicated()].iloc[0]
        raise UserError(f"dataset {type_name}: image_id {repeated!r} occurs twice")

    if not dataset.grouped:
        return
    splits_of_group = index.groupby("group")["split"].nunique()
    if (splits_of_group > 1).any():
        raise UserError(
            f"dataset {type_name}: group {splits_of_group.idxmax()!r} lies in more "
            "than one split"
        )


def _check_class_numbers(type_name: str, index: pd.DataFrame, column: str) -> None:
    numbers = index[column]
    if not pd.api.types.is_integer_dtype(numbers) or numbers.dtype == "uint64":
        raise UserError(
            f"dataset {type_name}: {column} is {numbers.dtype}, expected int64 or Int64"
        )
    negative = index[(numbers < 0).fillna(False)]
    if len(negative):
        raise UserError(
            f"dataset {type_name}: image {negative['image_id'].iloc[0]!r} has the "
            f"{column} {negative[column].iloc[0]}, expected a class number from 0: "
            "correct it, or leave the labels out"
        )


def _check_one_of_each(
    type_name: str, index: pd.DataFrame, of: str, column: str
) -> None:
    """Check that each class number has one value in another column, in all splits."""
    value_counts = index.groupby(of)[column].nunique()
    contradicted = value_counts[value_counts > 1]
    if len(contradicted):
        number = contradicted.index[0]
        rows = index[(index[of] == number).fillna(False)].dropna(subset=column)
        first, second = rows.drop_duplicates(column).head(2).to_dict("records")
        raise UserError(
            f"dataset {type_name}: {of} {number} has the {column} {first[column]!r} "
            f"(image {first['image_id']!r}, {first['split']}) and {second[column]!r} "
            f"(image {second['image_id']!r}, {second['split']}): number the classes of "
            "all splits together"
        )


def build(
    name: str,
    spec: dict[str, Any],
    artifacts_root: str | Path | None,
    out: str | Path,
    *,
    workers: Whole = 0,
) -> None:
    """Write the index of a dataset and, with its fingerprint, its manifest.

    They are `out/index.parquet` and `out/manifest.json`. The splits and the row order
    are fixed here, once, for every backbone. Every image is decoded once; one that
    cannot be read is left out and named in the manifest. The column `pixels` holds what
    the others show (`sae.data.pictures.digest`): by it the fingerprint follows the
    images' content.

    Args:
        name: the dataset's.
        spec: its mapping in the config.
        artifacts_root: folder of fetched artifacts; None for a dataset without any.
        out: the folder to write into.
        workers: number of processes that decode; with 0, this process does.

    Raises:
        UserError: more images are broken than the spec's `max_broken` (default 0), or
            what :func:`load` and :func:`duplicates` raise.
    """
    entry = parse("dataset", spec)
    dataset = _load_entry(entry, artifacts_root)
    broken: dict[str, str] = {}
    index = dataset.index
    duplicate_rows: list[dict[str, list[str]]] = []
    if isinstance(entry, ImageDatasetEntry):
        outcomes = _decode_all(name, dataset, workers)
        paths = dataset.index["path"]
        broken = {
            path: outcome
            for path, outcome in zip(paths, outcomes, strict=True)
            if isinstance(outcome, str)
        }
        dataset = _without_broken(name, entry, dataset, broken)
        digests = [outcome for outcome in outcomes if not isinstance(outcome, str)]
        index = dataset.index.assign(pixels=digests)
        fractions = getattr(entry.own_options, "fractions", None)
        if fractions and not dataset.grouped and not entry.duplicates:
            index = _with_copies_in_one_split(name, index)
        duplicate_rows = duplicates(
            f"dataset {name}", "pictures", index, index["pixels"], entry
        )
        _tell_of_contradictions(name, index)
    _tell_of_odd_classes(name, dataset.index)

    out = Path(out)
    (out / "manifest.json").unlink(missing_ok=True)
    files.write_parquet(out / "index.parquet", index)
    index_hash = files.sha256(out / "index.parquet")
    sources = artifacts.manifests(artifacts_root, entry.artifact_names)
    labels = index["label"]
    files.write_json(
        out / "manifest.json",
        {
            "name": name,
            "spec": spec,
            "grouped": dataset.grouped,
            "images": {split: int((index["split"] == split).sum()) for split in SPLITS},
            "classes": int(labels.nunique()) if labels.notna().all() else 0,
            "broken": broken,
            "duplicates": duplicate_rows,
            "sha256": index_hash,
            "artifacts": sources,
            "fingerprint": _fingerprint(entry, index_hash, sources),
        },
    )


def _fingerprint(
    entry: DatasetEntry, index_hash: str, sources: list[dict[str, Any]]
) -> str:
    content = {key: value for key, value in entry.spec.items() if key not in NO_CONTENT}
    source_files = [source["files"] for source in sources]
    return files.sha256_text(files.dumps([content, index_hash, source_files]))[:16]


def _without_broken(
    name: str, entry: ImageDatasetEntry, dataset: Dataset, broken: dict[str, str]
) -> Dataset:
    """Return a dataset without the images that cannot be read, and tell of them."""
    most_broken = entry.max_broken
    if len(broken) > most_broken:
        examples = [f"{path}: {reason}" for path, reason in list(broken.items())[:3]]
        examples_in_one_line = " ".join("; ".join(examples).split())
        raise UserError(
            f"dataset {name}: {len(broken)} of {len(dataset.index)} images cannot be "
            f"read, `max_broken` of its entry in the config allows {most_broken}: "
            f"{examples_in_one_line}; mend them, or allow more to leave them out"
        )
    if not broken:
        return dataset
    progress.warning(
        "dataset %s: %d of %d images cannot be read and are left out, such as %s; its "
        "manifest lists them",
        name,
        len(broken),
        len(dataset.index),
        ", ".join(list(broken)[:3]),
    )
    is_whole = ~dataset.index["path"].isin(broken)
    index = dataset.index[is_whole].reset_index(drop=True)
    readable = replace(dataset, index=index)
    check(entry.type, readable)
    return readable


def _with_copies_in_one_split(name: str, index: pd.DataFrame) -> pd.DataFrame:
    """Return an index whose identical pictures are in the split of the first one."""
    split = index.groupby("pixels")["split"].transform("first")
    moved = index[split != index["split"]]
    if moved.empty:
        return index
    first_id = index.groupby("pixels")["image_id"].transform("first")
    progress.warning(
        "dataset %s: %d pictures are identical to one that was drawn into another split, "
        "and go to that split, such as %s = %s",
        name,
        len(moved),
        moved["image_id"].iloc[0],
        first_id[moved.index[0]],
    )
    return index.assign(split=split)


def duplicates(
    place: str,
    compared: str,
    index: pd.DataFrame,
    digests: pd.Series,
    entry: DatasetEntry,
) -> list[dict[str, list[str]]]:
    """Find what lies in more than one split.

    Args:
        place: what messages begin with: the dataset, say.
        compared: what messages call what is compared, such as "pictures".
        index: N rows with `image_id` and `split`.
        digests: N hashes of what is compared.
        entry: the dataset's entry in the config.

    Returns:
        {split: `image_id`s} of each content that lies in several splits, in the order
        of the rows.

    Raises:
        UserError: there are some, and the entry's `duplicates` does not allow them.
    """
    is_in_several = index.groupby(digests)["split"].transform("nunique") > 1
    by_digest = index[is_in_several].groupby(digests[is_in_several], sort=False)
    ids_by_split = []
    for _, equal_rows in by_digest:
        by_split = equal_rows.groupby("split", sort=False)["image_id"]
        ids_by_split.append({split: ids.tolist() for split, ids in by_split})
    if not ids_by_split:
        return []

    examples = []
    for ids_of_split in ids_by_split[:3]:
        first_ids = [f"{ids[0]} ({split})" for split, ids in ids_of_split.items()]
        examples.append(" = ".join(first_ids))
    finding = (
        f"{place}: {compared} that lie in more than one split: {len(ids_by_split)}, "
        f"such as {'; '.join(examples)}"
    )
    if entry.duplicates != "allow":
        raise UserError(
            f"{finding}: scores would rest on what was trained on; remove them, or set "
            "`duplicates: allow` in the entry of the dataset in the config: the "
            "manifest then lists them"
        )
    progress.warning("%s; its entry allows it", finding)
    return ids_by_split


def _tell_of_contradictions(name: str, index: pd.DataFrame) -> None:
    by_picture = index.groupby("pixels", sort=False)
    is_in_several = by_picture["label"].transform("nunique") > 1
    contradicted = index[is_in_several].groupby("pixels", sort=False)["image_id"]
    if len(contradicted):
        example = " = ".join(next(iter(contradicted))[1].iloc[:2])
        progress.warning(
            "dataset %s: %d pictures lie in more than one class, such as %s: nothing "
            "that predicts a class can be right about all of their images",
            name,
            len(contradicted),
            example,
        )


def _tell_of_odd_classes(name: str, index: pd.DataFrame) -> None:
    names = index["label_name"].dropna().drop_duplicates()
    spelling = names.str.strip().str.casefold()
    similar = names[spelling.duplicated(keep=False)]
    if len(similar):
        progress.warning(
            "dataset %s: %d class names differ from another one in capitals or spaces "
            "alone, such as %s: if they are one class, give it one name",
            name,
            len(similar),
            ", ".join(map(repr, names[spelling == spelling[similar.index[0]]])),
        )
    train_classes = index["label"][index["split"] == "train"].unique()
    unseen = index[index["label"].notna() & ~index["label"].isin(train_classes)]
    if len(unseen):
        progress.warning(
            "dataset %s: %d classes have no image in train, such as %s (image %r): "
            "nothing can learn them there",
            name,
            unseen["label"].nunique(),
            unseen["label"].iloc[0],
            unseen["image_id"].iloc[0],
        )


def _decode_all(name: str, dataset: Dataset, workers: int) -> list[int | str]:
    """Return :func:`_decode` of every image, in the order of the index."""
    global _open
    _open = dataset.open
    paths = dataset.index["path"].tolist()
    clock = Clock(f"dataset {name}", len(paths), len(paths))
    outcomes = []
    for outcome in _map_decode(paths, workers):
        outcomes.append(outcome)
        clock.tell(1)
    return outcomes


# Forked processes have it, so that it need not be pickled.
_open: OpenImage


def _map_decode(paths: Sequence[str], workers: int) -> Iterator[int | str]:
    if not workers:
        yield from map(_decode, paths)
        return
    # A multiprocessing.Pool would wait for ever when one of its processes is killed.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_decode, paths, chunksize=64)


def _decode(path: str) -> int | str:
    """Return the digest of an image, or the reason why it cannot be decoded."""
    try:
        return pictures.digest(_open(path))
    except pictures.UNREADABLE as error:
        return f"{type(error).__name__}: {error}"
