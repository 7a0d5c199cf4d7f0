"""Any image set in WebDataset tars or parquet files, read in place.

A tar has `key.jpg` with `key.cls` or `key.json`. `image_id` is the sample's key, or
`shard/row` where keys occur twice. Without labels, `label` is null.
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import model_validator

from sae.core import options
from sae.core.errors import UserError
from sae.data import indexing, shard_images
from sae.data.dataset import Dataset
from sae.data.indexing import reader

VERSION = 1
_GLOB = r"(?!(.*/)?\.\./)[^/].*\.(tar|parquet)"
_FITS = "write a glob below root, without `..`, such as train/*.tar or train-*.parquet"


class SplitsOptions(options.Options):
    """Globs below root."""

    train: Annotated[str, options.like(_GLOB, _FITS)]
    val: Annotated[str, options.like(_GLOB, _FITS)] | None = None
    test: Annotated[str, options.like(_GLOB, _FITS)]


class Options(options.Options):
    """The options of such a dataset."""

    root: str
    """The folder of the shards: relative to the working directory, or absolute."""
    splits: SplitsOptions
    """The shards of each split, as globs below root: {train, test}, and perhaps val."""
    val_fraction: options.Share | None = None
    """Of train, stratified; needed where `splits` has no glob for val."""
    split_seed: options.Seed | None = None
    """The seed that draws them; needed with `val_fraction`."""
    image_column: str = "image"
    """The column of the images in parquet files."""
    label_column: str | None = None
    """The column of the class numbers in parquet files; `label` where it is there, if
    not given."""

    @model_validator(mode="after")
    def _val_in_one_way(self) -> Self:
        of_drawing = [self.val_fraction, self.split_seed]
        if self.splits.val is None and None in of_drawing:
            raise ValueError(
                "val_fraction and split_seed are required where `splits` has no `val`"
            )
        if self.splits.val is not None and of_drawing != [None, None]:
            raise ValueError(
                "`splits` has a `val`: leave val_fraction and split_seed out"
            )
        return self


def check_early(spec: Options) -> None:
    """Check the globs; no job has run yet.

    Raises:
        UserError: no file matches one of them.
    """
    root = indexing.root(spec.root)
    for split, glob in spec.splits.model_dump(exclude_none=True).items():
        if not indexing.matching(root, glob):
            raise UserError(
                f"dataset type shards, key splits.{split}: no file matches {glob!r} "
                f"below {root}, expected a glob such as 'train-*.tar'; found there: "
                f"{indexing.contents(root)}"
            )


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """List the images of all shards; see `sae.data.datasets`.

    Raises:
        UserError: a shard is not right, or only some splits have labels.
    """
    check_early(spec)
    root = indexing.root(spec.root)
    images_of_split = {}
    for split, glob in spec.splits.model_dump(exclude_none=True).items():
        shards = [
            path.relative_to(root).as_posix() for path in indexing.matching(root, glob)
        ]
        images_of_split[split] = shard_images.list_images(
            root, shards, spec.image_column, spec.label_column
        )
    names_of_split = {
        split: images.label_names for split, images in images_of_split.items()
    }
    shard_images.agreed_names(root, names_of_split)
    _check_all_labelled(root, images_of_split)

    keys: list[str] = []
    places: list[str] = []
    paths: list[str] = []
    numbers: list[int] = []
    for images in images_of_split.values():
        keys += images.keys
        places += images.places
        paths += images.locations
        numbers += images.labels or []
    image_ids = indexing.keys_or_places(keys, places)
    labels = np.array(numbers) if numbers else None
    splits = np.repeat(
        list(images_of_split), [len(images.keys) for images in images_of_split.values()]
    )
    if "val" not in images_of_split:
        # By the validator above.
        assert spec.val_fraction is not None and spec.split_seed is not None
        splits = indexing.draw_val(
            splits, image_ids, labels, spec.val_fraction, spec.split_seed
        )
    label_names = _names_of(labels, names_of_split["train"])
    index = indexing.frame(image_ids, paths, splits, labels, label_names)
    return Dataset(index, reader(spec))


def _check_all_labelled(
    root: Path, images_of_split: dict[str, shard_images.ShardImages]
) -> None:
    labelled = []
    unlabelled = []
    for split, images in images_of_split.items():
        if images.labels is None:
            unlabelled.append(split)
        else:
            labelled.append(split)
    if labelled and unlabelled:
        raise UserError(
            f"dataset type shards, root {root}: {', '.join(unlabelled)} has no labels, "
            f"{', '.join(labelled)} has: label all"
        )


def _names_of(
    labels: np.ndarray | None, class_names: list[str] | None
) -> list[str] | None:
    if labels is None:
        return None
    if class_names:
        return [class_names[label] for label in labels]
    return [str(label) for label in labels]
