"""Any image set in WebDataset tars (`key.jpg` with `key.cls` or `key.json`) or parquet files, read in place.

`image_id` is the sample's key, or `shard/row` where keys occur twice. Without labels, `label` is null.

Spec: `root`, `splits` {split: glob below root}, `val_fraction` and `split_seed` instead of a glob for val; for parquet
`image` and `label`, the columns (defaults: image; label, if there is one).
"""

import numpy as np
import pandas as pd

from sae.data import archives, indexing
from sae.data.dataset import Dataset
from sae.core.errors import UserError


def reader(spec):
    """See `sae.data.dataset.reader`."""
    return archives.opener(indexing.root(spec), spec.get("image", "image"))


def load(spec, _artifacts_root):
    root = indexing.root(spec)
    found = {}
    for split, pattern in spec["splits"].items():
        files = sorted(p.relative_to(root).as_posix() for p in root.glob(pattern))
        if not files:
            raise UserError(
                f"dataset type shards, key splits.{split}: no file matches {pattern!r} below {root}, expected a glob "
                f"such as 'train-*.tar'; found there: {indexing.contents(root)}"
            )
        found[split] = archives.samples(root, files, spec.get("image", "image"), spec.get("label"))
    labelled = [split for split in found if found[split].labels is not None]
    if labelled and len(labelled) < len(found):
        bare = ", ".join(split for split in found if split not in labelled)
        raise UserError(f"dataset type shards, root {root}: {bare} has no labels, {', '.join(labelled)} has: label all")
    ids = indexing.distinct([k for s in found.values() for k in s.keys], [p for s in found.values() for p in s.places])
    split = np.repeat(list(found), [len(s.keys) for s in found.values()])
    labels = np.array([n for s in found.values() for n in s.labels]) if labelled else None
    if "val" not in found:
        train = np.flatnonzero(split == "train")
        of_train = [ids[i] for i in train], labels[train] if labelled else None
        split[train[indexing.draw_fraction(*of_train, spec["val_fraction"], spec["split_seed"])]] = "val"
    names = None
    if labelled:
        recorded = next(iter(found.values())).label_names
        known, numbers = np.unique(labels, return_inverse=True)
        names = pd.array([recorded[n] if recorded else str(n) for n in known], dtype="str").take(numbers)
    paths = [location for s in found.values() for location in s.locations]
    return Dataset(indexing.frame(ids, paths, split, labels, names), reader(spec))
