"""Embeddings of a world whose concepts are known, for datasets of type `generated`.

`sae.data.synthetic` says what such a world is. The metric `recovery` makes the same
world from this entry, and says which of its concepts an SAE has found.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from sae.core import options
from sae.core.errors import UserError
from sae.data import synthetic

VERSION = 1
READS_IMAGES = False


class Options(options.Options):
    """The options of such a backbone."""

    model: Literal["independent", "correlated", "hierarchical"]
    """How concepts go together."""
    d: options.Count
    """Dimensions of an embedding."""
    concepts: options.Count
    """Concepts of the world."""
    classes: options.Count
    """Classes of the world: as many as the dataset says."""
    seed: options.Seed
    """Of the world, as the dataset's."""


def files(dataset: Any, spec: Options) -> dict[str, Path]:
    """Return the files that the embeddings are made of: none."""
    return {}


def world(spec: Options) -> synthetic.World:
    """Return the world of a backbone's entry."""
    return synthetic.world(spec.d, spec.concepts, spec.classes, spec.seed, spec.model)


def embeddings(dataset: Any, spec: Options, split: str) -> np.ndarray:
    """Return the embeddings of a split, (N, d) float32.

    Raises:
        UserError: the dataset is of another world.
    """
    for key in ("seed", "classes"):
        value = getattr(spec, key)
        value_of_dataset = getattr(dataset, key, None)
        if value != value_of_dataset:
            raise UserError(
                f"a world of {key} {value} does not fit a dataset of type generated "
                f"with {key} {value_of_dataset}"
            )
    count = getattr(dataset.counts, split)
    chunks = synthetic.chunks(world(spec), split, count)
    return np.concatenate([embeddings for embeddings, _ in chunks])
