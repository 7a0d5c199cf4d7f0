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


def files(dataset_spec: dict[str, Any], backbone_spec: dict[str, Any]) -> dict[str, Path]:
    """The files that the embeddings are made of: none."""
    return {}


def world(spec: dict[str, Any]) -> synthetic.World:
    """The world of a backbone's entry."""
    return synthetic.world(spec["d"], spec["concepts"], spec["classes"], spec["seed"], spec["model"])


def embeddings(dataset_spec: dict[str, Any], backbone_spec: dict[str, Any], split: str) -> np.ndarray:
    """The embeddings of a split, (N, d) float32.

    Raises:
        UserError: the dataset is of another world.
    """
    for key in ("seed", "classes"):
        if dataset_spec.get(key) != backbone_spec[key]:
            raise UserError(
                f"a world of {key} {backbone_spec[key]} does not fit a dataset of type {dataset_spec['type']} with "
                f"{key} {dataset_spec.get(key)}: use type generated, with the same"
            )
    parts = synthetic.chunks(world(backbone_spec), split, dataset_spec["counts"][split])
    return np.concatenate([x for x, _ in parts])
