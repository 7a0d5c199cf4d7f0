"""HierarchicalTopK (Balagansky et al. 2025, arXiv:2505.24473): one SAE that reconstructs from 1, 2, ... and k latents.

Loss: the mean over j in J of ||x - xhat_j||^2, with xhat_j from the j largest of the k activations of a sample. The
paper's J is 1 to k, or a subset; by default it is the eighths of k, as evenly spread as the paper's and eight decodings
in place of k. (The powers of 2 weigh small budgets more, and cost reconstruction: docs/protocol.md.) Afterwards it is
Top-k.
"""

import torch
from pydantic import Field

from sae.core.options import Count
from sae.core.options import Options as Base
from sae.training import step
from sae.training.objectives import topk

VERSION = 1


class Options(Base):
    """Of this objective."""

    budgets: list[Count] | None = Field(None, min_length=1)
    """J; those above k are left out, and k belongs to it. null: k/8, 2k/8, ... and k, rounded up."""


class Objective(topk.Objective):
    """The mean over the budgets' errors."""

    options: Options

    def start(self) -> None:
        """The budgets, smallest first, the last of them k."""
        k = self.settings.k
        given = self.options.budgets or [-(-k * eighth // 8) for eighth in range(1, 8)]
        self.budgets = [*sorted({budget for budget in given if budget < k}), k]

    def fit(self, fit: step.Fit) -> torch.Tensor:
        """The mean over budgets."""
        # Ranks from 0 within a sample, of equal activations the first in the order of the picks.
        ranks = (
            fit.picks.values.detach()
            .argsort(dim=1, descending=True, stable=True)
            .argsort(dim=1)
        )
        fewer = [
            fit.error(fit.picks.where(ranks < budget)) for budget in self.budgets[:-1]
        ]
        return torch.stack([*fewer, fit.reconstruction]).mean()
