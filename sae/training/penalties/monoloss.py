"""MonoLoss (arXiv:2602.12403, its equations): the batch's own Monosemanticity Score of the selected code, as a loss.

For each latent j, with z~ its codes scaled to [0, 1] over the batch and e the inputs at unit norm:

    MS_j = (||sum_n z~_nj e_n||^2 - sum_n z~_nj^2) / ((sum_n z~_nj)^2 - sum_n z~_nj^2)

and the penalty is 1 - the mean of MS_j over the latents whose denominator is above `least`, one value for the whole
batch. It optimises the score that MS reports in the SAE's own space: read it by judges of another family.
"""

import torch
from pydantic import Field
from torch.nn import functional

from sae.core.options import Options as Base
from sae.training.step import Batch

VERSION = 1


class Options(Base):
    """Of this penalty."""

    least: float = Field(2e-8, gt=0)
    """Latents whose pairs of images weigh no more than this have no score (twice the paper's 1e-8 a pair)."""


def penalty(batch: Batch) -> torch.Tensor:
    """1 - mean MS of the batch, the same for each sample: (N,)."""
    z = batch.picks.dense()
    low, high = z.amin(dim=0), z.amax(dim=0)
    scaled = (z - low) / (high - low).clamp_min(torch.finfo(z.dtype).tiny)
    sums, squares = scaled.sum(dim=0), scaled.square().sum(dim=0)
    together = (scaled.T @ functional.normalize(batch.x, dim=1)).square().sum(
        dim=1
    ) - squares
    weight = sums.square() - squares
    counts = weight > batch.options.least  # type: ignore[attr-defined]
    ms = torch.where(counts, together, 0) / torch.where(counts, weight, 1)
    return (1 - ms.sum() / counts.sum().clamp_min(1)).expand(len(z))
