"""Open Images V7 (Kuznetsova et al. 2020, doi:10.1007/s11263-020-01316-z): `root/{train,validation,test}/*.jpg`.

An image has any number of labels: `label` is null, and `label_name` joins the names of the labels that people verified
as present (`Confidence` 1 in the image-level CSVs below `root/annotations/`) with '; ', in alphabetical order.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sae.core import options
from sae.core.errors import UserError
from sae.data import csv_tables, indexing
from sae.data.dataset import Dataset
from sae.data.indexing import reader
from sae.data.omissions import Omissions

VERSION = 1
_FOLDERS = {"train": "train", "val": "validation", "test": "test"}
_CLASSES = [
    "oidv7-class-descriptions.csv",
    "oidv6-class-descriptions.csv",
    "class-descriptions.csv",
]


class Options(options.Options):
    """What may be written of such a dataset."""

    root: str
    subset: str | None = None
    """A list of training images, below root: a CSV with a column ImageID, or text with one ID a line."""
    images: options.Images = options.Images()


def check_early(spec: Options) -> None:
    """Check that the folders and annotations are there; no job has run yet.

    Raises:
        UserError: a folder of images is missing, or all versions of a file of annotations.
    """
    root = indexing.root(spec.root)
    _annotations(root, _CLASSES)
    for split, folder in _FOLDERS.items():
        _refuse_no_folder(root, folder)
        _label_file(root, split, folder)


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    root = indexing.root(spec.root)
    display = _display_names(_annotations(root, _CLASSES))
    ids, paths, names = [], [], []
    omissions = Omissions()
    for split, folder in _FOLDERS.items():
        part = _images(root, folder, omissions)
        if split == "train" and spec.subset is not None:
            part = _restrict(part, root / spec.subset)
        labels = _label_file(root, split, folder)
        ids.append(part)
        paths.append(pc.binary_join_element_wise(f"{folder}/", part, ".jpg", ""))
        names.append(_names(labels, part, display))
    omissions.tell(f"open_images {root}")
    splits = np.repeat(list(_FOLDERS), [len(part) for part in ids])
    indexing.check_counts(root, spec.images, splits)
    ids, paths, names = (pa.chunked_array(column) for column in (ids, paths, names))
    return Dataset(indexing.frame(ids, paths, splits, label_name=names), reader(spec))


def _annotations(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / "annotations" / name).is_file():
            return root / "annotations" / name
    raise UserError(
        f"open_images: {root / 'annotations'} has none of {', '.join(names)}: download the first of them"
    )


def _label_file(root: Path, split: str, folder: str) -> Path:
    """The image-level labels of a split, from V7 back to V4."""
    files = [
        f"{prefix}-annotations-human-imagelabels"
        for prefix in (f"oidv7-{split}", f"oidv6-{split}", folder)
    ]
    return _annotations(
        root, [f"{file}.csv" for file in (*files, f"{files[-1]}-boxable")]
    )


def _refuse_no_folder(root: Path, folder: str) -> None:
    if not (root / folder).is_dir():
        raise UserError(
            f"open_images: no folder {folder}/ with *.jpg in {root}; it has: {indexing.contents(root)}"
        )


def _images(root: Path, folder: str, omissions: Omissions) -> pa.Array:
    """The IDs of a folder's images, sorted. An Arrow array takes a fifth of the memory of a list of strings."""
    _refuse_no_folder(root, folder)
    with os.scandir(root / folder) as entries:
        names = (entry.name for entry in entries)
        ids = pa.array(_without_ending(names, folder, omissions), pa.string())
    return ids.take(pc.sort_indices(ids))


def _without_ending(
    names: Iterable[str], folder: str, omissions: Omissions
) -> Iterator[str]:
    """Yield the names that end in .jpg, without it."""
    for name in names:
        if name.endswith(".jpg"):
            yield name.removesuffix(".jpg")
        else:
            reason = "files and folders that do not end in .jpg"
            omissions.add(reason, f"{folder}/{name}")


def _restrict(ids: pa.Array, path: Path) -> pa.Array:
    try:
        listed = csv_tables.read_column(path, "ImageID")
        wanted = pa.array(_lines(path) if listed is None else listed, pa.string())
    except csv_tables.UNREADABLE as error:
        raise UserError(
            f"open_images, key subset: {path} cannot be read: {error}"
        ) from None
    absent = wanted.filter(pc.invert(pc.is_in(wanted, value_set=ids)))
    if len(absent):
        raise UserError(
            f"open_images, key subset: {len(absent):,} of the {len(wanted):,} images that {path} lists are not in "
            f"train/, such as {absent[0]}: download them or take them from the list"
        )
    return ids.filter(pc.is_in(ids, value_set=wanted))


def _lines(path: Path) -> Iterator[str]:
    """Yield the IDs of a list with one a line."""
    with csv_tables.open_text(path) as file:
        for line in file:
            if line.strip():
                # The official downloader's lists say train/ID.
                yield line.strip().removeprefix("train/")


def _display_names(path: Path) -> dict[str, str]:
    """{LabelName: display name}. Some versions of the file have a header, which does no harm here."""
    try:
        rows = csv_tables.read_rows(path)
        return {row[0]: row[1] for row in rows if len(row) == 2}
    except csv_tables.UNREADABLE as error:
        raise UserError(
            f"{path} is not a table of class names ({error}): download it again"
        ) from None


def _names(path: Path, ids: pa.Array, display: dict[str, str]) -> pa.Array:
    """The joined label names (N,) of N images.

    The file has up to 59 million rows. It is read in chunks. Only the positive labels stay in memory, each as an ID and
    a small integer.
    """
    types = {
        "ImageID": pa.string(),
        "LabelName": pa.dictionary(pa.int32(), pa.string()),
        "Confidence": pa.float32(),
    }
    images, labels = [], []
    codes: dict[str, int] = {}
    try:
        for chunk in csv_tables.read_batches(path, types):
            chunk = chunk.filter(pc.equal(chunk["Confidence"], 1))
            # Codes of this chunk's labels to codes of the file's; a label without a
            # description names itself.
            names = [
                display.get(label, label)
                for label in chunk["LabelName"].dictionary.to_pylist()
            ]
            code = np.array(
                [codes.setdefault(name, len(codes)) for name in names],
                dtype=np.int32,
            )
            images.append(chunk["ImageID"])
            labels.append(code[chunk["LabelName"].indices.to_numpy()])
    except csv_tables.UNREADABLE as error:
        raise UserError(
            f"{path} is not a file of image-level labels ({error}): expected the columns {', '.join(types)}: "
            f"download it again"
        ) from None
    row = pc.index_in(pa.chunked_array(images, pa.string()), value_set=ids)
    known = pc.is_valid(row).to_numpy()
    rank = np.argsort(np.argsort(list(codes)))[
        np.concatenate([*labels, np.empty(0, np.int32)])[known]
    ]
    # One integer for (image, label) sorts both and drops what several annotators said.
    pairs = np.unique(row.drop_null().to_numpy() * np.int64(len(codes)) + rank)
    ends = np.searchsorted(pairs, np.arange(len(ids) + 1) * len(codes))
    texts = pa.array(sorted(codes), pa.string()).take(pairs % max(len(codes), 1))
    return pc.binary_join(pa.ListArray.from_arrays(ends.astype(np.int32), texts), "; ")
