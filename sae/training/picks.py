"""The activations that training selects: as many for each sample, or as many as fall to it of a whole batch.

Shapes: N samples, m latents, k a sample, P = k N picks. A pick of value 0 is an empty place.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from sae.models.coder import gather_sum


@dataclass(frozen=True)
class Picks:
    """Selected activations, through which gradients flow.

    Attributes:
        values, indices: (N, k) activations and latents, in no particular order; or (P,), row after row.
        starts: (N,) where each row starts, if they are (P,).
    """

    values: torch.Tensor
    indices: torch.Tensor
    starts: torch.Tensor | None = None

    def decode(self, weight: torch.Tensor) -> torch.Tensor:
        """The sum of each row's picks times their rows of `weight` (m, d): (N, d)."""
        return gather_sum(self.values, self.indices, weight, self.starts)

    def sums(self) -> torch.Tensor:
        """(N,) the sum of each row's values."""
        if self.starts is None:
            return self.values.sum(dim=1)
        ones, zeros = self.values.new_ones(1, 1), torch.zeros_like(self.indices)
        return functional.embedding_bag(zeros, ones, self.starts, per_sample_weights=self.values, mode="sum").squeeze(1)

    def fired(self, m: int) -> torch.Tensor:
        """(m,) bool: which latents have an activation > 0 among the picks; a pick of value 0 did not fire."""
        hits = torch.zeros(m, device=self.values.device)
        return hits.scatter_add_(0, self.indices.reshape(-1), (self.values > 0).to(hits.dtype).reshape(-1)) > 0


def of_each(a: torch.Tensor, k: int) -> Picks:
    """The k largest activations of each sample, of `a` (N, m)."""
    return Picks(*a.topk(k, dim=1, sorted=False))


def of_batch(a: torch.Tensor, k: int) -> Picks:
    """The k N largest activations of the whole batch `a` (N, m), so k a sample on average."""
    every = a.flatten()
    flat = every.detach().topk(k * len(a), sorted=False).indices.sort().values
    rows = torch.arange(len(a), device=a.device)
    return Picks(every.gather(0, flat), flat % a.shape[1], torch.searchsorted(flat // a.shape[1], rows))
