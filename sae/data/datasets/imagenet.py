"""ImageNet-1k (ILSVRC 2012) in the layouts that people have.

Russakovsky et al. 2015, doi:10.1007/s11263-015-0816-y. Test is the official validation
set; val is drawn from the official training images, the same images in every layout.
`label` is a class's place in the order of WordNet IDs, the usual class number when all
1000 are there.
"""

import io
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from sae.core import files, options
from sae.core.errors import UserError
from sae.data import archives, indexing, shard_images
from sae.data.dataset import Dataset
from sae.data.indexing import reader
from sae.data.omissions import Omissions
from sae.data.tars import tar_members

VERSION = 1
_TRAIN = "ILSVRC2012_img_train.tar"
_VAL = "ILSVRC2012_img_val.tar"
_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_WNID = re.compile(r"n\d{8}")
_VAL_NUMBER = re.compile(r"_(\d+)\.JPEG$")


@dataclass(frozen=True)
class _OfficialImages:
    """The N images of a copy of ImageNet, the official training images first.

    Attributes:
        image_ids: N texts, unique.
        paths: N texts, as `Dataset.open` takes them.
        classes: (N,) WordNet IDs; class numbers where a layout has no more.
        train_count: how many are official training images.
        class_names: the class names that the files record; None where they do not.
    """

    image_ids: list[str]
    paths: list[str]
    classes: np.ndarray
    train_count: int
    class_names: list[str] | None = None


class Options(options.Options):
    """The options of such a dataset."""

    root: str
    """The folder of the images: relative to the working directory, or absolute."""
    val_per_class: options.Count
    """Images of each class that are drawn from the official training images for val."""
    split_seed: options.Seed
    """The seed that draws them."""
    images: options.Images = options.Images()
    """How many images the splits must turn out to have, where it is known."""


def check_early(spec: Options) -> None:
    """Check that the root has one of the layouts; no job has run yet.

    Raises:
        UserError: it has none.
    """
    _layout(indexing.root(spec.root))


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """List the images of whatever layout there is; see `sae.data.datasets`."""
    root = indexing.root(spec.root)
    patterns = _layout(root)
    images = _LAYOUTS[patterns](root, *patterns)
    classes, labels = np.unique(images.classes, return_inverse=True)
    class_names = _names_of(classes, images.class_names)
    label_names = pd.array(class_names, dtype="str").take(labels)

    image_count = len(images.image_ids)
    official_split = np.repeat(
        ["train", "test"], [images.train_count, image_count - images.train_count]
    )
    split = indexing.draw_val(
        official_split,
        images.image_ids,
        labels,
        spec.val_per_class,
        spec.split_seed,
    )
    indexing.check_counts(root, spec.images, split)
    index = indexing.frame(images.image_ids, images.paths, split, labels, label_names)
    return Dataset(index, reader(spec))


def _list_folders(root: Path, *folders: str) -> _OfficialImages:
    """List train/ and val/, which have a folder for each WordNet ID."""
    # This is what torchvision's ImageNet unpacks to.
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import is_image_file

    omissions = Omissions()

    def is_taken(path: str) -> bool:
        is_image = is_image_file(path)
        if not is_image:
            place = Path(path).relative_to(root).as_posix()
            omissions.add("files that are no picture by their ending", place)
        return is_image

    try:
        train, val = (
            ImageFolder(root / folder, is_valid_file=is_taken) for folder in folders
        )
    except FileNotFoundError as error:
        raise UserError(
            f"imagenet {root}: expected one folder a class, nXXXXXXXX/*.JPEG: {error}"
        ) from None
    omissions.tell(f"imagenet {root}")
    paths = [
        Path(path).relative_to(root).as_posix()
        for path, _ in train.samples + val.samples
    ]
    train_wnids = np.array(train.classes)[train.targets]
    val_wnids = np.array(val.classes)[val.targets]
    return _OfficialImages(
        image_ids=_stems(paths),
        paths=paths,
        classes=np.concatenate([train_wnids, val_wnids]),
        train_count=len(train.samples),
    )


def _list_tars(root: Path, *_patterns: str) -> _OfficialImages:
    """List the original archives: training images are in a tar of one tar a class."""
    names: list[str] = []
    paths: list[str] = []
    wnids: list[str] = []
    omissions = Omissions()
    train_tar = root / _TRAIN
    for class_tar in tar_members(train_tar, omissions=omissions):
        end = class_tar.offset + class_tar.size
        for image in tar_members(train_tar, class_tar.offset, end, omissions):
            names.append(image.name)
            paths.append(f"{_TRAIN}@{image.offset}+{image.size}")
            wnids.append(PurePosixPath(class_tar.name).stem)
    train_count = len(names)

    wnids_of_val = _read_devkit(root / _DEVKIT)
    val_images = list(tar_members(root / _VAL, omissions=omissions))
    omissions.tell(f"imagenet {root}")
    for image in val_images:
        # Of ILSVRC2012_val_0000000n the label is the n-th.
        numbered = _VAL_NUMBER.search(image.name)
        number = int(numbered[1]) if numbered else 0
        if not 1 <= number <= len(wnids_of_val):
            raise UserError(
                f"{root / _VAL}: no label for {image.name} among the "
                f"{len(wnids_of_val)} of {_DEVKIT}"
            )
        names.append(image.name)
        paths.append(f"{_VAL}@{image.offset}+{image.size}")
        wnids.append(wnids_of_val[number - 1])
    return _OfficialImages(_stems(names), paths, np.array(wnids), train_count)


def _read_devkit(path: Path) -> list[str]:
    """Return the WordNet ID of every validation image, in the images' order."""
    import scipy.io

    try:
        with tarfile.open(files.regular(path), "r:gz") as archive:
            content = {
                PurePosixPath(member.name).name: archives.read_tar_member(
                    archive, member
                )
                for member in archive
            }
        meta = scipy.io.loadmat(io.BytesIO(content["meta.mat"]), squeeze_me=True)
        numbers = meta["synsets"]["ILSVRC2012_ID"].tolist()
        wnids = meta["synsets"]["WNID"].tolist()
        wnid_of_number = dict(zip(numbers, wnids, strict=True))
        ground_truth = content["ILSVRC2012_validation_ground_truth.txt"]
        return [wnid_of_number[int(line)] for line in ground_truth.split()]
    # Of readers alone: at a kit that is none, or a part of one, they raise of many
    # kinds.
    except Exception as error:
        raise UserError(
            f"{path} is not ImageNet's development kit, with data/meta.mat and "
            "data/ILSVRC2012_validation_ground_truth.txt "
            f"({type(error).__name__}: {error}): download it again"
        ) from None


def _list_shards(root: Path, *patterns: str) -> _OfficialImages:
    """List the hub's imagenet-1k in parquet shards, or timm's WebDataset shards."""
    train, val = (
        shard_images.list_images(
            root,
            [
                path.relative_to(root).as_posix()
                for path in indexing.matching(root, glob)
            ],
        )
        for glob in patterns
    )
    if train.labels is None or val.labels is None:
        raise UserError(
            f"imagenet {root}: images of {' or '.join(patterns)} have no class "
            "numbers, expected 0 to 999"
        )
    recorded_names = (train.label_names, val.label_names)
    shard_images.agreed_names(root, dict(zip(patterns, recorded_names, strict=True)))
    image_ids = indexing.keys_or_places(
        _stems(train.keys + val.keys), train.places + val.places
    )
    return _OfficialImages(
        image_ids=image_ids,
        paths=train.locations + val.locations,
        classes=_wnids_or_numbers(
            image_ids, np.array(train.labels + val.labels), train.labels
        ),
        train_count=len(train.keys),
        class_names=train.label_names,
    )


def _wnids_or_numbers(
    image_ids: list[str], labels: np.ndarray, train_labels: list[int]
) -> np.ndarray:
    """Return classes by WordNet ID, where training images are named after them."""
    train_ids = image_ids[: len(train_labels)]
    # The last image of a class decides.
    prefix_of_label = {
        label: image_id.partition("_")[0]
        for image_id, label in zip(train_ids, train_labels, strict=True)
    }
    distinct_labels, places = np.unique(labels, return_inverse=True)
    wnids = [prefix_of_label.get(label, "") for label in distinct_labels.tolist()]
    are_wnids = all(_WNID.fullmatch(wnid) for wnid in wnids)
    if are_wnids and len(set(wnids)) == len(wnids):
        return np.array(wnids)[places]
    return labels


# {what a root has: the function that lists its images}
_LAYOUTS = {
    ("train/", "val/"): _list_folders,
    (_TRAIN, _VAL, _DEVKIT): _list_tars,
    ("data/train-*.parquet", "data/validation-*.parquet"): _list_shards,
    ("imagenet1k-train-*.tar", "imagenet1k-validation-*.tar"): _list_shards,
}


def _layout(root: Path) -> tuple[str, ...]:
    attempts = []
    for patterns in _LAYOUTS:
        lacking = [
            pattern for pattern in patterns if not indexing.matching(root, pattern)
        ]
        if not lacking:
            return patterns
        attempts.append(f"{' + '.join(patterns)} (no {', '.join(lacking)})")
    raise UserError(
        f"imagenet: root {root} has none of the layouts {'; '.join(attempts)}; found "
        f"in it: {indexing.contents(root)}"
    )


def _stems(names: Iterable[str]) -> list[str]:
    # Some copies put the class behind the file's name: n01440764_10026_n01440764.JPEG.
    return [
        re.sub(r"(_\d+)_n\d{8}$", r"\1", PurePosixPath(name).stem) for name in names
    ]


def _names_of(classes: np.ndarray, recorded: list[str] | None) -> list[str]:
    from timm.data import ImageNetInfo

    imagenet = ImageNetInfo()
    description_of_wnid = dict(
        zip(imagenet.label_names(), imagenet.label_descriptions(), strict=True)
    )
    class_list = classes.tolist()
    if isinstance(class_list[0], str):
        return [description_of_wnid.get(wnid, wnid) for wnid in class_list]
    if recorded:
        return [recorded[number] for number in class_list]
    if class_list == list(range(len(description_of_wnid))):
        return list(description_of_wnid.values())
    return [str(number) for number in class_list]
