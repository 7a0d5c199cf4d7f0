"""AuxK (Gao et al. 2024, arXiv:2406.04093): dead latents learn by reconstructing what the others leave."""

import torch

from sae.models.coder import Coder, gather_sum


def auxk_loss(
    coder: Coder, a: torch.Tensor, residual: torch.Tensor, scale: torch.Tensor | None, dead: torch.Tensor, auxk_k: int
) -> torch.Tensor:
    """Mean squared error of the residual's reconstruction from the `auxk_k` most active dead latents; 0 without any.

    The residual is detached, and b_d takes no part: x - xhat has it already subtracted.

    Args:
        a: (N, m) activations.
        residual: (N, d) x - xhat.
        scale: (N, 1) by which each standardised sample was divided, or None.
        dead: (m,) bool.
    """
    values, indices = dead_picks(a, dead, auxk_k) if a.device.type == "cpu" else dead_picks_masked(a, dead, auxk_k)
    e_hat = gather_sum(values, indices, coder.W_dec)
    if scale is not None:
        e_hat = e_hat * scale
    return (residual.detach() - e_hat).square().sum(dim=1).mean() * dead.any()


def dead_picks(a: torch.Tensor, dead: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` most active dead latents of each sample: values and indices, both (N, at most `count`).

    Reads the number of dead latents, and then touches their columns alone.
    """
    dead_indices = dead.nonzero().squeeze(1)
    values, picks = a[:, dead_indices].topk(min(count, len(dead_indices)), dim=1, sorted=False)
    return values, dead_indices[picks]


def dead_picks_masked(a: torch.Tensor, dead: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same without knowing their number; what is short of `count` is filled with activations of 0."""
    values, indices = (a * dead).topk(min(count, a.shape[1]), dim=1, sorted=False)
    return values, indices
