"""Images that are not there, of a world whose concepts are known.

They are for the loader `generated`; `sae.data.synthetic` says more. Every size of one
seed shares its test images, and a smaller training split is the beginning of a larger
one.
"""

from pathlib import Path

import numpy as np

from sae.core import options
from sae.data import indexing, synthetic
from sae.data.dataset import Dataset
from sae.data.splits import SPLITS

VERSION = 1
HAS_IMAGES = False


class Options(options.Options):
    """The options of such a dataset."""

    counts: options.Counts
    """Images of each split: {train, val, test}."""
    classes: options.Count
    """Classes of the world: as many as the backbone says."""
    seed: options.Seed
    """Of the world, as the backbone's."""


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """List the images of a world; see `sae.data.datasets`."""
    counts = spec.counts.model_dump()
    names = [f"{split}/{row}" for split in SPLITS for row in range(counts[split])]
    splits = np.repeat(SPLITS, [counts[split] for split in SPLITS])
    labels = np.concatenate(
        [
            synthetic.labels_of(spec.seed, spec.classes, split, counts[split])
            for split in SPLITS
        ]
    )
    label_names = [f"class {label}" for label in labels]
    return Dataset(indexing.frame(names, names, splits, labels, label_names))
