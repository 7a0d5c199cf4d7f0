"""Both regularizers of arXiv:2606.27321 together.

The penalty is Reg. 1 plus `ratio_weight` times Reg. 2.
"""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.options import Options as Base
from sae.training.penalties import l1_l2_ratio, off_support_l1
from sae.training.step import Batch

VERSION = 1


class Options(Base):
    """The options of both regularizers together."""

    ratio_weight: float = Field(1.0, gt=0)
    """Weight of Reg. 2 beside Reg. 1; lambda weighs the sum."""


def penalty(batch: Batch) -> Float[Tensor, " batch"]:
    """Compute the weighted sum for each sample."""
    weight = batch.options.ratio_weight  # type: ignore[attr-defined]
    return off_support_l1.penalty(batch) + weight * l1_l2_ratio.penalty(batch)
