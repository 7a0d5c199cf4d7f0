"""Open Images V7: `root/{train,validation,test}/*.jpg`.

Kuznetsova et al. 2020, doi:10.1007/s11263-020-01316-z. An image has any number of
labels: `label` is null, and `label_name` joins the names of the labels that people
verified as present (`Confidence` 1 in the image-level CSVs below `root/annotations/`)
with '; ', in alphabetical order.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from sae.core import options
from sae.core.errors import UserError
from sae.data import csv_tables, indexing
from sae.data.dataset import Dataset
from sae.data.indexing import reader
from sae.data.omissions import Omissions

VERSION = 1
_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
_CLASS_FILES = [
    "oidv7-class-descriptions.csv",
    "oidv6-class-descriptions.csv",
    "class-descriptions.csv",
]
_LABEL_TYPES = {
    "ImageID": pa.string(),
    "LabelName": pa.dictionary(pa.int32(), pa.string()),
    "Confidence": pa.float32(),
}


class Options(options.Options):
    """The options of such a dataset."""

    root: str
    """The folder of the images: relative to the working directory, or absolute."""
    subset: str | None = None
    """A list of training images, below root: a CSV with a column ImageID, or text with
    one ID a line."""
    images: options.Images = options.Images()
    """How many images the splits must turn out to have, where it is known."""


def check_early(spec: Options) -> None:
    """Check that the folders and annotations are there; no job has run yet.

    Raises:
        UserError: a folder of images is missing, or all versions of a file of
            annotations.
    """
    root = indexing.root(spec.root)
    _first_annotations(root, _CLASS_FILES)
    for split, folder in _FOLDERS.items():
        _refuse_no_folder(root, folder)
        _label_file(root, split, folder)


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """List the images of all splits with their labels; see `sae.data.datasets`."""
    root = indexing.root(spec.root)
    name_of_label = _read_display_names(_first_annotations(root, _CLASS_FILES))
    omissions = Omissions()
    # One Arrow array for each split.
    image_ids = []
    paths = []
    label_names = []
    for split, folder in _FOLDERS.items():
        ids = _list_images(root, folder, omissions)
        if split == "train" and spec.subset is not None:
            ids = _restrict(ids, root / spec.subset)
        label_file = _label_file(root, split, folder)
        image_ids.append(ids)
        paths.append(pc.binary_join_element_wise(f"{folder}/", ids, ".jpg", ""))
        label_names.append(_join_label_names(label_file, ids, name_of_label))
    omissions.tell(f"open_images {root}")

    splits = np.repeat(list(_FOLDERS), [len(ids) for ids in image_ids])
    indexing.check_counts(root, spec.images, splits)
    index = indexing.frame(
        pa.chunked_array(image_ids),
        pa.chunked_array(paths),
        splits,
        label_name=pa.chunked_array(label_names),
    )
    return Dataset(index, reader(spec))


def _first_annotations(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / "annotations" / name).is_file():
            return root / "annotations" / name
    raise UserError(
        f"open_images: {root / 'annotations'} has none of {', '.join(names)}: download "
        "the first of them"
    )


def _label_file(root: Path, split: str, folder: str) -> Path:
    """Return the image-level labels of a split, from V7 back to V4."""
    suffix = "annotations-human-imagelabels"
    names = [
        f"oidv7-{split}-{suffix}.csv",
        f"oidv6-{split}-{suffix}.csv",
        f"{folder}-{suffix}.csv",
        f"{folder}-{suffix}-boxable.csv",
    ]
    return _first_annotations(root, names)


def _refuse_no_folder(root: Path, folder: str) -> None:
    if not (root / folder).is_dir():
        raise UserError(
            f"open_images: no folder {folder}/ with *.jpg in {root}; it has: "
            f"{indexing.contents(root)}"
        )


def _list_images(root: Path, folder: str, omissions: Omissions) -> pa.Array:
    """Return the IDs of a folder's images, sorted."""
    # An Arrow array takes a fifth of the memory of a list of strings.
    _refuse_no_folder(root, folder)
    with os.scandir(root / folder) as entries:
        names = (entry.name for entry in entries)
        ids = pa.array(_without_ending(names, folder, omissions), pa.string())
    return ids.take(pc.sort_indices(ids))


def _without_ending(
    names: Iterable[str], folder: str, omissions: Omissions
) -> Iterator[str]:
    for name in names:
        if name.endswith(".jpg"):
            yield name.removesuffix(".jpg")
        else:
            omissions.add(
                "files and folders that do not end in .jpg", f"{folder}/{name}"
            )


def _restrict(ids: pa.Array, list_file: Path) -> pa.Array:
    try:
        column = csv_tables.read_column(list_file, "ImageID")
        if column is None:
            column = _read_lines(list_file)
        listed = pa.array(column, pa.string())
    except csv_tables.UNREADABLE as error:
        raise UserError(
            f"open_images, key subset: {list_file} cannot be read: {error}"
        ) from None
    absent = listed.filter(pc.invert(pc.is_in(listed, value_set=ids)))
    if len(absent):
        raise UserError(
            f"open_images, key subset: {len(absent):,} of the {len(listed):,} images "
            f"that {list_file} lists are not in train/, such as {absent[0]}: download "
            "them or take them from the list"
        )
    return ids.filter(pc.is_in(ids, value_set=listed))


def _read_lines(path: Path) -> Iterator[str]:
    with csv_tables.open_text(path) as file:
        for line in file:
            if line.strip():
                # The official downloader's lists say train/ID.
                yield line.strip().removeprefix("train/")


def _read_display_names(path: Path) -> dict[str, str]:
    try:
        rows = csv_tables.read_rows(path)
        return {row[0]: row[1] for row in rows if len(row) == 2}
    except csv_tables.UNREADABLE as error:
        raise UserError(
            f"{path} is not a table of class names ({error}): download it again"
        ) from None


def _join_label_names(
    label_file: Path, ids: pa.Array, name_of_label: dict[str, str]
) -> pa.Array:
    """Return the names of the positive labels of each image, joined with '; '."""
    # Of each label its image, and the place of its name in `names`.
    image_ids, name_numbers, names = _read_positive_labels(label_file, name_of_label)
    image_numbers = pc.index_in(image_ids, value_set=ids)
    is_of_image = pc.is_valid(image_numbers).to_numpy()

    # The place of each name in alphabetical order.
    rank_of_name = np.argsort(np.argsort(names))
    ranks = rank_of_name[name_numbers[is_of_image]]
    # One integer for (image, label) sorts both and drops what several annotators said.
    pairs = np.unique(
        image_numbers.drop_null().to_numpy() * np.int64(len(names)) + ranks
    )
    # Where the labels of each image start in `pairs`, and where the last ones end.
    starts = np.searchsorted(pairs, np.arange(len(ids) + 1) * len(names))
    sorted_names = pa.array(sorted(names), pa.string())
    # What is left of a pair without the image is the rank.
    texts = sorted_names.take(pairs % max(len(names), 1))
    lists = pa.ListArray.from_arrays(starts.astype(np.int32), texts)
    return pc.binary_join(lists, "; ")


def _read_positive_labels(
    path: Path, name_of_label: dict[str, str]
) -> tuple[pa.ChunkedArray, Int[np.ndarray, " labels"], list[str]]:
    """Read the labels that people verified as present."""
    # The file has up to 59 million rows. It is read in chunks, and only the positive
    # labels stay in memory, each as an ID and a small integer.
    image_ids = []
    name_numbers = [np.empty(0, dtype=np.int32)]
    number_of_name: dict[str, int] = {}
    try:
        for chunk in csv_tables.read_batches(path, _LABEL_TYPES):
            positive = chunk.filter(pc.equal(chunk["Confidence"], 1))
            labels = positive["LabelName"]
            # Numbers of this chunk's labels to numbers of the file's names.
            numbers = []
            for label in labels.dictionary.to_pylist():
                name = name_of_label.get(label, label)
                numbers.append(number_of_name.setdefault(name, len(number_of_name)))
            number_of_label = np.array(numbers, dtype=np.int32)
            image_ids.append(positive["ImageID"])
            name_numbers.append(number_of_label[labels.indices.to_numpy()])
    except csv_tables.UNREADABLE as error:
        raise UserError(
            f"{path} is not a file of image-level labels ({error}): expected the "
            f"columns {', '.join(_LABEL_TYPES)}: download it again"
        ) from None
    return (
        pa.chunked_array(image_ids, pa.string()),
        np.concatenate(name_numbers),
        list(number_of_name),
    )
