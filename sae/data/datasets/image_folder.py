"""A folder of images: `root/{train,val,test}/{class}/*`, in the order of torchvision's ImageFolder.

With `fractions` it is `root/{class}/*`, and split here, each class by itself.
"""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import model_validator

from sae.core import options
from sae.core.errors import UserError
from sae.data import indexing, pictures
from sae.data.dataset import Dataset
from sae.data.indexing import reader
from sae.data.omissions import Omissions
from sae.data.splits import SPLITS, grouped_split

VERSION = 1


class Options(options.Options):
    """What may be written of such a dataset."""

    root: str
    """Relative to the working directory, or absolute."""
    fractions: options.Fractions | None = None
    """The share of each split, of a root that has class folders alone."""
    split_seed: options.Seed | None = None
    """Which images a split gets; 0 if it is not given."""

    @model_validator(mode="after")
    def _seed_of_a_split(self) -> Self:
        if self.split_seed is not None and self.fractions is None:
            raise ValueError("split_seed is for fractions: give both, or leave it out")
        return self


def check_early(spec: Options) -> None:
    """Check the folders; no job has run yet.

    Of a class folder only what lies directly in it is looked at, so that this is quick:
    one that has folders in it may have pictures there.

    Raises:
        UserError: a folder of a split, all class folders or all pictures of one are missing.
    """
    root = Path(spec.root)
    if not root.is_dir():
        raise UserError(
            f"image folder {root} is a file: name the folder that holds the class folders"
        )
    _check_splits(spec)
    for split in [""] if spec.fractions else SPLITS:
        place = root / split
        classes = sorted(path.name for path in place.iterdir() if path.is_dir())
        _refuse_empty(
            place, {name: _may_have_pictures(place / name) for name in classes}
        )


def _check_splits(spec: Options) -> None:
    root = Path(spec.root)
    missing = [split for split in SPLITS if not (root / split).is_dir()]
    if missing and not spec.fractions:
        raise UserError(
            f"image folder {root}: expected train/, val/ and test/ in it; missing: {', '.join(missing)}. If it holds "
            "class folders, give `fractions: {train: 0.7, val: 0.1, test: 0.2}`, and it is split here"
        )
    if spec.fractions and not missing:
        raise UserError(
            f"image folder {root}: it has train/, val/ and test/: leave `fractions` out of its entry"
        )


def _may_have_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(
            entry.name.lower().endswith(pictures.ENDINGS) or entry.is_dir()
            for entry in entries
        )


def _refuse_empty(place: Path, has_pictures: Mapping[str, bool]) -> None:
    """Refuse a folder without class folders, or with empty ones.

    Args:
        has_pictures: by class.
    """
    if not has_pictures:
        raise UserError(
            f"image folder {place}: no class folder in it: put one there for each class"
        )
    if empty := [name for name, has_some in has_pictures.items() if not has_some]:
        raise UserError(
            f"image folder {place}: no picture in the class folders {empty}: put some there, or remove "
            f"these folders; endings looked for: {', '.join(pictures.ENDINGS)}"
        )


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    _check_splits(spec)
    root = Path(spec.root)
    rows: list[tuple[str, str, str]] = []
    omissions = Omissions()
    classes: dict[str, int] = {}
    for split in [""] if spec.fractions else SPLITS:
        files, below = _files(root / split), f"{split}/" if split else ""
        taken = {
            name: [f for f in found if f.lower().endswith(pictures.ENDINGS)]
            for name, found in files.items()
        }
        if stray := taken.pop("", []):
            some = f"{len(stray)} pictures lie beside the class folders, such as {stray[0]!r}"
            raise UserError(
                f"image folder {root / split}: {some}: move each into the folder of its class"
            )
        _refuse_empty(
            root / split, {name: bool(found) for name, found in taken.items()}
        )
        for file in itertools.chain.from_iterable(files.values()):
            if not file.lower().endswith(pictures.ENDINGS):
                reason = "files that are no picture by their ending"
                omissions.add(reason, below + file)
        rows += [
            (split, name, below + f) for name, found in taken.items() for f in found
        ]
        classes = classes or {name: number for number, name in enumerate(taken)}
        if odd := sorted(classes.keys() ^ taken.keys()):
            raise UserError(
                f"image folder {root}: only one of train/ and {split}/ has the classes {odd}: give all splits class "
                "folders of the same names, or remove a class from all"
            )
    omissions.tell(f"image folder {root}")
    splits, names, paths = map(list, zip(*rows, strict=True))
    labels = [classes[name] for name in names]
    if spec.fractions:
        splits = list(
            grouped_split(
                paths, labels, spec.fractions.model_dump(), spec.split_seed or 0
            )
        )
    return Dataset(indexing.frame(paths, paths, splits, labels, names), reader(spec))


def _files(split: Path) -> dict[str, list[str]]:
    """{class: its files, relative to the split's folder}, links followed; under '' those beside the class folders.

    Raises:
        UserError: a link leads to a folder that it lies in, so that its pictures would count many times.
    """
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for place, folders, names in os.walk(split, followlinks=True):
        for link in (Path(place, name) for name in folders):
            if link.is_symlink() and any(
                p.resolve().is_relative_to(link.resolve()) for p in link.parents
            ):
                raise UserError(
                    f"image folder: the link {str(link)!r} leads to a folder that it lies in: remove it"
                )
        above = "".join(f"{part}/" for part in Path(place).relative_to(split).parts)
        found.setdefault(above.split("/")[0], []).append(
            (place, [above + name for name in sorted(names)])
        )
    return {
        name: [f for _, files in sorted(places) for f in files]
        for name, places in sorted(found.items())
    }
