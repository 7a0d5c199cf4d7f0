"""Whether other seeds find the same latents (arXiv:2501.16615, arXiv:2505.20254).

The decoder rows of two SAEs that differ in their seed alone are matched one to one, so that the sum of their cosines is
the highest (the Hungarian method). `stability`: the mean cosine of the matched; `stability_shared`: the share of pairs
above 0.7; both mean over the other seeds. `stability_null`: the mean for two SAEs before training. It is to be read
beside the score, since equal initialisation alone would give one of 1.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from sae.core.options import Options
from sae.models.coder import Coder
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("siblings",)
SAME = 0.7


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Stability of one SAE; nothing where it has no sibling."""
    coder = subject.coder
    matched, shape = (
        [matches(coder.W_dec, other.W_dec) for other in subject.siblings],
        (coder.d, coder.m),
    )
    return summary(
        "stability",
        matched,
        lambda: subject.once_for_all(("stability", shape), lambda: _null(*shape)),
    )


def summary(name: str, matched: list[np.ndarray], null: Callable[[], float]) -> Scores:
    """Scores of the cosines of matched latents, by sibling; none without any."""
    if not matched:
        return {}
    return {
        name: float(np.mean([cosines.mean() for cosines in matched])),
        f"{name}_shared": float(
            np.mean([(cosines > SAME).mean() for cosines in matched])
        ),
        f"{name}_null": null(),
    }


@torch.no_grad()
def matches(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """The cosines of the rows of (m, d) with those of (m', d) that they are matched with, of the fewer of the two."""
    cosine = (
        (functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T)
        .cpu()
        .double()
        .numpy()
    )
    return cosine[linear_sum_assignment(cosine, maximize=True)]


def _null(d: int, m: int) -> float:
    start = [Coder(d, m, 1) for _ in range(2)]
    for seed, coder in enumerate(start):
        coder.initialise(torch.zeros(d), seed)
    return float(matches(start[0].W_dec, start[1].W_dec).mean())
