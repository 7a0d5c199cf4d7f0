"""ReLU with an l1 norm on the codes (Bricken et al. 2023), whose weight is steered to the budget.

z = a = ReLU(pi). Loss: ||x - xhat||^2 + w sum_j z_j ||W_d,j||; decoder rows have norm 1 here. After each batch
log w grows by `rate` (L0 / k - 1), at most by `rate`, so that L0 comes to k by itself. At the end one threshold for all
latents is set so that L0 is k on the training rows (then on validation images: `sae.bank.train`): small
activations that the l1 norm left over do not count.
"""

import math

import torch
from pydantic import Field

from sae.core.options import Options as Base
from sae.training.objectives import _threshold


class Options(Base):
    """Of this objective."""

    weight: float = Field(0.01, gt=0)
    """w in the first step."""
    rate: float = Field(0.02, gt=0)
    """Of the control of w."""


class Objective(_threshold.Objective):
    """Steer the weight of the l1 norm."""

    options: Options

    def start(self) -> None:
        """The weight."""
        self.log_weight = torch.full((), math.log(self.options.weight), device=self.coder.b_dec.device)

    def codes(self, a: torch.Tensor) -> torch.Tensor:
        """The activations themselves."""
        return a

    def sparsity(self, z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """The weighted l1 norm, mean over the batch."""
        weight = self.log_weight.exp().to(z.dtype)
        l0 = (z.detach() > 0).sum() / len(z)
        change = self.options.rate * (l0 / self.settings.k - 1).clamp(-1, 1)
        self.log_weight = self.log_weight + change.to(self.log_weight.dtype)
        return weight * (z @ self.coder.W_dec.norm(dim=1)).mean()

    def thresholds(self) -> torch.Tensor:
        """The same for every latent."""
        return torch.ones_like(self.coder.b_enc)
