"""Average activations by rank (arXiv:2606.27321, Fig. 5).

Each image's m activations are sorted, largest first, then averaged over the images.

Curve `rank_profile`: about 64 ranks from 1 to m, evenly on a log scale, and k.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.core.options import Options
from sae.models.coder import Coder
from sae.models.inputs import Inputs
from sae.scoring.subject import Curve, Scores, Subject

VERSION = 1
STAGE = "robustness"
SPLITS = ("test",)
READS = ()
_CHUNK = 2048


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the profile of one SAE."""
    coder = subject.coder
    log_spaced = np.geomspace(1, coder.m, 64).round().astype(int)
    ranks = np.unique(np.append(log_spaced, coder.k))
    mean_activations = profile(coder, subject.inputs(split))
    return {"rank_profile": Curve(ranks, mean_activations[ranks - 1])}


@torch.no_grad()
def profile(
    coder: Coder, x: Float[Tensor, "images dim"] | Inputs
) -> Float64[np.ndarray, " ranks"]:
    """Return the mean activation at each rank, from 1 to m.

    Args:
        coder: the SAE.
        x: prepared inputs, over which the mean is.
    """
    total = np.zeros(coder.m)
    for part in x.split(_CHUNK):
        activations = coder.activations(coder.standardise(part)[0])
        # NumPy sorts values alone, with the vector instructions there are: some 13
        # times as fast as `torch.sort`.
        if activations.device.type == "cpu":
            ascending = np.sort(activations.numpy(), axis=1)
        else:
            ascending = activations.sort(dim=1).values.cpu().numpy()
        total += ascending.sum(axis=0, dtype=np.float64)
    return total[::-1] / len(x)
