"""AuxK (Gao et al. 2024, arXiv:2406.04093): dead latents learn by reconstructing what the others leave."""

from torch import Tensor

from sae.models.coder import Coder
from sae.training.picks import Picks, largest


def auxk_loss(
    coder: Coder, x: Tensor, a: Tensor, residual: Tensor, dead: Tensor, auxk_k: int
) -> Tensor:
    """Mean squared error of the residual's reconstruction from the `auxk_k` most active dead latents; 0 without any.

    The residual is detached, and b_d takes no part: x - xhat has it already subtracted.

    Args:
        x: (N, d) prepared inputs.
        a: (N, m) their activations.
        residual: (N, d) x - xhat.
        dead: (m,) bool.
    """
    standard, scale, _ = coder.standardise(x)
    pick = dead_picks if a.device.type == "cpu" else dead_picks_masked
    e_hat = pick(a, dead, auxk_k).attach(coder, standard).decode(coder.W_dec)
    if scale is not None:
        e_hat = e_hat * scale
    return (residual.detach() - e_hat).square().sum(dim=1).mean() * dead.any()


def dead_picks(a: Tensor, dead: Tensor, count: int) -> Picks:
    """The `count` most active dead latents of each sample: N rows of at most `count`.

    Reads the number of dead latents, and then touches their columns alone.
    """
    dead_indices = dead.nonzero().squeeze(1)
    values, picks = largest(a[:, dead_indices], min(count, len(dead_indices)))
    return Picks(values, dead_indices[picks], a.shape[1])


def dead_picks_masked(a: Tensor, dead: Tensor, count: int) -> Picks:
    """The same without knowing their number; what is short of `count` is filled with activations of 0."""
    return Picks(*largest(a * dead, min(count, a.shape[1])), a.shape[1])
