"""Reconstruct with other k than an SAE was trained with (arXiv:2606.27321, Fig. 4).

Curve `robustness`: NMSE of the k largest activations, whatever the SAE's own selection,
at k from k/8 to 4k. Curve `robustness_own`, of threshold coders alone: the one point at
which they work by themselves, NMSE at their mean L0.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.core.options import Options
from sae.models.coder import Coder, TopK, gather_sum, undo_standardise
from sae.models.inputs import Inputs
from sae.scoring.metrics import _residuals
from sae.scoring.subject import Curve, Scores, Subject

VERSION = 1
STAGE = "robustness"
SPLITS = ("test",)
READS = ()
# Images that are encoded at once, and of those the ones that are decoded at once.
_CHUNK = 2048
_ROWS = 1024


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the curves of one SAE."""
    coder = subject.coder
    x = subject.inputs(split)
    ks = k_grid(coder.k, coder.m)
    scores: Scores = {"robustness": Curve(ks, nmse_by_k(coder, x, ks))}
    if not isinstance(coder.select, TopK):
        codes = subject.codes(split)
        nmse = _residuals.score_reconstruction(coder, x, codes).nmse
        scores["robustness_own"] = Curve([codes.l0()], [nmse])
    return scores


def k_grid(k: int, m: int) -> list[int]:
    """Return the inference-time k to reconstruct with, ascending, k among them.

    They are half octaves from k/8 to 4k, as whole numbers from 1 to m.
    """
    half_octaves = [round(k * 2 ** (j / 2)) for j in range(-6, 5)]
    return sorted({min(m, max(1, grid_k)) for grid_k in half_octaves})


@torch.no_grad()
def nmse_by_k(
    coder: Coder, x: Float[Tensor, "images dim"] | Inputs, ks: list[int]
) -> Float64[np.ndarray, " ks"]:
    """Return the normalised error 1 - R^2 at each inference-time k.

    All come from one encoding and one incremental decode.

    Args:
        coder: the SAE.
        x: prepared inputs.
        ks: ascending.
    """
    mean = _residuals.mean_of(x, _CHUNK)
    residual = torch.zeros(len(ks), dtype=torch.float64)
    variance = torch.zeros((), dtype=torch.float64)
    for part in x.split(_CHUNK):
        part_values, part_indices = coder.largest(part, ks[-1])
        # Few rows at a time: for every k they are looked at again, in the cache.
        for rows, values, indices in zip(
            part.split(_ROWS),
            part_values.split(_ROWS),
            part_indices.split(_ROWS),
            strict=True,
        ):
            _, scale, shift = coder.standardise(rows)
            exact = rows.cpu().double()
            variance += (exact - mean).square_().sum()

            # Largest first: going from one k to the next only adds what lies between.
            x_hat = coder.b_dec.expand_as(rows).clone()
            last_k = 0
            for number, k in enumerate(ks):
                x_hat += gather_sum(
                    values[:, last_k:k].contiguous(),
                    indices[:, last_k:k].contiguous(),
                    coder.W_dec,
                )
                restored = undo_standardise(x_hat, scale, shift).cpu()
                residual[number] += (exact - restored).square_().sum()
                last_k = k
    return (residual / variance).numpy()
