"""Class purity of latents (arXiv:2606.27321; `_purity` defines it), with its null: rare latents are pure by chance.

Averages are over the latents that fire at least once, NaN if none does. `purity_binary`, `purity_weighted`;
`..._null`: the same after permuting the labels, which keeps every latent's firing count, as a mean over seeded
permutations; `purity_binary_min10`: over the latents that fire on at least 10 images. With `_coarse`: of coarse labels.
"""

import numpy as np

from sae.core.options import Options
from sae.models.codes import Codes
from sae.scoring.metrics import _purity
from sae.scoring.subject import Scores, Subject

STAGE = "score"
SPLITS = ("val", "test")
READS = ()
_PERMUTATIONS = 20
_SEED = 0


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Purity of one SAE; nothing where the dataset has no labels."""
    found: Scores = {}
    for suffix, coarse in (("", False), ("_coarse", True)):
        labels = subject.labels(split, coarse)
        if labels is not None:
            averages = of_codes(subject.codes(split), labels)
            found |= {f"purity_{name}{suffix}": value for name, value in averages.items()}
    return found


def of_codes(codes: Codes, labels: np.ndarray) -> dict[str, float]:
    """Averages of `codes` against `labels` (N,): binary, weighted, binary_null, weighted_null, binary_min10."""
    fires = codes.firing_counts()
    active = fires > 0
    names = ("binary", "weighted", "binary_null", "weighted_null", "binary_min10")
    if not active.any():
        return dict.fromkeys(names, float("nan"))
    rng = np.random.default_rng(_SEED)
    labellings = np.stack([labels, *(rng.permutation(labels) for _ in range(_PERMUTATIONS))])
    binary, weighted, _ = _purity.per_latent(codes.by_latent(), labellings)
    # The first is of the labels as they are.
    found = [purity[:, active].mean(axis=1) for purity in (binary, weighted)]
    often = binary[0, fires >= 10]
    values = [of[0] for of in found] + [of[1:].mean() for of in found]
    return dict(zip(names, map(float, (*values, often.mean() if len(often) else np.nan)), strict=True))
