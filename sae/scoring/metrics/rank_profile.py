"""Mean activation by rank (arXiv:2606.27321, Fig. 5): each image's m activations sorted, largest first, then averaged.

Curve `rank_profile`: about 64 ranks from 1 to m, evenly on a log scale, and k.
"""

import numpy as np
import torch

from sae.core.options import Options
from sae.models.coder import Coder
from sae.models.inputs import Inputs
from sae.scoring.subject import Curve, Scores, Subject

VERSION = 1
STAGE = "robustness"
JUDGED = True
SPLITS = ("test",)
READS = ()
_CHUNK = 2048


def score(subject: Subject, split: str, options: Options) -> Scores:
    """The profile of one SAE."""
    coder = subject.coder
    ranks = np.unique(
        np.append(np.geomspace(1, coder.m, 64).round().astype(int), coder.k)
    )
    return {
        "rank_profile": Curve(ranks, profile(coder, subject.inputs(split))[ranks - 1])
    }


@torch.no_grad()
def profile(coder: Coder, x: torch.Tensor | Inputs) -> np.ndarray:
    """(m,) float64: the mean over prepared inputs (N, d) of the activations at each rank."""
    total = np.zeros(coder.m)
    for part in x.split(_CHUNK):
        a = coder.activations(coder.standardise(part)[0])
        # NumPy sorts values alone, with the vector instructions there are: some 13 times as fast as `torch.sort`.
        ascending = (
            np.sort(a.numpy(), axis=1)
            if a.device.type == "cpu"
            else a.sort(dim=1).values.cpu().numpy()
        )
        total += ascending.sum(axis=0, dtype=np.float64)
    return total[::-1] / len(x)
