"""Embeddings of a world whose concepts are known (`sae.data.synthetic`), for datasets of type `generated`.

The metric `recovery` makes the same world from this entry, and says which of its concepts an SAE has found.
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
    """What may be written of such a backbone."""

    model: Literal["independent", "correlated", "hierarchical"]
    """How concepts go together."""
    d: options.Count
    concepts: options.Count
    classes: options.Count
    seed: options.Seed


def files(dataset: Any, spec: Options) -> dict[str, Path]:
    """The files that the embeddings are made of: none."""
    return {}


def world(spec: Options) -> synthetic.World:
    """The world of a backbone's entry."""
    return synthetic.world(spec.d, spec.concepts, spec.classes, spec.seed, spec.model)


def embeddings(dataset: Any, spec: Options, split: str) -> np.ndarray:
    """The embeddings of a split, (N, d) float32.

    Raises:
        UserError: the dataset is of another world.
    """
    for key in ("seed", "classes"):
        ours, theirs = getattr(spec, key), getattr(dataset, key, None)
        if ours != theirs:
            raise UserError(
                f"a world of {key} {ours} does not fit a dataset of type generated with {key} {theirs}"
            )
    return np.concatenate(
        [
            x
            for x, _ in synthetic.chunks(
                world(spec), split, getattr(dataset.counts, split)
            )
        ]
    )
