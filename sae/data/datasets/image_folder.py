"""A folder of images: `root/{train,val,test}/{class}/*`.

Images come in the order of torchvision's ImageFolder. With `fractions` the folder is
`root/{class}/*`, and split here, each class by itself. With `val_fraction` there is no
`val`, and it is drawn from train. A class that is a WordNet ID is shown by its word.
"""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import model_validator

from sae.core import files, options
from sae.core.errors import UserError
from sae.data import indexing, pictures
from sae.data.dataset import Dataset
from sae.data.indexing import reader
from sae.data.omissions import Omissions
from sae.data.splits import SPLITS, grouped_split
from sae.data.wordnet_ids import class_words

VERSION = 1
# Folders that hold a split, as people call them, in small letters. A class may be
# called train; that folder holds pictures, not class folders.
_TRAIN_NAMES = {"train", "training"}
_OTHER_SPLIT_NAMES = {"val", "valid", "validation", "dev", "test", "testing"}
# Folders that programs leave behind, besides hidden ones: unpacked archives of macOS,
# thumbnails of a Synology, and what Windows and Linux keep on a disk.
_NO_CLASSES = {
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
}


class Options(options.Options):
    """The options of such a dataset."""

    root: str
    """Relative to the working directory, or absolute."""
    fractions: options.Fractions | None = None
    """The share of each split, of a root that has class folders alone."""
    val_fraction: options.Share | None = options.later(None)
    """The share of each class of train that becomes val, of a root without val/."""
    split_seed: options.Seed | None = None
    """Which images a split gets; 0 if it is not given."""

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        if self.fractions is not None and self.val_fraction is not None:
            raise ValueError("fractions have a val: leave val_fraction out")
        if self.split_seed is not None and not (self.fractions or self.val_fraction):
            raise ValueError(
                "split_seed is for fractions or val_fraction: give both, or leave it "
                "out"
            )
        return self


def check_early(spec: Options) -> None:
    """Check the folders; no job has run yet.

    Of a class folder only what lies directly in it is looked at, so that this is quick:
    one that has folders in it may have pictures there.

    Raises:
        UserError: a folder of a split, all class folders or all pictures of one are
            missing, or a folder cannot be read.
    """
    root = Path(spec.root)
    if not root.is_dir():
        raise UserError(
            f"image folder {root} is a file: name the folder that holds the class "
            "folders"
        )
    _check_splits(spec)
    for place in _split_folders(spec).values():
        _, folders, _ = next(files.walk(place))
        classes = sorted(name for name in folders if not _is_left_behind(name))
        _refuse_empty(
            place, {name: _may_have_pictures(place / name) for name in classes}
        )


def count_images(spec: Options) -> dict[str, int]:
    """Return how many pictures each split will have, about; no job has run yet.

    Broken pictures and copies, which are left out later, count too.

    Raises:
        UserError: as :func:`load`.
    """
    _check_splits(spec)
    counts = {}
    for split, place in _split_folders(spec).items():
        pictures_of_class = _pictures_by_class(place, Path(spec.root), Omissions())
        counts[split] = sum(map(len, pictures_of_class.values()))
    if spec.fractions:
        shares = spec.fractions.model_dump()
        return {split: round(counts[""] * share) for split, share in shares.items()}
    return counts


def _split_folders(spec: Options) -> dict[str, Path]:
    """Return {split: its folder}; the root alone, under "", if it is to be split."""
    root = Path(spec.root)
    if spec.fractions:
        return {"": root}
    return {
        split: root / split
        for split in SPLITS
        if split != "val" or spec.val_fraction is None
    }


def _check_splits(spec: Options) -> None:
    root = Path(spec.root)
    if spec.fractions:
        for_splits = _folders_for_splits(root)
        if for_splits:
            raise UserError(
                f"image folder {root}: {', '.join(for_splits)} in it would become "
                "classes, whose images go to all splits: leave `fractions` out of its "
                "entry, or rename a folder that is a class. With train/ and test/ "
                "alone give `val_fraction: 0.1`, which draws val from train"
            )
        return

    missing = [
        folder.name for folder in _split_folders(spec).values() if not folder.is_dir()
    ]
    if spec.val_fraction is not None and (root / "val").is_dir():
        raise UserError(
            f"image folder {root}: it has val/: leave `val_fraction` out of its entry"
        )
    if not missing:
        return
    advice = (
        "If it holds class folders, give `fractions: {train: 0.7, val: 0.1, test: "
        "0.2}`, and it is split here"
    )
    for_splits = _folders_for_splits(root)
    if missing == ["val"] and len(for_splits) == len(SPLITS) - 1:
        advice = "Give `val_fraction: 0.1`, and it is drawn from train"
    elif for_splits:
        others = [name for name in for_splits if name[:-1] not in SPLITS]
        advice = f"Rename {', '.join(others) or 'them'}, if these are the splits"
    *first_names, last_name = [f"{name}/" for name in _split_folders(spec)]
    expected = f"{', '.join(first_names)} and {last_name}"
    raise UserError(
        f"image folder {root}: expected {expected} in it; missing: "
        f"{', '.join(missing)}. {advice}"
    )


def _folders_for_splits(root: Path) -> list[str]:
    _, names, _ = next(files.walk(root))
    return [
        f"{name}/"
        for name in sorted(names)
        if name.lower() in _OTHER_SPLIT_NAMES
        or (name.lower() in _TRAIN_NAMES and next(files.walk(root / name))[1])
    ]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(pictures.ENDINGS)


def _is_left_behind(name: str) -> bool:
    """Say whether a file or folder is a program's, not the dataset's."""
    return name.startswith(".") or name in _NO_CLASSES


def _may_have_pictures(folder: Path) -> bool:
    _, folders, names = next(files.walk(folder))
    return bool(folders) or any(_is_picture(name) for name in names)


def _refuse_empty(place: Path, has_pictures: Mapping[str, bool]) -> None:
    if not has_pictures:
        raise UserError(
            f"image folder {place}: no class folder in it: put one there for each class"
        )
    empty = [name for name, has_any in has_pictures.items() if not has_any]
    if empty:
        raise UserError(
            f"image folder {place}: no picture in the class folders {empty}: put some "
            "there, or remove these folders; endings looked for: "
            f"{', '.join(pictures.ENDINGS)}"
        )


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """List the pictures of all class folders; see `sae.data.datasets`.

    Raises:
        UserError: a folder is missing or empty, pictures lie beside class folders, or
            two splits have other classes.
    """
    _check_splits(spec)
    root = Path(spec.root)
    omissions = Omissions()
    number_of_class: dict[str, int] = {}
    splits: list[str] = []
    names: list[str] = []
    paths: list[str] = []
    for split, place in _split_folders(spec).items():
        pictures_of_class = _pictures_by_class(place, root, omissions)
        if not number_of_class:
            number_of_class = {
                name: number for number, name in enumerate(pictures_of_class)
            }
        in_one_split = sorted(number_of_class.keys() ^ pictures_of_class.keys())
        if in_one_split:
            raise UserError(
                f"image folder {root}: only one of train/ and {split}/ has the classes "
                f"{in_one_split}: give all splits class folders of the same names, or "
                "remove a class from all"
            )
        for name, pictures_here in pictures_of_class.items():
            paths += pictures_here
            names += [name] * len(pictures_here)
            splits += [split] * len(pictures_here)
    omissions.tell(f"image folder {root}")

    labels = [number_of_class[name] for name in names]
    words = class_words(number_of_class)
    label_names = [words[name] for name in names]
    if spec.fractions:
        fractions = spec.fractions.model_dump()
        splits = list(grouped_split(paths, labels, fractions, spec.split_seed or 0))
    elif spec.val_fraction is not None:
        splits = list(
            indexing.draw_val(
                np.array(splits),
                paths,
                np.array(labels),
                spec.val_fraction,
                spec.split_seed or 0,
            )
        )
    return Dataset(
        indexing.frame(paths, paths, splits, labels, label_names), reader(spec)
    )


def _pictures_by_class(
    place: Path, root: Path, omissions: Omissions
) -> dict[str, list[str]]:
    pictures_of_class: dict[str, list[str]] = {}
    no_pictures: list[str] = []
    for name, paths in _files_by_class(place, root, omissions).items():
        pictures_of_class[name] = [file for file in paths if _is_picture(file)]
        no_pictures += [file for file in paths if not _is_picture(file)]
    beside = pictures_of_class.pop("", [])
    if beside:
        raise UserError(
            f"image folder {place}: {len(beside)} pictures lie beside the class "
            f"folders, such as {beside[0]!r}: move each into the folder of its class"
        )
    _refuse_empty(
        place, {name: bool(paths) for name, paths in pictures_of_class.items()}
    )

    below_root = "" if place == root else f"{place.name}/"
    for file in no_pictures:
        omissions.add("files that are no picture by their ending", below_root + file)
    return {
        name: [below_root + file for file in paths]
        for name, paths in pictures_of_class.items()
    }


def _files_by_class(
    place: Path, root: Path, omissions: Omissions
) -> dict[str, list[str]]:
    """Return {class: its files below the split's folder}; "" has those of no class."""
    # {class: [(a folder of it, its files)]}
    folders_of_class: dict[str, list[tuple[str, list[str]]]] = {}
    for folder, subfolders, names in files.walk(place):
        left_behind = sorted(filter(_is_left_behind, subfolders + names))
        for name in left_behind:
            path = Path(folder, name).relative_to(root).as_posix()
            omissions.add(
                "hidden files and folders, and those of programs,", path, expected=True
            )
        subfolders[:] = [name for name in subfolders if name not in left_behind]
        for subfolder in subfolders:
            _refuse_circle(Path(folder, subfolder))
        parts = Path(folder).relative_to(place).parts
        prefix = "".join(f"{part}/" for part in parts)
        paths = [prefix + name for name in sorted(names) if name not in left_behind]
        class_name = unicodedata.normalize("NFC", parts[0]) if parts else ""
        folders_of_class.setdefault(class_name, []).append((folder, paths))

    files_of_class = {}
    for name, folders in sorted(folders_of_class.items()):
        files_of_class[name] = [path for _, paths in sorted(folders) for path in paths]
    return files_of_class


def _refuse_circle(folder: Path) -> None:
    """Refuse a link to a folder that it lies in."""
    if not folder.is_symlink():
        return
    target = folder.resolve()
    if any(parent.resolve().is_relative_to(target) for parent in folder.parents):
        raise UserError(
            f"image folder: the link {str(folder)!r} leads to a folder that it lies "
            "in: remove it"
        )
