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

    Within a stratum the groups come in seeded random order, the largest first, and each
    goes to the split that is furthest below its share of the images.

    Args:
        groups: N group names; rows of one group get one split.
        strata: N labels; each split gets about its fraction of every stratum. A group
            belongs to the stratum of its first row.
        fractions: {split: fraction}; they sum to 1.
        seed: of the random order.

    Returns:
        N split names.
    """
    groups = np.asarray(groups)
    strata = np.asarray(strata)
    names, first_row, group_of_row, group_size = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    stratum_of_group = strata[first_row]
    # Sorted: the order in the config must not change the splits.
    splits = sorted(fractions)
    target_share = np.array([fractions[split] for split in splits], dtype=np.float64)

    rng = np.random.default_rng(seed)
    split_of_group = np.empty(len(names), dtype=np.int64)
    for stratum in np.unique(strata):
        in_order = rng.permutation(np.flatnonzero(stratum_of_group == stratum))
        in_order = in_order[np.argsort(-group_size[in_order], kind="stable")]
        images_of_split = np.zeros(len(splits))
        images_of_stratum = group_size[in_order].sum()
        for group in in_order:
            lacking_share = target_share - images_of_split / images_of_stratum
            chosen_split = np.argmax(lacking_share)
            split_of_group[group] = chosen_split
            images_of_split[chosen_split] += group_size[group]
    return np.array(splits)[split_of_group[group_of_row]]


def choose_share(
    groups: ArrayLike, strata: ArrayLike, share: float, seed: int
) -> np.ndarray:
    """Choose a share of the groups, about the same share of every stratum.

    The groups of a stratum are put in seeded random order and spread evenly from 0 to
    1. Those nearest to 0 are chosen, of all strata together: so the number of groups is
    right although strata are small, and a smaller share is part of a larger one.

    Args:
        groups: N group names; a group is chosen as a whole.
        strata: N labels. A group belongs to the stratum of its first row.
        share: of the groups, from 0 to 1.
        seed: of the random order.

    Returns:
        N booleans: whether the row's group is chosen.
    """
    groups = np.asarray(groups)
    _, first_row, group_of_row = np.unique(
        groups, return_index=True, return_inverse=True
    )
    stratum_of_group = np.asarray(strata)[first_row]
    rng = np.random.default_rng(seed)
    place = np.empty(len(first_row))
    for stratum in np.unique(stratum_of_group):
        in_order = rng.permutation(np.flatnonzero(stratum_of_group == stratum))
        # Without a random start every small stratum would lose, or keep, its last
        # group.
        start = rng.random()
        place[in_order] = (np.arange(len(in_order)) + start) / len(in_order)

    chosen_count = round(share * len(place))
    is_chosen = np.zeros(len(place), dtype=bool)
    is_chosen[np.argsort(place, kind="stable")[:chosen_count]] = True
    return is_chosen[group_of_row]


def balanced_rows(labels: ArrayLike, count: int, seed: int) -> np.ndarray:
    """Draw `count` rows, the same number of each class, in random order.

    Where they do not divide evenly, the first classes get one more.

    Args:
        labels: N class numbers.
        count: how many rows are drawn.
        seed: of the draw.

    Returns:
        The row numbers.

    Raises:
        UserError: a class has too few rows.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    per_class, remainder = divmod(count, len(classes))
    rng = np.random.default_rng(seed)
    drawn_rows = []
    for place, label in enumerate(classes):
        needed = per_class + 1 if place < remainder else per_class
        available = np.flatnonzero(labels == label)
        if needed > len(available):
            raise UserError(
                f"key counts: class {label} has {len(available)} images, {needed} are "
                "asked for"
            )
        drawn_rows.append(rng.permutation(available)[:needed])
    return rng.permutation(np.concatenate(drawn_rows))
