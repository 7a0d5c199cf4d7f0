"""Class purity of latents (arXiv:2606.27321; `_purity` defines it), with its null: rare latents are pure by chance.

Averages are over the latents that fire at least once, NaN if none does. `purity_binary`, `purity_weighted`;
`..._null`: the same after permuting the labels, which keeps every latent's firing count, as a mean over seeded
permutations. Where images have groups, labels move between whole groups of one size, since pictures of one thing share
a label. `purity_binary_min10`: over the latents that fire on at least 10 images. With `_coarse`: of coarse labels.
"""

import numpy as np

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
    """Purity of one SAE; nothing where the dataset has no labels."""
    found: Scores = {}
    for suffix, coarse in (("", False), ("_coarse", True)):
        labels = subject.labels(split, coarse)
        if labels is not None:
            averages = of_codes(subject.codes(split), labels, subject.groups(split))
            found |= {
                f"purity_{name}{suffix}": value for name, value in averages.items()
            }
    return found


def of_codes(
    codes: Codes, labels: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Averages of `codes` against `labels` (N,): binary, weighted, binary_null, weighted_null, binary_min10.

    Args:
        groups: (N,) group numbers, if images have them.
    """
    fires = codes.firing_counts()
    active = fires > 0
    names = ("binary", "weighted", "binary_null", "weighted_null", "binary_min10")
    if not active.any():
        return dict.fromkeys(names, float("nan"))
    binary, weighted, _ = _purity.per_latent(
        codes.by_latent(), labellings(labels, groups)
    )
    # The first is of the labels as they are.
    found = [purity[:, active].mean(axis=1) for purity in (binary, weighted)]
    often = binary[0, fires >= 10]
    values = [of[0] for of in found] + [of[1:].mean() for of in found]
    return dict(
        zip(
            names,
            map(float, (*values, often.mean() if len(often) else np.nan)),
            strict=True,
        )
    )


def labellings(labels: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """(1 + permutations, N) the labels (N,) as they are, then permuted between groups of one size."""
    rng, rows = np.random.default_rng(0), _exchangeable(len(labels), groups)
    return np.stack(
        [labels, *(_permuted(labels, rows, rng) for _ in range(_PERMUTATIONS))]
    )


def _exchangeable(count: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """Rows that may change places as they are: arrays (groups of one size, their images)."""
    groups = np.arange(count) if groups is None else groups
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    return [
        order[starts[sizes == size][:, None] + np.arange(size)]
        for size in np.unique(sizes)
    ]


def _permuted(
    labels: np.ndarray, rows: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """The labels, those of each group moved to another group of its size."""
    found = np.empty_like(labels)
    for part in rows:
        found[part] = labels[rng.permutation(part)]
    return found
