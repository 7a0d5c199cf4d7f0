"""Matryoshka in width (Bussmann et al. 2025, arXiv:2503.17547): every prefix of the dictionary reconstructs by itself.

One BatchTopK code serves all levels m_1 < m_2 < ... < m: level i decodes the latents below m_i alone. The loss is the
mean over levels of ||x - xhat_i||^2; AuxK is of the whole alone. Afterwards it is a coder with one threshold, as
BatchTopK's.

Public implementations scale this loss in three ways beside AuxK and the penalty: the mean over levels (the authors'),
a mean of levels weighed by 1 / levels (dictionary_learning), the sum (SAELens). The mean is taken here: the loss then
has the scale of one reconstruction, so that `auxk_alpha` and lambda mean what they mean elsewhere.
"""

from itertools import accumulate

import torch
from pydantic import Field, field_validator

from sae.core.options import Options as Base
from sae.core.options import Positive
from sae.training import step
from sae.training.objectives import batch_topk

VERSION = 1


class Options(Base):
    """Of this objective."""

    momentum: float | None = Field(0.99, ge=0, lt=1)
    """As BatchTopK's: of the moving mean that estimates the threshold."""
    shares: list[Positive] = Field([0.0625, 0.0625, 0.125, 0.25, 0.5], min_length=1)
    """Of m, what each level adds to the one before; they sum to 1. The authors' own by default."""

    @field_validator("shares")
    @classmethod
    def _sum_to_one(cls, shares: list[float]) -> list[float]:
        if abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"they sum to {sum(shares):g}; they must sum to 1")
        return shares


class Objective(batch_topk.Objective):
    """The mean over the levels' errors."""

    options: Options  # type: ignore[assignment]

    def start(self) -> None:
        """The levels, smallest first, the last of them the whole dictionary."""
        super().start()
        m = self.settings.m
        ends = [max(1, round(m * share)) for share in accumulate(self.options.shares)]
        self.levels = [*dict.fromkeys(end for end in ends if end < m), m]

    def fit(self, fit: step.Fit) -> torch.Tensor:
        """The mean over levels."""
        below = [
            fit.error(fit.picks.where(fit.picks.indices < end))
            for end in self.levels[:-1]
        ]
        return torch.stack([*below, fit.reconstruction]).mean()
