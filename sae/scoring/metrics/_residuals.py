"""Sums of squared residuals, and the scores made of them: float64, in the model's input space."""

from typing import NamedTuple

import torch

from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.models.inputs import Inputs

CHUNK = 4096


class Fit(NamedTuple):
    """Scores of a reconstruction around the evaluated split's own mean.

    Attributes:
        r2: 1 - total residual / total variance.
        r2_dim_mean: mean over dimensions of the per-dimension R^2; dimensions without variance are left out.
        nmse: total residual / total variance = 1 - r2.
        constant_dims: number of dimensions left out.
    """

    r2: float
    r2_dim_mean: float
    nmse: float
    constant_dims: int


def mean_of(x: torch.Tensor | Inputs, chunk: int) -> torch.Tensor:
    """(d,) mean of prepared inputs (N, d), float64 on the CPU: not every accelerator has float64."""
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for part in x.split(chunk):
        total += part.cpu().double().sum(dim=0)
    return total / len(x)


@torch.no_grad()
def fit(coder: Coder, x: torch.Tensor | Inputs, codes: Codes) -> Fit:
    """Scores of `codes` for prepared inputs `x` (N, d)."""
    mean = mean_of(x, CHUNK)
    residual, variance = torch.zeros_like(mean), torch.zeros_like(mean)
    first, constant = x[:1], torch.ones(len(mean), dtype=torch.bool)
    for number, part in enumerate(x.split(CHUNK)):
        x_hat = coder.reconstruct(
            part, codes.rows(number * CHUNK, number * CHUNK + len(part))
        )
        constant &= (part == first).all(dim=0).cpu()
        exact = part.cpu().double()
        residual += (exact - x_hat.cpu().double()).square().sum(dim=0)
        variance += (exact - mean).square().sum(dim=0)
    # A dimension whose float32 values are all equal has a sum of rounding errors, not a variance.
    variance[constant] = 0
    varies, of_each, total = (variance > 0).numpy(), residual.numpy(), variance.numpy()
    nmse = float(of_each.sum() / total.sum())
    per_dimension = 1 - of_each[varies] / total[varies]
    return Fit(1 - nmse, float(per_dimension.mean()), nmse, int((~varies).sum()))
