"""Multi-TopK: also reconstruct from more than k latents, so that other k work too.

Source: Gao et al. 2024, arXiv:2406.04093.

Loss: ||x - xhat_k||^2 + w ||x - xhat_{rk}||^2, with xhat_j from the j largest
activations of each sample; r = 4 and w = 1/8 in the paper. Penalty, AuxK and what
counts as dead read the k alone; afterwards the SAE is a Top-k.
"""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.options import Options as Base
from sae.training import picks, step
from sae.training.objectives import topk

VERSION = 1


class Options(Base):
    """The options of Multi-TopK."""

    ratio: float = Field(4.0, gt=1)
    """r: how many times k the second reconstruction takes; at most m latents."""
    weight: float = Field(0.125, gt=0)
    """w, the weight of the second reconstruction's error."""


class Objective(topk.Objective):
    """Add to the error at k a share of the error at r k."""

    options: Options

    def fit(self, batch: step.Batch) -> Float[Tensor, ""]:
        """Return the error of k latents plus the weighted error of r k latents."""
        larger_k = min(round(self.options.ratio * self.settings.k), self.settings.m)
        larger_picks = batch.attach(picks.of_each(batch.a.detach(), larger_k))
        return batch.reconstruction + self.options.weight * batch.error(larger_picks)
