"""The activations of a training batch, dense, for penalties: they weigh latents that were not picked too.

N samples, d dimensions, m latents.
"""

from typing import Any

import torch

from sae.models.coder import Coder


def activations(coder: Coder, x: torch.Tensor, precision: torch.dtype, *, differentiable: bool) -> torch.Tensor:
    """a = ReLU(pi): standardised inputs (N, d) to (N, m) float32.

    Args:
        precision: of the product with the encoder, and of that of its gradient.
        differentiable: whether gradients flow through `a`. What is picked of it gets its own (`Picks.attach`).
    """
    if not differentiable:
        with torch.no_grad():
            return coder.activations(x, precision)
    a: torch.Tensor = _Dense.apply(coder.encoder_weight().T, coder.b_enc, coder.b_dec, x, coder, precision)
    return a


class _Dense(torch.autograd.Function):
    # Autograd would go through (N, m) more often, and keep more of it.

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        _b_enc: torch.Tensor,
        b_dec: torch.Tensor,
        x: torch.Tensor,
        coder: Coder,
        precision: torch.dtype,
    ) -> torch.Tensor:
        a = coder.activations(x, precision)
        ctx.save_for_backward(weight, b_dec, x, a)
        ctx.precision = precision if precision != torch.float32 else x.dtype
        return a

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, b_dec, x, a = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradient, a, 0)
        of_bias = gradient.sum(dim=0)
        of_weight = (gradient.to(ctx.precision).T @ (x - b_dec).to(ctx.precision)).to(x.dtype)
        return of_weight, of_bias, -(of_bias @ weight), None, None, None
