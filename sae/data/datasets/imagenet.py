"""ImageNet-1k (ILSVRC 2012, Russakovsky et al. 2015, doi:10.1007/s11263-015-0816-y) in the layouts that people have.

Test is the official validation set; val is drawn from the official training images, the same images in every layout.
`label` is a class's place in the order of WordNet IDs, the usual class number when all 1000 are there.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sae.core.errors import UserError
from sae.core.options import Count, Images, Seed
from sae.core.options import Options as Base
from sae.data import archives, indexing
from sae.data.dataset import Dataset

VERSION = 1
_TRAIN, _VAL, _DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_WNID = re.compile(r"n\d{8}")
# What reading a development kit raises that is none, or only a part of one.
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError, LookupError, TypeError, ValueError)
# Of the N images of a part: names, paths, and classes (WordNet IDs, or class numbers).
_Part = tuple[list[str], list[str], np.ndarray]
# Train, test, and the class names that the files record.
_Parts = tuple[_Part, _Part, list[str] | None]


class Options(Base):
    """What may be written of such a dataset."""

    root: str
    val_per_class: Count
    """Images of each class that are drawn from the official training images for val."""
    split_seed: Seed
    images: Images = Images()


def reader(spec: dict[str, Any]) -> Callable[[str], Image.Image]:
    """The function that opens an image; see `sae.data.dataset.reader`."""
    return archives.opener(indexing.root(spec))


def load(spec: dict[str, Any], _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    root = indexing.root(spec)
    train, test, recorded = _layout(root)(root)
    known, numbers = np.unique(np.concatenate([train[2], test[2]]), return_inverse=True)
    names = _names(known, recorded)
    ids, paths = train[0] + test[0], train[1] + test[1]
    count = len(train[0])
    names = pd.array(names, dtype="str").take(numbers)
    in_val = indexing.draw(train[0], numbers[:count], lambda _: spec["val_per_class"], spec["split_seed"])
    split = np.concatenate([np.where(in_val, "val", "train"), np.full(len(test[0]), "test")])
    indexing.check_counts(spec, split)
    return Dataset(indexing.frame(ids, paths, split, numbers, names), reader(spec))


def _folders(root: Path) -> _Parts:
    """train/ and val/, a folder for each WordNet ID (what torchvision's ImageNet unpacks to)."""
    from torchvision.datasets import ImageFolder

    parts: list[_Part] = []
    for part in ("train", "val"):
        try:
            folder = ImageFolder(root / part)
        except FileNotFoundError as error:
            raise UserError(f"imagenet {root / part}: expected one folder a class, nXXXXXXXX/*.JPEG: {error}") from None
        paths = [Path(path).relative_to(root).as_posix() for path, _ in folder.samples]
        parts.append((_stems(paths), paths, np.array(folder.classes)[folder.targets]))
    return parts[0], parts[1], None


def _tars(root: Path) -> _Parts:
    """The original archives, read in place: training images in a tar of one tar a class."""
    ids, paths, wnids = [], [], []
    for name, offset, size in archives.tar_members(root / _TRAIN):
        for image, at, length in archives.tar_members(root / _TRAIN, offset, offset + size):
            ids.append(image)
            paths.append(f"{_TRAIN}@{at}+{length}")
            wnids.append(PurePosixPath(name).stem)
    train = (_stems(ids), paths, np.array(wnids))
    truth = _devkit(root / _DEVKIT)
    members = list(archives.tar_members(root / _VAL))
    # The n-th line of the ground truth is the label of ILSVRC2012_val_0000000n.
    numbers = [int(m[1]) if (m := re.search(r"_(\d+)\.JPEG$", name)) else 0 for name, _, _ in members]
    strange = [m[0] for m, n in zip(members, numbers, strict=True) if not 1 <= n <= len(truth)]
    if strange:
        raise UserError(f"{root / _VAL}: no label for {strange[0]} among the {len(truth)} of {_DEVKIT}")
    paths = [f"{_VAL}@{at}+{length}" for _, at, length in members]
    return train, (_stems(m[0] for m in members), paths, truth[np.array(numbers) - 1]), None


def _devkit(path: Path) -> np.ndarray:
    """The WordNet ID of every validation image, in the images' order."""
    import scipy.io

    content: dict[str, bytes] = {}
    try:
        with tarfile.open(archives.regular(path), "r:gz") as archive:
            for member in archive:
                if PurePosixPath(member.name).name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
                    content[PurePosixPath(member.name).name] = archives.content(archive, member)
        synsets = scipy.io.loadmat(io.BytesIO(content["meta.mat"]), squeeze_me=True)["synsets"]
        wnid = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
        return np.array([wnid[int(line)] for line in content["ILSVRC2012_validation_ground_truth.txt"].split()])
    except (*_DAMAGED, scipy.io.matlab.MatReadError) as error:
        raise UserError(
            f"{path} is not ImageNet's development kit, with data/meta.mat and "
            f"data/ILSVRC2012_validation_ground_truth.txt ({type(error).__name__}: {error}): download it again"
        ) from None


def _parquet(root: Path) -> _Parts:
    """The hub's imagenet-1k in parquet shards, with the columns image {bytes, path} and label."""
    return _shards(root, "data/train-*.parquet", "data/validation-*.parquet")


def _webdataset(root: Path) -> _Parts:
    """WebDataset shards as timm made them, with key.jpg and key.cls."""
    return _shards(root, "imagenet1k-train-*.tar", "imagenet1k-validation-*.tar")


def _shards(root: Path, *patterns: str) -> _Parts:
    both, numbered = [], []
    for pattern in patterns:
        found = archives.samples(root, sorted(p.relative_to(root).as_posix() for p in root.glob(pattern)))
        if found.labels is None:
            raise UserError(f"imagenet {root / pattern}: the images have no class numbers, expected 0 to 999")
        both.append(found)
        numbered += found.labels
    ids = indexing.distinct(_stems(both[0].keys + both[1].keys), both[0].places + both[1].places)
    labels = np.array(numbered)
    count = len(both[0].keys)
    known, numbers = np.unique(labels, return_inverse=True)
    # Training images are named after their class, so that the labels can be the same as in the other layouts.
    named = {label: image_id.partition("_")[0] for image_id, label in zip(ids[:count], labels.tolist(), strict=False)}
    wnids = [named.get(label, "") for label in known.tolist()]
    if all(map(_WNID.fullmatch, wnids)) and len(set(wnids)) == len(wnids):
        labels = np.array(wnids)[numbers]
    train, test = (ids[:count], both[0].locations, labels[:count]), (ids[count:], both[1].locations, labels[count:])
    return train, test, both[0].label_names


_LAYOUTS = {
    ("train/", "val/"): _folders,
    (_TRAIN, _VAL, _DEVKIT): _tars,
    ("data/train-*.parquet", "data/validation-*.parquet"): _parquet,
    ("imagenet1k-train-*.tar", "imagenet1k-validation-*.tar"): _webdataset,
}


def _layout(root: Path) -> Callable[[Path], _Parts]:
    missing = {patterns: [p for p in patterns if not any(root.glob(p))] for patterns in _LAYOUTS}
    for patterns, lacking in missing.items():
        if not lacking:
            return _LAYOUTS[patterns]
    tried = "; ".join(f"{' + '.join(patterns)} (no {', '.join(lacking)})" for patterns, lacking in missing.items())
    raise UserError(f"imagenet: root {root} has none of the layouts {tried}; found in it: {indexing.contents(root)}")


def _stems(names: Iterable[str]) -> list[str]:
    # Some copies put the class behind the file's name: n01440764_10026_n01440764.JPEG.
    return [re.sub(r"(_\d+)_n\d{8}$", r"\1", PurePosixPath(name).stem) for name in names]


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
    return list(described.values()) if known == list(range(len(described))) else [str(number) for number in known]
