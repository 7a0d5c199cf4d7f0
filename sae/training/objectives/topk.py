"""Top-k (Gao et al. 2024, arXiv:2406.04093): the k largest activations of each sample, in training and afterwards."""

import torch

from sae.training import picks, step

VERSION = 1


class Objective(step.Objective):
    """Select the k largest activations of each sample."""

    def pick(self, a: torch.Tensor) -> picks.Picks:
        """(N, m) to N rows of k."""
        return picks.of_each(a, self.settings.k)
