"""Reg. 1 of arXiv:2606.27321: the l1 norm of what the selection leaves out.

Of the masked latents these are the activations that were not selected.
"""

from jaxtyping import Float
from torch import Tensor

from sae.training.step import Batch

VERSION = 1


def penalty(batch: Batch) -> Float[Tensor, " batch"]:
    """Compute || mask * (a_i - z_i) ||_1 for each sample.

    A pick with a positive value is batch-active by definition, so what was selected is
    subtracted unmasked.
    """
    return batch.a @ batch.mask - batch.picks.sums()
