"""Any dataset of torchvision that yields (PIL image, class number), by its class's name.

Test is what the keywords `test` give; val is a stratified part of what `train` gives.

Spec: `name`, `root`, `train` and `test` (keywords of the class), `val_fraction`, `split_seed`, `download`.
"""

import numpy as np
import pandas as pd

from sae.data import indexing
from sae.data.dataset import Dataset
from sae.errors import UserError


def load(spec, _artifacts_root):
    parts = {part: _open(spec, part) for part in ("train", "test")}
    labels = {part: _labels(spec, part, dataset) for part, dataset in parts.items()}
    ids = [f"{part}/{row}" for part in parts for row in range(len(labels[part]))]
    count = len(labels["train"])
    split = np.where(np.arange(len(ids)) < count, "train", "test")
    in_val = indexing.draw_fraction(ids[:count], labels["train"], spec["val_fraction"], spec["split_seed"])
    split[:count][in_val] = "val"
    numbers = np.concatenate(list(labels.values()))
    classes = getattr(parts["train"], "classes", None) or range(numbers.max() + 1)
    names = pd.array([", ".join(c) if isinstance(c, tuple) else str(c) for c in classes], dtype="str").take(numbers)

    def open_image(path):
        part, row = path.split("/")
        return parts[part][int(row)][0].convert("RGB")

    return Dataset(indexing.frame(ids, ids, split, numbers, names), open_image)


def _open(spec, part):
    import torchvision.datasets

    name = spec["name"]
    if name not in torchvision.datasets.__all__:
        known = ", ".join(torchvision.datasets.__all__)
        raise UserError(f"dataset type torchvision, key name: torchvision has no dataset {name!r}; it has: {known}")
    # Not every class has the keyword `download`.
    keywords = spec[part] | ({"download": True} if spec["download"] else {})
    what = f"dataset type torchvision, {name}, {part}"
    try:
        return getattr(torchvision.datasets, name)(spec["root"], **keywords)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what}: the keywords {keywords} do not suit it ({error}): correct them in the config"
        ) from None
    except (OSError, RuntimeError) as error:
        advice = (
            f"the download needs the internet; without it, put the dataset's files under {spec['root']}"
            if spec["download"]
            else f"put the dataset's files under {spec['root']}, or set `download: true`, which needs the internet"
        )
        raise UserError(f"{what}: {' '.join(str(error).split())}: {advice}") from None


def _labels(spec, part, dataset):
    """(N,) class numbers, without decoding images where the class keeps them in an attribute."""
    kept = next((getattr(dataset, a) for a in ("targets", "_labels", "labels") if hasattr(dataset, a)), None)
    if kept is None and hasattr(dataset, "_samples"):
        kept = [label for _, label in dataset._samples]
    if kept is None:
        kept = [dataset[row][1] for row in range(len(dataset))]
    labels = np.asarray(kept)
    if labels.shape != (len(dataset),) or labels.dtype.kind not in "iu":
        raise UserError(
            f"dataset type torchvision, {spec['name']}, {part}: its labels are {labels.dtype} of shape {labels.shape}, "
            f"expected one class number for each of {len(dataset)} images: choose a classification dataset"
        )
    return labels.astype(np.int64)
