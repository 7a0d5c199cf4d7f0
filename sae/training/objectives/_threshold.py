"""What JumpReLU and ReLU with an l1 norm share: a threshold for each latent.

While they train, a sample may have any number of active latents. At the end the
thresholds are fixed, so that k latents are active on average.

Gradients are clipped: their norm, over all parameters, is at most 1, as in SAELens. In
the first steps half of all latents are active, and Adam would remember gradients as
large as those for a thousand steps.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae.models.coder import Coder, Threshold
from sae.models.inputs import Inputs
from sae.training import step
from sae.training.calibrate import calibrate
from sae.training.picks import Picks


class Objective(step.Objective):
    """The loss of an objective whose codes are dense while it trains."""

    most_norm = 1.0

    def codes(
        self, a: Float[Tensor, "batch latents"]
    ) -> Float[Tensor, "batch latents"]:
        """Compute the codes of activations, with gradients; here they are the same."""
        return a

    def sparsity(self, z: Float[Tensor, "batch latents"]) -> Float[Tensor, ""]:
        """Compute the part of the loss that asks for few active latents.

        Args:
            z: the codes that :meth:`codes` returned last.
        """
        raise NotImplementedError

    def thresholds(self) -> Float[Tensor, " latents"]:
        """Return the thresholds up to a common factor, which sets L0 to k at the end.

        Here they are equal; an entry that learns some returns those.
        """
        return torch.ones_like(self.coder.b_enc)

    def loss(
        self, x: Float[Tensor, "batch dims"], step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the loss of one batch, and its parts.

        Args:
            x: prepared inputs.
            step: the number of the step, from 0.

        Returns:
            The loss, and the parts that all objectives have, with `sparsity`.
        """
        batch = self.encode(x, step, differentiable=True)
        z = self.codes(batch.a)
        batch.reconstruct(z @ self.coder.W_dec)
        sparsity = self.sparsity(z)
        loss = batch.reconstruction + sparsity
        batch.picks = pick_positive(z)

        loss, parts = self.add_penalty_and_auxk(loss, batch)
        return loss, parts | {"sparsity": sparsity}

    def finish(self, x: Float[Tensor, "images dims"] | Inputs) -> Coder:
        """Return the coder with thresholds that keep k latents a sample, on average.

        Args:
            x: the prepared training inputs.
        """
        thresholds = self.thresholds().detach()
        theta = calibrate(self.coder, x, thresholds, self.settings.k)
        self.coder.select = Threshold(theta)
        return self.coder


def pick_positive(z: Float[Tensor, "batch latents"]) -> Picks:
    """Pick the codes above 0, with their gradients; they are flat."""
    samples, latents = (z.detach() > 0).nonzero(as_tuple=True)
    sample_numbers = torch.arange(len(z), device=z.device)
    starts = torch.searchsorted(samples, sample_numbers)
    return Picks(z[samples, latents], latents, z.shape[1], starts)
