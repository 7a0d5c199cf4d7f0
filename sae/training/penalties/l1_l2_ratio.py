"""Reg. 2 of arXiv:2606.27321: the ratio of the l1 norm to the l2 norm.

Both are norms of the activations of the masked latents, selected ones included.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae.training.step import Batch

VERSION = 1


def penalty(batch: Batch) -> Float[Tensor, " batch"]:
    """Compute || mask * a_i ||_1 / || mask * a_i ||_2 for each sample.

    A row of zeros has penalty 0 and gradient 0 (the paper leaves this open).
    """
    return _L1L2Ratio.apply(batch.a, batch.mask)


class _L1L2Ratio(torch.autograd.Function):
    """Compute the ratio and its gradient in closed form, for activations >= 0.

    d/da_j (l1 / l2) = mask_j (1 / l2 - a_j l1 / l2^3). Plain autograd makes about nine
    passes over (N, m); the closed form makes four.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, mask: Tensor) -> Tensor:
        l1 = a @ mask
        l2 = (a.square() @ mask).sqrt()
        inverse_l2 = torch.where(l2 > 0, 1 / l2, 0)
        ctx.save_for_backward(a, mask, l1, inverse_l2)
        return l1 * inverse_l2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        a, mask, l1, inverse_l2 = ctx.saved_tensors
        constant = (gradient * inverse_l2).unsqueeze(1)
        slope = (gradient * l1 * inverse_l2**3).unsqueeze(1)
        return torch.addcmul(constant, a, slope, value=-1).mul_(mask), None
