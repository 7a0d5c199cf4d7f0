"""Compute the class purity of latents (arXiv:2606.27321), with its null.

`_purity` defines purity. It has a null since rare latents are pure by chance.

Averages are over the latents that fire at least once, NaN if none does.
`purity_binary`, `purity_weighted`; `purity_binary_null`: the first after permuting the
labels, which keeps every latent's firing count, as a mean over seeded permutations.
Where images have groups, labels move between whole groups of one size, since pictures
of one thing share a label. `purity_binary_min10`: over the latents that fire on at
least 10 images.
"""

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.sparse import csc_matrix

from sae.core.options import Options
from sae.models.codes import Codes
from sae.scoring.metrics import _purity
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()
_PERMUTATIONS = 20


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the purity of one SAE; nothing where the dataset has no labels."""
    labels = subject.labels(split)
    if labels is None:
        return {}
    averages = of_codes(subject.codes(split), labels, subject.groups(split))
    return {f"purity_{name}": value for name, value in averages.items()}


def of_codes(
    codes: Codes, labels: Int[np.ndarray, " images"], groups: np.ndarray | None = None
) -> dict[str, float]:
    """Return averages of purity over latents.

    Args:
        codes: of N images.
        labels: class numbers.
        groups: (N,) group numbers, if images have them.

    Returns:
        binary, weighted, binary_null, binary_min10.
    """
    firing_counts = codes.firing_counts()
    fires = firing_counts > 0
    if not fires.any():
        nan = float("nan")
        return {
            "binary": nan,
            "weighted": nan,
            "binary_null": nan,
            "binary_min10": nan,
        }
    matrix = codes.by_latent()
    purity = _purity.per_latent(matrix, labellings(labels, groups))
    # The first labelling is of the labels as they are.
    weighted = _weighted(matrix, labels, purity.dominant[0])

    binary_means = purity.binary[:, fires].mean(axis=1)
    binary_of_frequent = purity.binary[0, firing_counts >= 10]
    return {
        "binary": float(binary_means[0]),
        "weighted": float(weighted[fires].mean()),
        "binary_null": float(binary_means[1:].mean()),
        "binary_min10": float(
            binary_of_frequent.mean() if len(binary_of_frequent) else np.nan
        ),
    }


def _weighted(
    matrix: Float[csc_matrix, "images latents"],
    labels: Int[np.ndarray, " images"],
    dominant: Int[np.ndarray, " latents"],
) -> Float64[np.ndarray, " latents"]:
    """Return the dominant class's share of each latent's activation, NaN if dead."""
    latent_count = matrix.shape[1]
    latent = np.repeat(np.arange(latent_count), np.diff(matrix.indptr))
    in_dominant = labels[matrix.indices] == dominant[latent]
    activation_of_dominant = np.bincount(
        latent[in_dominant], matrix.data[in_dominant], latent_count
    )
    activation = np.bincount(latent, matrix.data, latent_count)
    with np.errstate(invalid="ignore"):
        return activation_of_dominant / activation


def labellings(
    labels: Int[np.ndarray, " images"], groups: np.ndarray | None
) -> Int[np.ndarray, "labellings images"]:
    """Return the labels as they are, then permuted between groups of one size."""
    rng = np.random.default_rng(0)
    exchangeable = _exchangeable(len(labels), groups)
    permuted = [_permuted(labels, exchangeable, rng) for _ in range(_PERMUTATIONS)]
    return np.stack([labels, *permuted])


def _exchangeable(
    count: int, groups: np.ndarray | None
) -> list[Int[np.ndarray, "groups size"]]:
    """Return for each size of a group the images of its groups; a row is a group."""
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
