"""HierarchicalTopK: one SAE that reconstructs from 1, 2, ... and k latents.

Source: Balagansky et al. 2025, arXiv:2505.24473.

Loss: the mean over the budgets j in J of ||x - xhat_j||^2, with xhat_j from the j
largest of the k activations of a sample. The paper's J is 1 to k, or a subset. By
default it is the eighths of k here: as evenly spread as the paper's, and eight
decodings in place of k. (The powers of 2 weigh small budgets more, and cost
reconstruction: docs/protocol.md.) Afterwards the SAE is a Top-k.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.options import Count
from sae.core.options import Options as Base
from sae.training import step
from sae.training.objectives import topk

VERSION = 1


class Options(Base):
    """The options of HierarchicalTopK."""

    budgets: list[Count] | None = Field(
        None,
        min_length=1,
        description="How many latents each reconstruction takes: the budgets below k, "
        "and k itself. null: k/8, 2k/8, ... and k, rounded up.",
    )


class Objective(topk.Objective):
    """Minimise the mean of the errors at several budgets.

    Attributes:
        budgets: how many latents each reconstruction takes, ascending to k.
    """

    options: Options
    budgets: list[int]

    def start(self) -> None:
        """Set up the budgets."""
        k = self.settings.k
        budgets = self.options.budgets
        if budgets is None:
            budgets = [-(-k * eighth // 8) for eighth in range(1, 8)]  # Rounded up.
        below_k = sorted({budget for budget in budgets if budget < k})
        self.budgets = [*below_k, k]

    def fit(self, batch: step.Batch) -> Float[Tensor, ""]:
        """Return the mean of the errors at all budgets."""
        # The rank of each pick within its sample, from 0 for the largest. Of equal
        # activations the first in the order of the picks has the lower rank.
        values = batch.picks.values.detach()
        by_size = values.argsort(dim=1, descending=True, stable=True)
        ranks = by_size.argsort(dim=1)

        errors = [
            batch.error(batch.picks.where(ranks < budget))
            for budget in self.budgets[:-1]
        ]
        return torch.stack([*errors, batch.reconstruction]).mean()
