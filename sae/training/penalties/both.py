"""Both regularizers of arXiv:2606.27321 together: Reg. 1 plus `ratio_weight` times Reg. 2."""

import torch
from pydantic import Field

from sae.core.options import Options as Base
from sae.training.penalties import l1_l2_ratio, off_support_l1
from sae.training.step import Batch

VERSION = 1


class Options(Base):
    """Of this penalty."""

    ratio_weight: float = Field(1.0, gt=0)
    """Of Reg. 2 beside Reg. 1; lambda weighs the sum."""


def penalty(batch: Batch) -> torch.Tensor:
    """The weighted sum for each sample: (N,)."""
    weight = batch.options.ratio_weight  # type: ignore[attr-defined]
    return off_support_l1.penalty(batch) + weight * l1_l2_ratio.penalty(batch)
