"""Ask whether other seeds find the same latents, of those that fire on train.

`stability` matches all latents. Dead ones differ between seeds, so that an SAE with
many of them looks unstable even if its live ones agree. Here only live latents are
matched, one to one as there, as many as the SAE with fewer of them has.
`stability_alive`: the mean cosine of the matched; `stability_alive_shared`: the share
of pairs above 0.7; both mean over the other seeds. `stability_alive_null`: the mean for
as many random directions.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.core.options import Options
from sae.models.coder import Coder
from sae.scoring.metrics.stability import matches, summary
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "chosen"
SPLITS = ("test",)
READS = ("train", "siblings")


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the stability of one SAE's live latents.

    There is nothing to return where it has no sibling, or no latent fires.
    """
    live = _live_rows(subject.coder, subject.firing_counts("train"))
    inputs = subject.inputs("train")
    cosines_by_sibling = []
    nulls = []
    for sibling in subject.siblings:
        sibling_live = _live_rows(sibling, sibling.firing_counts(inputs))
        if not len(live) or not len(sibling_live):
            continue
        cosines_by_sibling.append(matches(live, sibling_live))
        random = _random_rows(live, seed=0)
        sibling_random = _random_rows(sibling_live, seed=1)
        nulls.append(matches(random, sibling_random).mean())
    return summary("stability_alive", cosines_by_sibling, lambda: float(np.mean(nulls)))


def _live_rows(
    coder: Coder, firing_counts: Int[np.ndarray, " latents"]
) -> Float[Tensor, "live dim"]:
    live = torch.from_numpy(np.flatnonzero(firing_counts))
    return coder.W_dec[live.to(coder.W_dec.device)]


def _random_rows(
    rows: Float[Tensor, "live dim"], seed: int
) -> Float[Tensor, "live dim"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows.shape, generator=generator)
