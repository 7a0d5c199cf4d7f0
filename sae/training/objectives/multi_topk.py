"""Multi-TopK (Gao et al. 2024, arXiv:2406.04093): also reconstruct from more than k latents, so that other k work too.

Loss: ||x - xhat_k||^2 + w ||x - xhat_{rk}||^2, with xhat_j from the j largest activations of each sample; r = 4 and
w = 1/8 in the paper. Penalty, AuxK and what counts as dead read the k alone; afterwards it is Top-k.
"""

import torch
from pydantic import Field

from sae.core.options import Options as Base
from sae.training import picks, step
from sae.training.objectives import topk

VERSION = 1


class Options(Base):
    """Of this objective."""

    ratio: float = Field(4.0, gt=1)
    """r: how many times k the second reconstruction takes; at most m latents."""
    weight: float = Field(0.125, gt=0)
    """w: of its error."""


class Objective(topk.Objective):
    """The error at k, and a share of that at r k."""

    options: Options

    def fit(self, fit: step.Fit) -> torch.Tensor:
        """Both errors."""
        more = min(round(self.options.ratio * self.settings.k), self.settings.m)
        return fit.reconstruction + self.options.weight * fit.error(
            fit.attach(picks.of_each(fit.a, more))
        )
