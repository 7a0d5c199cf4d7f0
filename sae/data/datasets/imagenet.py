"""ImageNet-1k (ILSVRC 2012, Russakovsky et al. 2015, doi:10.1007/s11263-015-0816-y) in the layouts that people have.

Test is the official validation set; val is drawn from the official training images, the same images in every layout.
`label` is a class's place in the order of WordNet IDs, the usual class number when all 1000 are there.
"""

import io
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from sae.core import files, options
from sae.core.errors import UserError
from sae.data import archives, indexing
from sae.data.dataset import Dataset
from sae.data.indexing import reader
from sae.data.omissions import Omissions

VERSION = 1
_TRAIN, _VAL, _DEVKIT = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)
_WNID = re.compile(r"n\d{8}")
# Of the N images, those of train first: names, paths, and classes (WordNet IDs, or class numbers). How many are of
# train. The class names that the files record.
_Found = tuple[list[str], list[str], np.ndarray, int, list[str] | None]


class Options(options.Options):
    """What may be written of such a dataset."""

    root: str
    val_per_class: options.Count
    """Images of each class that are drawn from the official training images for val."""
    split_seed: options.Seed
    images: options.Images = options.Images()


def check_early(spec: Options) -> None:
    """Check that the root has one of the layouts; no job has run yet.

    Raises:
        UserError: it has none.
    """
    _layout(indexing.root(spec.root))


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    root = indexing.root(spec.root)
    ids, paths, classes, count, recorded = _found(root)
    known, numbers = np.unique(classes, return_inverse=True)
    names = pd.array(_names(known, recorded), dtype="str").take(numbers)
    official = np.repeat(["train", "test"], [count, len(ids) - count])
    split = indexing.draw_val(
        official, ids, numbers, spec.val_per_class, spec.split_seed
    )
    indexing.check_counts(root, spec.images, split)
    return Dataset(indexing.frame(ids, paths, split, numbers, names), reader(spec))


def _folders(root: Path, *parts: str) -> _Found:
    """train/ and val/, a folder for each WordNet ID (what torchvision's ImageNet unpacks to)."""
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import is_image_file

    omissions = Omissions()

    def is_taken(path: str) -> bool:
        if not is_image_file(path):
            place = Path(path).relative_to(root).as_posix()
            omissions.add("files that are no picture by their ending", place)
            return False
        return True

    try:
        train, test = (
            ImageFolder(root / part, is_valid_file=is_taken) for part in parts
        )
    except FileNotFoundError as error:
        raise UserError(
            f"imagenet {root}: expected one folder a class, nXXXXXXXX/*.JPEG: {error}"
        ) from None
    omissions.tell(f"imagenet {root}")
    paths = [
        Path(path).relative_to(root).as_posix()
        for path, _ in train.samples + test.samples
    ]
    wnids = [np.array(part.classes)[part.targets] for part in (train, test)]
    return _stems(paths), paths, np.concatenate(wnids), len(train.samples), None


def _tars(root: Path, *_: str) -> _Found:
    """The original archives, read in place: training images in a tar of one tar a class."""
    ids, paths, wnids = [], [], []
    omissions = Omissions()
    for name, offset, size in archives.tar_members(root / _TRAIN, omissions=omissions):
        for image, at, length in archives.tar_members(
            root / _TRAIN, offset, offset + size, omissions
        ):
            ids.append(image)
            paths.append(f"{_TRAIN}@{at}+{length}")
            wnids.append(PurePosixPath(name).stem)
    count, truth = len(ids), _devkit(root / _DEVKIT)
    members = list(archives.tar_members(root / _VAL, omissions=omissions))
    omissions.tell(f"imagenet {root}")
    # The n-th line of the ground truth is the label of ILSVRC2012_val_0000000n.
    numbers = [
        int(m[1]) if (m := re.search(r"_(\d+)\.JPEG$", name)) else 0
        for name, _, _ in members
    ]
    strange = [
        m[0] for m, n in zip(members, numbers, strict=True) if not 1 <= n <= len(truth)
    ]
    if strange:
        raise UserError(
            f"{root / _VAL}: no label for {strange[0]} among the {len(truth)} of {_DEVKIT}"
        )
    ids += [member[0] for member in members]
    paths += [f"{_VAL}@{at}+{length}" for _, at, length in members]
    return (
        _stems(ids),
        paths,
        np.concatenate([wnids, truth[np.array(numbers) - 1]]),
        count,
        None,
    )


def _devkit(path: Path) -> np.ndarray:
    """The WordNet ID of every validation image, in the images' order."""
    import scipy.io

    try:
        with tarfile.open(files.regular(path), "r:gz") as archive:
            content = {
                PurePosixPath(member.name).name: archives.content(archive, member)
                for member in archive
            }
        synsets = scipy.io.loadmat(io.BytesIO(content["meta.mat"]), squeeze_me=True)[
            "synsets"
        ]
        wnid = dict(
            zip(
                synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True
            )
        )
        return np.array(
            [
                wnid[int(line)]
                for line in content["ILSVRC2012_validation_ground_truth.txt"].split()
            ]
        )
    except Exception as error:  # Of readers alone: at a kit that is none, or a part of one, they raise of many kinds.
        raise UserError(
            f"{path} is not ImageNet's development kit, with data/meta.mat and "
            f"data/ILSVRC2012_validation_ground_truth.txt ({type(error).__name__}: {error}): download it again"
        ) from None


def _shards(root: Path, *patterns: str) -> _Found:
    """The hub's imagenet-1k in parquet shards, or WebDataset shards as timm made them."""
    train, test = (
        archives.samples(
            root, sorted(p.relative_to(root).as_posix() for p in root.glob(pattern))
        )
        for pattern in patterns
    )
    if train.labels is None or test.labels is None:
        raise UserError(
            f"imagenet {root}: images of {' or '.join(patterns)} have no class numbers, expected 0 to 999"
        )
    archives.agreed(
        root, dict(zip(patterns, (train.label_names, test.label_names), strict=True))
    )
    ids, count = (
        indexing.distinct(_stems(train.keys + test.keys), train.places + test.places),
        len(train.keys),
    )
    labels = np.array(train.labels + test.labels)
    known, numbers = np.unique(labels, return_inverse=True)
    # Training images are named after their class, so that the labels can be the same as in the other layouts.
    named = {
        label: image_id.partition("_")[0]
        for image_id, label in zip(ids[:count], train.labels, strict=True)
    }
    wnids = [named.get(label, "") for label in known.tolist()]
    if all(map(_WNID.fullmatch, wnids)) and len(set(wnids)) == len(wnids):
        labels = np.array(wnids)[numbers]
    return ids, train.locations + test.locations, labels, count, train.label_names


_LAYOUTS = {
    ("train/", "val/"): _folders,
    (_TRAIN, _VAL, _DEVKIT): _tars,
    ("data/train-*.parquet", "data/validation-*.parquet"): _shards,
    ("imagenet1k-train-*.tar", "imagenet1k-validation-*.tar"): _shards,
}


def _found(root: Path) -> _Found:
    patterns = _layout(root)
    return _LAYOUTS[patterns](root, *patterns)


def _layout(root: Path) -> tuple[str, ...]:
    """The key of `_LAYOUTS` whose files the root has."""
    missing = {
        patterns: [p for p in patterns if not any(root.glob(p))]
        for patterns in _LAYOUTS
    }
    for patterns, lacking in missing.items():
        if not lacking:
            return patterns
    tried = "; ".join(
        f"{' + '.join(patterns)} (no {', '.join(lacking)})"
        for patterns, lacking in missing.items()
    )
    raise UserError(
        f"imagenet: root {root} has none of the layouts {tried}; found in it: {indexing.contents(root)}"
    )


def _stems(names: Iterable[str]) -> list[str]:
    # Some copies put the class behind the file's name: n01440764_10026_n01440764.JPEG.
    return [
        re.sub(r"(_\d+)_n\d{8}$", r"\1", PurePosixPath(name).stem) for name in names
    ]


def _names(known: np.ndarray, recorded: list[str] | None) -> list[str]:
    """The names of C classes: timm's description of a WordNet ID, else the name that the files record."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    described = dict(zip(info.label_names(), info.label_descriptions(), strict=True))
    known = known.tolist()
    if isinstance(known[0], str):
        return [described.get(wnid, wnid) for wnid in known]
    if recorded:
        return [recorded[number] for number in known]
    return (
        list(described.values())
        if known == list(range(len(described)))
        else [str(number) for number in known]
    )
