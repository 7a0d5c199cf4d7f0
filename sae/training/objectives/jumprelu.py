"""JumpReLU: a threshold for each latent is learned with the rest.

Source: Rajamanoharan et al. 2024, arXiv:2407.14435.

z = a where a > theta, else 0. Loss: ||x - xhat||^2 + s (L0 / k - 1)^2, where L0 is the
batch's mean number of active latents. The second part steers L0 to the budget, as
dictionary_learning's trainer does; the paper weighs L0 itself by a constant, which then
must be searched for each budget.

Neither z nor L0 has a gradient in theta. As in the paper it is estimated through the
activations within half a bandwidth e of theta: dz/dtheta = -theta / e and
dL0/dtheta = -1 / e there, 0 elsewhere. An activation of 0 is not one of them, however
near theta is: the ReLU has put it there, and half of all latents would pull at
thresholds that start below e / 2. Thresholds are at least 0, as in SAELens.

At the end one factor of all thresholds is set so that L0 is k on the training rows (and
then on validation images: `sae.bank.train`).
"""

from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.options import Options as Base
from sae.training.objectives import _threshold

VERSION = 1


class Options(Base):
    """The options of JumpReLU. Defaults of theta and bandwidth are SAELens'."""

    sparsity: float = Field(1.0, gt=0)
    """s: weight of the squared relative difference of L0 from k."""
    theta: float = Field(0.01, gt=0)
    """Every latent's threshold at the start."""
    bandwidth: float = Field(0.05, gt=0)
    """e: width of the window through which thresholds learn."""


class Objective(_threshold.Objective):
    """Learn the thresholds with the coder.

    Attributes:
        theta: the thresholds.
        active_count: the active latents of the last batch, of all samples together,
            with its estimated gradient.
    """

    options: Options
    theta: Float[Tensor, " latents"]
    active_count: Float[Tensor, ""]

    def start(self) -> None:
        """Set up the thresholds."""
        theta = torch.full_like(self.coder.b_enc, self.options.theta)
        self.theta = theta.detach().requires_grad_()

    def parameters(self) -> list[Tensor]:
        """Return the thresholds, which are learned."""
        return [self.theta]

    def codes(
        self, a: Float[Tensor, "batch latents"]
    ) -> Float[Tensor, "batch latents"]:
        """Keep the activations above their threshold, and count them."""
        with torch.no_grad():  # The last step may have brought some below 0.
            self.theta.clamp_(min=0)
        z, self.active_count = _JumpReLU.apply(a, self.theta, self.options.bandwidth)
        return z

    def sparsity(self, z: Float[Tensor, "batch latents"]) -> Float[Tensor, ""]:
        """Compute how far L0 is from k, squared and weighted."""
        l0 = self.active_count / len(z)
        return self.options.sparsity * (l0 / self.settings.k - 1).square()

    def thresholds(self) -> Float[Tensor, " latents"]:
        """Return the learned thresholds, at least 0, as a coder takes them."""
        return self.theta.clamp_min(0)


class _JumpReLU(torch.autograd.Function):
    """Keep the activations above their threshold, and count them over the whole batch.

    Both results have estimated gradients in the thresholds.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, theta: Tensor, bandwidth: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, theta)
        ctx.bandwidth = bandwidth
        z = torch.where(a > theta, a, 0)
        active_count = (a > theta).sum().to(a.dtype)
        return z, active_count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, z_gradient: Tensor, count_gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        a, theta = ctx.saved_tensors
        bandwidth = ctx.bandwidth
        # The activations through which a threshold learns.
        in_window = (a > 0) & ((a - theta).abs() < bandwidth / 2)

        z_gradient_in_window = torch.where(in_window, z_gradient, 0).sum(dim=0)
        through_z = -(theta / bandwidth) * z_gradient_in_window
        through_count = -count_gradient / bandwidth * in_window.sum(dim=0)

        a_gradient = torch.where(a > theta, z_gradient, 0)
        return a_gradient, through_z + through_count, None
