"""JumpReLU (Rajamanoharan et al. 2024, arXiv:2407.14435): a threshold a latent is learned with the rest.

z = a where a > theta, else 0. Loss: ||x - xhat||^2 + s (L0 / k - 1)^2, where L0 is the batch's mean number of active
latents: the second part steers L0 to the budget, as dictionary_learning's trainer does; the paper weighs L0 itself by a
constant, which then must be searched for each budget. Neither z nor L0 has a gradient in theta. As in the paper it is
estimated through the activations within half a bandwidth e of theta: dz/dtheta = -theta / e and dL0/dtheta = -1 / e
there, 0 elsewhere. An activation of 0 is not one of them, however near theta is: the ReLU has put it there, and half of
all latents would pull at thresholds that start below e / 2. Thresholds are at least 0, as in SAELens. At the end one
factor of all thresholds is set so that L0 is k on the training rows (and then on validation images: `sae.bank.train`).
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from sae.core.options import Options as Base
from sae.training.objectives import _threshold

VERSION = 1


class Options(Base):
    """Of this objective. Defaults of theta and bandwidth: SAELens'."""

    sparsity: float = Field(1.0, gt=0)
    """s: weight of the squared relative difference of L0 from k."""
    theta: float = Field(0.01, gt=0)
    """Every latent's threshold at the start."""
    bandwidth: float = Field(0.05, gt=0)
    """e: width of the window through which thresholds learn."""


class Objective(_threshold.Objective):
    """Learn the thresholds."""

    options: Options

    def start(self) -> None:
        """The thresholds."""
        self.theta = (
            torch.full_like(self.coder.b_enc, self.options.theta)
            .detach()
            .requires_grad_()
        )

    def parameters(self) -> list[Tensor]:
        """The thresholds."""
        return [self.theta]

    def codes(self, a: Tensor) -> Tensor:
        """JumpReLU of the activations (N, m)."""
        with torch.no_grad():  # The last step may have brought some below.
            self.theta.clamp_(min=0)
        z, self.active = _Jump.apply(a, self.theta, self.options.bandwidth)
        return z

    def sparsity(self, z: Tensor) -> Tensor:
        """How far L0 is from k."""
        return (
            self.options.sparsity
            * (self.active / len(z) / self.settings.k - 1).square()
        )

    def thresholds(self) -> Tensor:
        """Those that were learned; at least 0, as a coder takes them."""
        return self.theta.clamp_min(0)


class _Jump(torch.autograd.Function):
    # The codes, and how many activations of the whole batch are above their threshold.

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, theta: Tensor, bandwidth: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, theta)
        ctx.bandwidth = bandwidth
        return torch.where(a > theta, a, 0), (a > theta).sum().to(a.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_z: Tensor, of_active: Tensor
    ) -> tuple[Tensor | None, ...]:
        a, theta = ctx.saved_tensors
        # The activations through which a threshold learns.
        inside = (a > 0) & ((a - theta).abs() < ctx.bandwidth / 2)
        through_z = -(theta / ctx.bandwidth) * torch.where(inside, of_z, 0).sum(dim=0)
        through_active = -of_active / ctx.bandwidth * inside.sum(dim=0)
        return torch.where(a > theta, of_z, 0), through_z + through_active, None
