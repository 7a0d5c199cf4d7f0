"""A class-balanced subset of Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747; 28 x 28 grey).

Train and val come from the official training images, test from the official test images.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from sae.core import options
from sae.data import artifacts, indexing
from sae.data.dataset import Dataset
from sae.data.splits import balanced_rows

VERSION = 1
CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


class Options(options.Options):
    """What may be written of such a dataset."""

    artifacts: options.OneArtifact
    counts: options.Counts
    split_seed: options.Seed


def load(spec: Options, artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    (artifact,) = spec.artifacts
    images, labels = {}, {}
    for part in ("train", "t10k"):
        images[part] = _idx(
            artifacts.path(artifacts_root, artifact, f"{part}-images-idx3-ubyte"), 3
        )
        labels[part] = _idx(
            artifacts.path(artifacts_root, artifact, f"{part}-labels-idx1-ubyte"), 1
        )
    counts, seed = spec.counts, spec.split_seed
    # Train is a balanced part of train + val, so the two stay disjoint and both balanced.
    pool = balanced_rows(labels["train"], counts.train + counts.val, seed)
    in_train = balanced_rows(labels["train"][pool], counts.train, seed)
    test = balanced_rows(labels["t10k"], counts.test, seed)
    in_val = np.setdiff1d(np.arange(len(pool)), in_train)
    chosen = [
        ("train", "train", pool[in_train]),
        ("train", "val", pool[in_val]),
        ("t10k", "test", test),
    ]
    rows = [
        (part, row, split) for part, split, chosen_rows in chosen for row in chosen_rows
    ]
    names = [f"{part}/{row}" for part, row, _ in rows]
    label = [int(labels[part][row]) for part, row, _ in rows]
    index = indexing.frame(
        names,
        names,
        [split for *_, split in rows],
        label,
        [CLASSES[number] for number in label],
    )

    def open_image(path: str) -> Image.Image:
        part, row = path.split("/")
        return Image.fromarray(images[part][int(row)])

    return Dataset(index, open_image)


def _idx(path: Path, dimensions: int) -> np.ndarray:
    # The IDX format: a 4-byte magic number whose last byte is the rank, one big-endian int32 a dimension, then bytes.
    raw = path.read_bytes()
    shape = np.frombuffer(raw, ">i4", count=dimensions, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
