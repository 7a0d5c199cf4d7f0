"""Ask whether other seeds find the same latents (arXiv:2501.16615, arXiv:2505.20254).

The decoder rows of two SAEs that differ in their seed alone are matched one to one, so
that the sum of their cosines is the highest (the Hungarian method). `stability`: the
mean cosine of the matched; `stability_shared`: the share of pairs above 0.7; both mean
over the other seeds. `stability_null`: the mean for two SAEs before training. It is to
be read beside the score, since equal initialisation alone would give one of 1.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from sae.core.options import Options
from sae.models.coder import Coder
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "chosen"
SPLITS = ("test",)
READS = ("siblings",)
# Matched latents of a higher cosine count as shared.
SAME = 0.7


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the stability of one SAE; nothing where it has no sibling."""
    coder = subject.coder
    cosines_by_sibling = [
        matches(coder.W_dec, sibling.W_dec) for sibling in subject.siblings
    ]
    shape = (coder.d, coder.m)
    return summary(
        "stability",
        cosines_by_sibling,
        lambda: subject.once_for_all(("stability", shape), lambda: _null(*shape)),
    )


def summary(
    name: str,
    cosines_by_sibling: list[Float64[np.ndarray, " matched"]],
    null: Callable[[], float],
) -> Scores:
    """Return the scores of matched latents; none without siblings.

    Args:
        name: what the columns begin with.
        cosines_by_sibling: the cosines of the matched latents, of each sibling.
        null: computes the score that is to be read beside them.
    """
    if not cosines_by_sibling:
        return {}
    means = [cosines.mean() for cosines in cosines_by_sibling]
    shared = [(cosines > SAME).mean() for cosines in cosines_by_sibling]
    return {
        name: float(np.mean(means)),
        f"{name}_shared": float(np.mean(shared)),
        f"{name}_null": null(),
    }


@torch.no_grad()
def matches(
    decoder: Float[Tensor, "latents dim"],
    sibling_decoder: Float[Tensor, "sibling_latents dim"],
) -> Float64[np.ndarray, " matched"]:
    """Match the rows of two decoders one to one, so that their cosines are highest.

    Returns:
        The cosine of each pair: as many as the decoder with fewer rows has.
    """
    rows = functional.normalize(decoder, dim=1)
    sibling_rows = functional.normalize(sibling_decoder, dim=1)
    cosine = (rows @ sibling_rows.T).cpu().double().numpy()
    return cosine[linear_sum_assignment(cosine, maximize=True)]


def _null(d: int, m: int) -> float:
    """Return the mean cosine of matched latents of two SAEs before training."""
    untrained = []
    for seed in range(2):
        coder = Coder(d, m, 1)
        coder.initialise(torch.zeros(d), seed)
        untrained.append(coder)
    return float(matches(untrained[0].W_dec, untrained[1].W_dec).mean())
