"""Reg. 1 of arXiv:2606.27321: the l1 norm of what the selection leaves out, over the masked latents."""

import torch

from sae.training.step import Batch

VERSION = 1


def penalty(batch: Batch) -> torch.Tensor:
    """|| mask * (a_i - z_i) ||_1 for each sample: (N,).

    A pick with a positive value is batch-active by definition, so what was kept is subtracted unmasked.
    """
    return batch.a @ batch.mask - batch.picks.sums()
