"""Any image set in WebDataset tars (`key.jpg` with `key.cls` or `key.json`) or parquet files, read in place.

`image_id` is the sample's key, or `shard/row` where keys occur twice. Without labels, `label` is null.
"""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import model_validator

from sae.core import options
from sae.core.errors import UserError
from sae.data import archives, indexing
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
    """What may be written of such a dataset."""

    root: str
    splits: SplitsOptions
    val_fraction: options.Share | None = None
    """Of train, stratified; needed where `splits` has no glob for val."""
    split_seed: options.Seed | None = None
    image_column: str = "image"
    """The column of the images in parquet files."""
    label_column: str | None = None
    """The column of the class numbers in parquet files; `label` where it is there, if not given."""

    @model_validator(mode="after")
    def _val_in_one_way(self) -> Self:
        drawn = [self.val_fraction, self.split_seed]
        if self.splits.val is None and None in drawn:
            raise ValueError(
                "val_fraction and split_seed are required where `splits` has no `val`"
            )
        if self.splits.val is not None and drawn != [None, None]:
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
    for part, pattern in spec.splits.model_dump(exclude_none=True).items():
        if not any(root.glob(pattern)):
            raise UserError(
                f"dataset type shards, key splits.{part}: no file matches {pattern!r} below {root}, expected a glob "
                f"such as 'train-*.tar'; found there: {indexing.contents(root)}"
            )


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    check_early(spec)
    root = indexing.root(spec.root)
    found = {}
    for part, pattern in spec.splits.model_dump(exclude_none=True).items():
        files = sorted(p.relative_to(root).as_posix() for p in root.glob(pattern))
        found[part] = archives.samples(
            root, files, spec.image_column, spec.label_column
        )
    archives.agreed(root, {split: s.label_names for split, s in found.items()})
    labelled = [split for split in found if found[split].labels is not None]
    if labelled and len(labelled) < len(found):
        bare = ", ".join(split for split in found if split not in labelled)
        raise UserError(
            f"dataset type shards, root {root}: {bare} has no labels, {', '.join(labelled)} has: label all"
        )
    ids = indexing.distinct(
        [k for s in found.values() for k in s.keys],
        [p for s in found.values() for p in s.places],
    )
    split = np.repeat(list(found), [len(s.keys) for s in found.values()])
    labels = (
        np.array([n for s in found.values() for n in s.labels or ()])
        if labelled
        else None
    )
    if "val" not in found:
        assert (
            spec.val_fraction is not None and spec.split_seed is not None
        )  # By the validator above.
        split = indexing.draw_val(
            split, ids, labels, spec.val_fraction, spec.split_seed
        )
    recorded = next(iter(found.values())).label_names
    names = (
        None
        if labels is None
        else [recorded[n] if recorded else str(n) for n in labels]
    )
    paths = [location for s in found.values() for location in s.locations]
    return Dataset(indexing.frame(ids, paths, split, labels, names), reader(spec))
