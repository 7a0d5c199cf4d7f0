"""How well the codes reconstruct: R^2 in both conventions, NMSE, L0. Float64 sums, in the model's input space."""

from dataclasses import dataclass

import numpy as np
import torch

_CHUNK = 4096


@dataclass(frozen=True)
class Reconstruction:
    """Scores of a reconstruction around the evaluated split's own mean.

    Attributes:
        r2: 1 - total residual / total variance.
        r2_dim_mean: mean over dimensions of the per-dimension R^2; dimensions without variance are left out.
        nmse: total residual / total variance = 1 - r2.
        l0: mean number of activations > 0 per sample.
        constant_dims: number of dimensions left out.
    """

    r2: float
    r2_dim_mean: float
    nmse: float
    l0: float
    constant_dims: int


def from_sums(residual, variance, l0):
    """Scores from per-dimension sums (d,) of squared residuals and of squared deviations from the mean."""
    varies = variance > 0
    nmse = residual.sum() / variance.sum()
    per_dimension = 1 - residual[varies] / variance[varies]
    return Reconstruction(1 - nmse, per_dimension.mean(), nmse, l0, int((~varies).sum()))


@torch.no_grad()
def score(sae, x, codes):
    """Scores of `codes` (`sae.models.codes.Codes`) for prepared inputs `x` (N, d)."""
    d = x.shape[1]
    mean = sum(part.cpu().double().sum(dim=0) for part in x.split(_CHUNK)) / len(x)
    residual, variance = torch.zeros(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    first, constant = x[:1], torch.ones(d, dtype=torch.bool)
    for number, part in enumerate(x.split(_CHUNK)):
        rows = slice(number * _CHUNK, (number + 1) * _CHUNK)
        values = torch.from_numpy(codes.values[rows]).to(x.device)
        indices = torch.from_numpy(codes.indices[rows]).to(x.device)
        x_hat = sae.reconstruct(part, values, indices)
        constant &= (part == first).all(dim=0).cpu()
        part = part.cpu().double()  # On the CPU: not every accelerator has float64.
        residual += (part - x_hat.cpu().double()).square().sum(dim=0)
        variance += (part - mean).square().sum(dim=0)
    l0 = float((codes.values > 0).sum() / len(x))
    # A dimension whose float32 values are all equal has a sum of rounding errors, not a variance.
    variance[constant] = 0
    return from_sums(residual.numpy(), variance.numpy(), np.float64(l0))
