"""Settings and data for the tests of training, and the loss as its formulas stand."""

import torch
from torch.nn import functional

from sae.core import registry
from sae.models.coder import Coder
from sae.training.recipe import Settings

SETTINGS = Settings(
    m=24,
    k=3,
    seed=0,
    objective="topk",
    epochs=4,
    batch_size=16,
    lr=0.01,
    adam_eps=1e-8,
    decay_fraction=0.2,
    auxk_alpha=0.5,
    auxk_k=5,
    dead_after=32,
    input_norm="unit_l2",
    unit_variance=True,
    tied=False,
    log_every=2,
)
REG1 = {"penalty": "off_support_l1", "mask": "batch_active", "lam": 0.01}
REG2 = {"penalty": "l1_l2_ratio", "mask": "batch_active", "lam": 0.01}


def settings(**changed):
    """Return `SETTINGS` with changes."""
    return SETTINGS.model_copy(update=changed)


def entries(s):
    """Return the modules of the objective and of the penalty that settings name."""
    objective = registry.load("objective", s.objective)
    penalty = s.penalty and registry.load("penalty", s.penalty)
    return objective, penalty


def data(n=64, d=8, seed=0):
    """Return n random inputs of unit norm, (n, d)."""
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=generator), dim=1)


def make_objective(x, s, seed=1):
    """Return the settings' objective at work on a coder in float64.

    The coder is away from its symmetric start, and its biases are away from zero.
    """
    coder = Coder(x.shape[1], s.m, s.k, input_norm=s.input_norm, tied=s.tied).double()
    coder.initialise(x.mean(dim=0), seed)
    with torch.no_grad():
        for parameter in coder.parameters():
            generator = torch.Generator().manual_seed(seed)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    objective, penalty = entries(s)
    return objective.Objective(coder, s, s.of(objective), penalty)


def dense_activations(coder, x):
    """Return a = ReLU(pi) of standardised inputs, (N, m), with gradients."""
    return ((x - coder.b_dec) @ coder.W_enc + coder.b_enc).clamp_min(0)


def dense_penalty(name, a, z, mask):
    """Return the paper's penalties (N,), with (N, m) arrays and nothing clever."""
    if name == "off_support_l1":
        return (mask * (a - z)).abs().sum(dim=1)
    l1_norms = (mask * a).abs().sum(dim=1)
    l2_norms = (mask * a).square().sum(dim=1).sqrt()
    ratios = [
        l1 / l2 if l2 > 0 else l1 * 0 for l1, l2 in zip(l1_norms, l2_norms, strict=True)
    ]
    return torch.stack(ratios)


def kept_of_each(a, k):
    """Tell which activations are the k largest of their row: (N, m) bool."""
    is_kept = torch.zeros_like(a, dtype=torch.bool)
    for i in range(len(a)):
        is_kept[i, a[i].argsort(descending=True)[:k]] = True
    return is_kept


def kept_of_batch(a, k):
    """Tell which activations are the k N largest of the batch: (N, m) bool."""
    by_size = sorted(
        (
            (value, i, j)
            for i, row in enumerate(a.tolist())
            for j, value in enumerate(row)
        ),
        reverse=True,
    )
    is_kept = torch.zeros_like(a, dtype=torch.bool)
    for _, i, j in by_size[: k * len(a)]:
        is_kept[i, j] = True
    return is_kept


KEPT_BY = {"topk": kept_of_each, "batch_topk": kept_of_batch}


def dense_loss(coder, x, s, since_fired):
    """Compute the whole loss, dense, from docs/protocol.md and arXiv:2412.06410.

    Returns:
        The loss, and the smallest activation that is kept.
    """
    shift = 0
    scale = 1
    if s.input_norm == "unit_l2_layernorm":
        shift = x.mean(dim=1, keepdim=True)
        scale = x.std(dim=1, keepdim=True, correction=0)
    a = dense_activations(coder, (x - shift) / scale)
    z = a * KEPT_BY[s.objective](a.detach(), s.k)
    x_hat = (z @ coder.W_dec + coder.b_dec) * scale + shift

    residual = x - x_hat
    error = residual.square().sum() / len(x)
    loss = error + dense_rest(coder, s, a, z, residual, since_fired, scale)
    return loss, z[z > 0].min().item()


def dense_rest(coder, s, a, z, residual, since_fired, scale=1):
    """Compute what all objectives add to theirs: the penalty, and AuxK.

    Args:
        a, z: (N, m) activations and codes.
        residual: (N, d) what the codes leave, which AuxK reconstructs.
        since_fired: (m,) samples since each latent fired, before this batch.
    """
    is_active = (z > 0).any(dim=0)
    rest = 0
    if s.penalty:
        mask = is_active if s.mask == "batch_active" else torch.ones_like(is_active)
        penalties = dense_penalty(s.penalty, a, z, mask.double().detach())
        rest = rest + s.lam * penalties.sum() / len(a)

    is_dead = torch.where(is_active, 0, since_fired + len(a)) >= s.dead_after
    if is_dead.any():
        a_dead = a * is_dead
        e_hat = (a_dead * kept_of_each(a_dead, s.auxk_k)) @ coder.W_dec * scale
        rest = rest + s.auxk_alpha * (residual.detach() - e_hat).square().sum() / len(a)
    return rest
