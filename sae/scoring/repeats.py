"""Find images that are there twice: by identical embeddings, or by their groups."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from sae.core.errors import UserError
from sae.data.store import Activations
from sae.scoring.metrics.concepts import group_numbers


def hash_rows(
    embeddings: Float[np.ndarray, "images dim"],
) -> Int[np.ndarray, " images"]:
    """Return a hash of each row, the same for equal numbers of any type."""
    hashes = (hash(row.astype(np.float32).tobytes()) for row in embeddings)
    return np.fromiter(hashes, np.int64, len(embeddings))


def find_shared(
    images: Activations, others: Activations
) -> Bool[np.ndarray, " images"]:
    """Say of each image whether its embedding is among those of others."""
    return np.isin(hash_rows(images.embeddings), hash_rows(others.embeddings))


def join_repeats(images: Activations) -> tuple[Activations, int]:
    """Make one group of images whose embeddings are identical, and of their groups.

    Returns:
        The images, and how many of them have the embedding of an earlier one; 0 where
        groups join all of these already.
    """
    groups = group_numbers(images)
    row_numbers, distinct = pd.factorize(hash_rows(images.embeddings))
    group_count = groups.max() + 1
    # A graph of groups and of distinct rows, with an edge for each image.
    size = group_count + len(distinct)
    edges = csr_matrix(
        (np.ones(len(groups)), (groups, group_count + row_numbers)), (size, size)
    )
    _, joined_of_node = connected_components(edges, directed=False)
    joined = joined_of_node[groups]
    _, firsts, joined = np.unique(joined, return_index=True, return_inverse=True)
    if len(firsts) == group_count:
        return images, 0
    names = images.index["group"].to_numpy()[firsts]
    manifest = {
        **images.manifest,
        "dataset": {**images.manifest["dataset"], "grouped": True},
    }
    index = images.index.assign(group=names[joined])
    repeat_count = len(groups) - len(distinct)
    return replace(images, index=index, manifest=manifest), repeat_count


def check_apart(
    splits: Mapping[str, Activations], trained_on: Activations | None = None
) -> None:
    """Refuse splits that share images.

    Args:
        splits: {split: its images}.
        trained_on: What the SAE was trained on, where that is not the split train.

    Raises:
        UserError: an embedding or a group lies in several splits, or an embedding
            of val or test was trained on.
    """
    hashes = {split: hash_rows(images.embeddings) for split, images in splits.items()}
    for first, second in itertools.combinations(splits, 2):
        shared = np.isin(hashes[second], hashes[first])
        if shared.any():
            raise UserError(
                f"{shared.sum()} of {len(shared)} embeddings of {second} are in "
                f"{first} too: what was trained on is not held out; leave them out of "
                "one of the two"
            )
        images, others = splits[first], splits[second]
        if images.grouped and others.grouped:
            shared = np.isin(others.index["group"], images.index["group"])
            if shared.any():
                raise UserError(
                    f"{shared.sum()} of {len(shared)} images of {second} are of groups "
                    f"that lie in {first} too: near-duplicates of what was trained on "
                    "are not held out; leave each group in one split"
                )
    if trained_on is None:
        return
    trained_hashes = hash_rows(trained_on.embeddings)
    for split in ("val", "test"):
        shared = np.isin(hashes[split], trained_hashes)
        if shared.any():
            raise UserError(
                f"{shared.sum()} of {len(shared)} embeddings of {split} are among "
                "those that the SAE was trained on (--train, train=...): references "
                "would be trained on what is held out; leave them out there, or "
                "name no training embeddings"
            )
