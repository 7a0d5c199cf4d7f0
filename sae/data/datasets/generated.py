"""Images that are not there, of a world whose concepts are known (`sae.data.synthetic`); for loader `generated`.

Every size of one seed shares its test images, and a smaller training split is the beginning of a larger one.
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
    """What may be written of such a dataset."""

    counts: options.Counts
    classes: options.Count
    seed: options.Seed
    """Of the world, as the backbone's."""


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    counts = spec.counts.model_dump()
    names = [f"{split}/{row}" for split in SPLITS for row in range(counts[split])]
    labels = [
        synthetic.labels_of(spec.seed, spec.classes, split, counts[split])
        for split in SPLITS
    ]
    label = np.concatenate(labels)
    splits = np.repeat(SPLITS, [counts[split] for split in SPLITS])
    return Dataset(
        indexing.frame(
            names, names, splits, label=label, label_name=[f"class {c}" for c in label]
        )
    )
