"""A class-balanced subset of Fashion-MNIST, 28 x 28 grey.

Xiao et al. 2017, arXiv:1708.07747. Train and val come from the official training
images, test from the official test images.
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
    """The options of such a dataset."""

    artifacts: options.OneArtifact
    """The artifact with the four files of Fashion-MNIST."""
    counts: options.Counts
    """Images of each split: {train, val, test}."""
    split_seed: options.Seed
    """The seed that draws which images are taken, and which a split gets."""


def load(spec: Options, artifacts_root: str | Path | None) -> Dataset:
    """Draw a balanced part of the official images; see `sae.data.datasets`."""
    (artifact,) = spec.artifacts
    images = {}
    labels = {}
    for part in ("train", "t10k"):
        image_file = f"{part}-images-idx3-ubyte"
        label_file = f"{part}-labels-idx1-ubyte"
        image_path = artifacts.path(artifacts_root, artifact, image_file)
        label_path = artifacts.path(artifacts_root, artifact, label_file)
        images[part] = _read_idx(image_path, rank=3)
        labels[part] = _read_idx(label_path, rank=1)

    counts = spec.counts
    seed = spec.split_seed
    # Train is a balanced part of train + val, so the two stay disjoint and both
    # balanced.
    pool = balanced_rows(labels["train"], counts.train + counts.val, seed)
    in_train = balanced_rows(labels["train"][pool], counts.train, seed)
    in_val = np.setdiff1d(np.arange(len(pool)), in_train)
    test = balanced_rows(labels["t10k"], counts.test, seed)

    drawn = (
        ("train", "train", pool[in_train]),
        ("train", "val", pool[in_val]),
        ("t10k", "test", test),
    )
    names = []
    splits = []
    numbers = []
    for part, split, rows in drawn:
        for row in rows:
            names.append(f"{part}/{row}")
            splits.append(split)
            numbers.append(int(labels[part][row]))
    index = indexing.frame(
        names, names, splits, numbers, [CLASSES[number] for number in numbers]
    )

    def open_image(path: str) -> Image.Image:
        part, row = path.split("/")
        return Image.fromarray(images[part][int(row)])

    return Dataset(index, open_image)


def _read_idx(path: Path, rank: int) -> np.ndarray:
    """Read an array of bytes from a file of the IDX format."""
    # A 4-byte magic number, one big-endian int32 a dimension, then the values.
    content = path.read_bytes()
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    return values.reshape(shape)
