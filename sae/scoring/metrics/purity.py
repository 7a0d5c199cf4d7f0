"""Compute the class purity of latents (arXiv:2606.27321), with its null.

`_purity` defines purity. It has a null since rare latents are pure by chance.

Averages are over the latents that fire at least once, NaN if none does.
`purity_binary`, `purity_weighted`; `..._null`: these after permuting the labels,
which keeps every latent's firing count, as a mean over seeded permutations. Where
images have groups, labels move between whole groups of one size, since pictures of one
thing share a label. `purity_binary_min10`: over the latents that fire on at least 10
images. With `_coarse`: of coarse labels.
"""

import numpy as np
from jaxtyping import Int

from sae.core.options import Options
from sae.models.codes import Codes
from sae.scoring.metrics import _purity
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()
ALONE = True
_PERMUTATIONS = 20


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the purity of one SAE; nothing where the dataset has no labels."""
    scores: Scores = {}
    for suffix, coarse in (("", False), ("_coarse", True)):
        labels = subject.labels(split, coarse)
        if labels is None:
            continue
        averages = of_codes(subject.codes(split), labels, subject.groups(split))
        for name, value in averages.items():
            scores[f"purity_{name}{suffix}"] = value
    return scores


def of_codes(
    codes: Codes, labels: Int[np.ndarray, " images"], groups: np.ndarray | None = None
) -> dict[str, float]:
    """Return averages of purity over latents.

    Args:
        codes: of N images.
        labels: class numbers.
        groups: (N,) group numbers, if images have them.

    Returns:
        binary, weighted, binary_null, weighted_null, binary_min10.
    """
    firing_counts = codes.firing_counts()
    fires = firing_counts > 0
    if not fires.any():
        nan = float("nan")
        return {
            "binary": nan,
            "weighted": nan,
            "binary_null": nan,
            "weighted_null": nan,
            "binary_min10": nan,
        }
    purity = _purity.per_latent(codes.by_latent(), labellings(labels, groups))

    # The first labelling is of the labels as they are.
    binary_means = purity.binary[:, fires].mean(axis=1)
    weighted_means = purity.weighted[:, fires].mean(axis=1)
    binary_of_frequent = purity.binary[0, firing_counts >= 10]
    return {
        "binary": float(binary_means[0]),
        "weighted": float(weighted_means[0]),
        "binary_null": float(binary_means[1:].mean()),
        "weighted_null": float(weighted_means[1:].mean()),
        "binary_min10": float(
            binary_of_frequent.mean() if len(binary_of_frequent) else np.nan
        ),
    }


def labellings(
    labels: Int[np.ndarray, " images"], groups: np.ndarray | None = None
) -> Int[np.ndarray, "labellings images"]:
    """Return the labels as they are, then permuted between groups of one size."""
    rng = np.random.default_rng(0)
    exchangeable = _exchangeable(len(labels), groups)
    permuted = [_permuted(labels, exchangeable, rng) for _ in range(_PERMUTATIONS)]
    return np.stack([labels, *permuted])


def _exchangeable(
    count: int, groups: np.ndarray | None
) -> list[Int[np.ndarray, "groups size"]]:
    """Return the images that may change places as they are.

    Returns:
        For each size of a group, the images of its groups: a row is a group.
    """
    if groups is None:
        groups = np.arange(count)
    by_group = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(
        groups[by_group], return_index=True, return_counts=True
    )
    images_by_size = []
    for size in np.unique(sizes):
        places = starts[sizes == size][:, None] + np.arange(size)
        images_by_size.append(by_group[places])
    return images_by_size


def _permuted(
    labels: Int[np.ndarray, " images"],
    exchangeable: list[Int[np.ndarray, "groups size"]],
    rng: np.random.Generator,
) -> Int[np.ndarray, " images"]:
    """Return the labels, those of each group moved to another group of its size."""
    permuted = np.empty_like(labels)
    for images in exchangeable:
        permuted[images] = labels[rng.permutation(images)]
    return permuted
