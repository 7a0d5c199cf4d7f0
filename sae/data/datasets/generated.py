"""Images that are not there, of a world whose concepts are known (`sae.data.synthetic`); for loader `generated`.

Every size of one seed shares its test images, and a smaller training split is the beginning of a larger one.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sae.core.errors import UserError
from sae.core.options import Count, Counts, Seed
from sae.core.options import Options as Base
from sae.data import indexing, synthetic
from sae.data.dataset import Dataset
from sae.data.splits import SPLITS

VERSION = 1
HAS_IMAGES = False


class Options(Base):
    """What may be written of such a dataset."""

    counts: Counts
    classes: Count
    seed: Seed
    """Of the world, as the backbone's."""


def load(spec: dict[str, Any], _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    names, labels, split = [], [], []
    for name in SPLITS:
        count = spec["counts"][name]
        names += [f"{name}/{row}" for row in range(count)]
        labels.append(synthetic.labels_of(spec["seed"], spec["classes"], name, count))
        split += [name] * count
    label = np.concatenate(labels)
    index = indexing.frame(names, names, split, label=label, label_name=[f"class {c}" for c in label])

    def open_image(path: str) -> Image.Image:
        raise UserError(f"a generated dataset has no images, so that {path!r} cannot be opened: use loader generated")

    return Dataset(index, open_image)
