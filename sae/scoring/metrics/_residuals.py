"""Sum squared residuals, and make scores of them.

Sums are in float64, in the model's input space.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sae.models.coder import Coder
from sae.models.codes import Codes
from sae.models.inputs import Inputs

# Images that are looked at at once.
CHUNK = 4096


class ReconstructionScores(NamedTuple):
    """Scores of a reconstruction around the evaluated split's own mean.

    Attributes:
        r2: 1 - total residual / total variance.
        r2_dim_mean: mean over dimensions of the per-dimension R^2; dimensions without
            variance are left out.
        nmse: total residual / total variance = 1 - r2.
        constant_dims: number of dimensions left out.
    """

    r2: float
    r2_dim_mean: float
    nmse: float
    constant_dims: int


def mean_of(
    x: Float[Tensor, "images dim"] | Inputs, chunk: int
) -> Float64[Tensor, " dim"]:
    """Return the mean of prepared inputs.

    It is on the CPU: not every accelerator has float64.

    Args:
        x: the inputs.
        chunk: how many are looked at at once.
    """
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for part in x.split(chunk):
        total += part.cpu().double().sum(dim=0)
    return total / len(x)


@torch.no_grad()
def score_reconstruction(
    coder: Coder, x: Float[Tensor, "images dim"] | Inputs, codes: Codes
) -> ReconstructionScores:
    """Score how well codes reconstruct prepared inputs.

    Args:
        coder: the SAE.
        x: the inputs.
        codes: its codes of them.
    """
    mean = mean_of(x, CHUNK)
    residual_of_dim = torch.zeros_like(mean)
    variance_of_dim = torch.zeros_like(mean)
    is_constant = torch.ones(len(mean), dtype=torch.bool)
    first_image = x[:1]
    start = 0
    for part in x.split(CHUNK):
        part_codes = codes.rows(start, start + len(part))
        reconstruction = coder.reconstruct(part, part_codes)
        is_constant &= (part == first_image).all(dim=0).cpu()
        exact = part.cpu().double()
        residual_of_dim += (exact - reconstruction.cpu().double()).square().sum(dim=0)
        variance_of_dim += (exact - mean).square().sum(dim=0)
        start += len(part)

    # A dimension whose float32 values are all equal has a sum of rounding errors, not a
    # variance.
    variance_of_dim[is_constant] = 0
    varies = (variance_of_dim > 0).numpy()
    residual = residual_of_dim.numpy()
    variance = variance_of_dim.numpy()
    nmse = float(residual.sum() / variance.sum())
    r2_of_dim = 1 - residual[varies] / variance[varies]
    return ReconstructionScores(
        r2=1 - nmse,
        r2_dim_mean=float(r2_of_dim.mean()),
        nmse=nmse,
        constant_dims=int((~varies).sum()),
    )
