"""Matryoshka in width: every prefix of the dictionary reconstructs by itself.

Source: Bussmann et al. 2025, arXiv:2503.17547.

One BatchTopK code serves all levels m_1 < m_2 < ... < m: level i decodes the latents
below m_i alone. The loss is the mean over levels of ||x - xhat_i||^2; AuxK is of the
whole alone. Afterwards the SAE is a coder with one threshold, as after BatchTopK.

Public implementations scale this loss in three ways beside AuxK and the penalty: the
mean over levels (the authors'), a mean of levels weighed by 1 / levels
(dictionary_learning), the sum (SAELens). The mean is taken here: the loss then has the
scale of one reconstruction, so that `auxk_alpha` and lambda mean what they mean
elsewhere.
"""

from itertools import accumulate

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from sae.core.options import Options as Base
from sae.core.options import Positive
from sae.training import step
from sae.training.objectives import batch_topk

VERSION = 1


class Options(Base):
    """The options of Matryoshka."""

    momentum: float | None = Field(0.99, ge=0, lt=1)
    """Momentum of the threshold's moving mean; null: the mean over all steps."""
    shares: list[Positive] = Field([0.0625, 0.0625, 0.125, 0.25, 0.5], min_length=1)
    """The share of m that each level adds; they sum to 1. Default: the authors'."""

    @field_validator("shares")
    @classmethod
    def _check_sum(cls, shares: list[float]) -> list[float]:
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"they sum to {sum(shares):g}; they must sum to 1")
        return shares


class Objective(batch_topk.Objective):
    """Minimise the mean of the errors of all levels.

    Attributes:
        levels: how many latents each level has, ascending to m.
    """

    options: Options  # type: ignore[assignment]
    levels: list[int]

    def start(self) -> None:
        """Set up the levels, and what BatchTopK keeps."""
        super().start()
        m = self.settings.m
        cumulative_shares = accumulate(self.options.shares)
        ends = [max(1, round(m * share)) for share in cumulative_shares]
        # Levels of a small dictionary may coincide.
        distinct_ends = dict.fromkeys(end for end in ends if end < m)
        self.levels = [*distinct_ends, m]

    def fit(self, batch: step.Batch) -> Float[Tensor, ""]:
        """Return the mean of the errors of all levels."""
        errors = [
            batch.error(batch.picks.where(batch.picks.indices < end))
            for end in self.levels[:-1]
        ]
        return torch.stack([*errors, batch.reconstruction]).mean()
