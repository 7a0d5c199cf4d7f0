"""Top-k: the k largest activations of each sample, in training and afterwards.

Source: Gao et al. 2024, arXiv:2406.04093.
"""

from jaxtyping import Float
from torch import Tensor

from sae.training import picks, step

VERSION = 1


class Objective(step.Objective):
    """Select the k largest activations of each sample."""

    def pick(self, a: Float[Tensor, "batch latents"]) -> picks.Picks:
        """Pick the k largest activations of each sample."""
        return picks.of_each(a, self.settings.k)
