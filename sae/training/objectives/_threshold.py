"""What JumpReLU and ReLU with an l1 norm share: codes of any length, and a threshold a latent that is fixed at the end.

Gradients are clipped: their norm, over all parameters, is at most 1, as in SAELens. In the first steps half of all
latents are active, and Adam would remember gradients as large as those for a thousand steps.

N samples, m latents.
"""

import torch
from torch import Tensor

from sae.models.coder import Coder, Threshold, restore
from sae.models.inputs import Inputs
from sae.training import step
from sae.training.calibrate import calibrate
from sae.training.picks import Picks, activations


class Objective(step.Objective):
    """The loss of an objective whose codes are dense while it trains."""

    most_norm = 1.0

    def codes(self, a: Tensor) -> Tensor:
        """(N, m) codes of the activations, with gradients: by default the activations themselves."""
        return a

    def sparsity(self, z: Tensor) -> Tensor:
        """The part of the loss that asks for few active latents, of the codes that `codes` returned last."""
        raise NotImplementedError

    def thresholds(self) -> Tensor:
        """(m,) those that were learned, else ones; their common factor is then set so that L0 is k."""
        return torch.ones_like(self.coder.b_enc)

    def loss(self, x: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """As of Top-k, with a part `sparsity`."""
        standard, scale, shift = self.coder.standardise(x)
        a = activations(
            self.coder,
            standard,
            getattr(torch, self.settings.precision),
            differentiable=True,
        )
        z = self.codes(a)
        residual = x - restore(z @ self.coder.W_dec + self.coder.b_dec, scale, shift)
        reconstruction, sparsity = residual.square().sum(dim=1).mean(), self.sparsity(z)
        loss, parts = self.total(
            reconstruction + sparsity, reconstruction, x, a, picks_of(z), residual, step
        )
        return loss, parts | {"sparsity": sparsity}

    def finish(self, x: Tensor | Inputs) -> Coder:
        """The coder with thresholds that keep k latents a sample, on average."""
        self.coder.select = Threshold(
            calibrate(self.coder, x, self.thresholds().detach(), self.settings.k)
        )
        return self.coder


def picks_of(z: Tensor) -> Picks:
    """The codes > 0 of (N, m) as picks, with their gradients."""
    rows, latents = (z.detach() > 0).nonzero(as_tuple=True)
    starts = torch.searchsorted(rows, torch.arange(len(z), device=z.device))
    return Picks(z[rows, latents], latents, z.shape[1], starts)
