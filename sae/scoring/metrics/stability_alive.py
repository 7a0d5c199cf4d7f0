"""Whether other seeds find the same latents, of those that fire on training images.

`stability` matches all latents. Dead ones differ between seeds, so that an SAE with many of them looks unstable even if
its live ones agree. Here only live latents are matched, one to one as there, as many as the SAE with fewer of them has.
`stability_alive`: the mean cosine of the matched; `stability_alive_shared`:
the share of pairs above 0.7; both mean over the other seeds. `stability_alive_null`: the mean for as many random
directions.
"""

import numpy as np
import torch

from sae.core.options import Options
from sae.models.coder import Coder
from sae.scoring.metrics.stability import matches, summary
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("train", "siblings")


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Stability of one SAE's live latents; nothing where it has no sibling, or none fires."""
    own = _live(subject.coder, subject.firing_counts("train"))
    inputs, matched, nulls = subject.inputs("train"), [], []
    for sibling in subject.siblings:
        other = _live(sibling, sibling.firing_counts(inputs))
        if len(own) and len(other):
            matched.append(matches(own, other))
            nulls.append(
                matches(
                    *(_random(rows, seed) for seed, rows in enumerate((own, other)))
                ).mean()
            )
    return summary("stability_alive", matched, lambda: float(np.mean(nulls)))


def _live(coder: Coder, counts: np.ndarray) -> torch.Tensor:
    return coder.W_dec[torch.from_numpy(np.flatnonzero(counts)).to(coder.W_dec.device)]


def _random(rows: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
