"""How an SAE reconstructs with other k than it was trained with (arXiv:2606.27321, Fig. 4).

Curve `robustness`: NMSE of the k largest activations, whatever the SAE's own selection, at k from k/8 to 4k. Curve
`robustness_own`, of threshold coders alone: the one point at which they work by themselves, NMSE at their mean L0.
"""

import numpy as np
import torch

from sae.core.options import Options
from sae.models.coder import Coder, TopK, gather_sum, restore
from sae.models.inputs import Inputs
from sae.scoring.metrics import _residuals
from sae.scoring.subject import Curve, Scores, Subject

VERSION = 1
STAGE = "robustness"
JUDGED = True
SPLITS = ("test",)
READS = ()
_CHUNK, _ROWS = 2048, 1024


def score(subject: Subject, split: str, options: Options) -> Scores:
    """The curves of one SAE."""
    coder, x = subject.coder, subject.inputs(split)
    ks = k_grid(coder.k, coder.m)
    found = {"robustness": Curve(ks, nmse_by_k(coder, x, ks))}
    if not isinstance(coder.select, TopK):
        codes = subject.codes(split)
        found["robustness_own"] = Curve(
            [codes.l0()], [_residuals.fit(coder, x, codes).nmse]
        )
    return found


def k_grid(k: int, m: int) -> list[int]:
    """Inference-time k, ascending: half octaves from k/8 to 4k, as whole numbers from 1 to m, k among them."""
    return sorted({min(m, max(1, round(k * 2 ** (j / 2)))) for j in range(-6, 5)})


@torch.no_grad()
def nmse_by_k(coder: Coder, x: torch.Tensor | Inputs, ks: list[int]) -> np.ndarray:
    """Normalised error 1 - R^2 at each inference-time k, from one encoding and one incremental decode.

    Args:
        x: (N, d) prepared inputs.
        ks: ascending.

    Returns:
        (len(ks),) float64.
    """
    mean = _residuals.mean_of(x, _CHUNK)
    residual, variance = (
        torch.zeros(len(ks), dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
    )
    for part in x.split(_CHUNK):
        encoded = coder.largest(part, ks[-1])
        # Few rows at a time: for every k they are looked at again, in the cache.
        for rows, values, indices in zip(
            *(t.split(_ROWS) for t in (part, *encoded)), strict=True
        ):
            _, scale, shift = coder.standardise(rows)
            x_hat, done = coder.b_dec.expand_as(rows).clone(), 0
            exact = rows.cpu().double()
            variance += (exact - mean).square_().sum()
            for number, k in enumerate(ks):
                # Largest first: going from one k to the next only adds what lies between.
                x_hat += gather_sum(
                    values[:, done:k].contiguous(),
                    indices[:, done:k].contiguous(),
                    coder.W_dec,
                )
                done = k
                residual[number] += (
                    (exact - restore(x_hat, scale, shift).cpu()).square_().sum()
                )
    return (residual / variance).numpy()
