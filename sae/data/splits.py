"""Splits that never part a group, and that keep the share of every class."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from sae.core.errors import UserError

SPLITS = ("train", "val", "test")


def grouped_split(
    groups: ArrayLike, strata: ArrayLike, fractions: Mapping[str, float], seed: int
) -> np.ndarray:
    """Assign every row to a split, whole groups at a time, stratum by stratum.

    Within a stratum the groups come in seeded random order, the largest first, and each goes to the split that is
    furthest below its share of the images.

    Args:
        groups: N group names; rows of one group get one split.
        strata: N labels; each split gets about its fraction of every stratum. A group belongs to the stratum of its
            first row.
        fractions: {split: fraction}; they sum to 1.
        seed: of the random order.

    Returns:
        N split names.
    """
    groups, strata = np.asarray(groups), np.asarray(strata)
    names, first, member, size = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    order = sorted(
        fractions
    )  # Sorted: the order in the config must not change the splits.
    target = np.array([fractions[split] for split in order], dtype=np.float64)
    rng = np.random.default_rng(seed)
    chosen = np.empty(len(names), dtype=np.int64)
    for stratum in np.unique(strata):
        here = rng.permutation(np.flatnonzero(strata[first] == stratum))
        here = here[np.argsort(-size[here], kind="stable")]
        filled = np.zeros(len(target))
        total = size[here].sum()
        for group in here:
            chosen[group] = np.argmax(target - filled / total)
            filled[chosen[group]] += size[group]
    return np.array(order)[chosen[member]]


def balanced_rows(labels: ArrayLike, count: int, seed: int) -> np.ndarray:
    """`count` row numbers, the same number of each class (the first classes get the remainder), in random order.

    Raises:
        UserError: a class has too few rows.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    rng = np.random.default_rng(seed)
    rows = []
    for i, label in enumerate(classes):
        wanted = count // len(classes) + (i < count % len(classes))
        available = np.flatnonzero(labels == label)
        if wanted > len(available):
            raise UserError(
                f"key counts: class {label} has {len(available)} images, {wanted} are asked for"
            )
        rows.append(rng.permutation(available)[:wanted])
    return rng.permutation(np.concatenate(rows))
