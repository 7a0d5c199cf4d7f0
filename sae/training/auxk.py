"""AuxK (Gao et al. 2024, arXiv:2406.04093): revive dead latents.

They learn by reconstructing what the other latents leave of the inputs.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from sae.models.coder import Coder
from sae.training.picks import Picks, largest


def auxk_loss(
    coder: Coder,
    x: Float[Tensor, "batch dims"],
    a: Float[Tensor, "batch latents"],
    residual: Float[Tensor, "batch dims"],
    dead: Bool[Tensor, " latents"],
    auxk_k: int,
) -> Float[Tensor, ""]:
    """Compute the error with which dead latents reconstruct a batch's residual.

    The residual is detached, and b_d takes no part: x - xhat has it already subtracted.

    Args:
        coder: the coder that is trained.
        x: prepared inputs.
        a: their activations.
        residual: x - xhat, what the reconstruction leaves of the inputs.
        dead: which latents are dead.
        auxk_k: how many dead latents reconstruct a sample's residual: the most active.

    Returns:
        The mean squared error, summed over dimensions; 0 if no latent is dead.
    """
    standard, scale, _ = coder.standardise(x)
    pick_dead = dead_picks if a.device.type == "cpu" else dead_picks_masked
    picks = pick_dead(a, dead, auxk_k)

    e_hat = picks.attach(coder, standard).decode(coder.W_dec)
    if scale is not None:
        e_hat = e_hat * scale
    error = (residual.detach() - e_hat).square().sum(dim=1).mean()
    return error * dead.any()


def dead_picks(
    a: Float[Tensor, "batch latents"], dead: Bool[Tensor, " latents"], count: int
) -> Picks:
    """Pick the most active dead latents of each sample.

    This reads the number of dead latents, and then touches their columns alone.

    Args:
        a: the activations.
        dead: which latents are dead.
        count: how many to pick of each sample; all dead ones where they are fewer.
    """
    dead_indices = dead.nonzero().squeeze(1)
    picked_count = min(count, len(dead_indices))
    values, places = largest(a[:, dead_indices], picked_count)
    return Picks(values, dead_indices[places], a.shape[1])


def dead_picks_masked(
    a: Float[Tensor, "batch latents"], dead: Bool[Tensor, " latents"], count: int
) -> Picks:
    """Pick the most active dead latents of each sample, without knowing their number.

    Args:
        a: the activations.
        dead: which latents are dead.
        count: how many to pick of each sample. Where fewer are dead, latents that are
            not dead fill up, with value 0.
    """
    picked_count = min(count, a.shape[1])
    values, indices = largest(a * dead, picked_count)
    return Picks(values, indices, a.shape[1])
