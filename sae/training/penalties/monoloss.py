"""MonoLoss: the batch's own Monosemanticity Score of the selected codes, as a loss.

Source: arXiv:2602.12403, its equations. For each latent j, with z~ its codes scaled to
[0, 1] over the batch and e the inputs at unit norm:

    MS_j = (||sum_n z~_nj e_n||^2 - sum_n z~_nj^2) / ((sum_n z~_nj)^2 - sum_n z~_nj^2)

The penalty is 1 - the mean of MS_j over the latents whose denominator is above `least`,
one value for the whole batch. It optimises the score that MS reports in the SAE's own
space: read MS by judges of another family.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sae.core.options import Options as Base
from sae.training.step import Batch

VERSION = 1


class Options(Base):
    """The options of MonoLoss."""

    # Twice the paper's 1e-8 a pair.
    least: float = Field(2e-8, gt=0)
    """Latents whose pairs of images weigh no more than this have no score."""


def penalty(batch: Batch) -> Float[Tensor, " batch"]:
    """Compute 1 - the mean MS of the batch.

    Returns:
        One value a sample, all equal.
    """
    z = batch.picks.dense()
    lowest = z.amin(dim=0)
    highest = z.amax(dim=0)
    above_lowest = z - lowest
    span = (highest - lowest).clamp_min(torch.finfo(z.dtype).tiny)
    scaled = above_lowest / span

    sums = scaled.sum(dim=0)
    squares = scaled.square().sum(dim=0)
    weighted_inputs = scaled.T @ functional.normalize(batch.x, dim=1)
    numerator = weighted_inputs.square().sum(dim=1) - squares
    denominator = sums.square() - squares

    # Latents without a score count neither in the mean nor in the gradient.
    has_score = denominator > batch.options.least  # type: ignore[attr-defined]
    scores = torch.where(has_score, numerator, 0) / torch.where(
        has_score, denominator, 1
    )
    mean_score = scores.sum() / has_score.sum().clamp_min(1)
    return (1 - mean_score).expand(len(z))
