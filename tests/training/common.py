"""What the tests of training share: small settings, data, and the loss as the formulas stand."""

import torch
from torch.nn import functional

from sae.core import registry
from sae.models.coder import Coder
from sae.training import step
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
    """Those above, with changes."""
    return SETTINGS.model_copy(update=changed)


def entries(s):
    """The modules of the objective and of the penalty that settings name."""
    return registry.load("objective", s.objective), s.penalty and registry.load(
        "penalty", s.penalty
    )


def data(n=64, d=8, seed=0):
    return functional.normalize(
        torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def make_objective(x, s, seed=1):
    """An objective at work on a coder in float64, away from the symmetric start, b_d and b_e away from zero."""
    coder = Coder(x.shape[1], s.m, s.k, input_norm=s.input_norm, tied=s.tied).double()
    coder.initialise(x.mean(dim=0), seed)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.add_(
                0.1
                * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(seed)
                )
            )
    return step.start(coder, s, *entries(s))


def dense_penalty(name, a, z, mask):
    """The paper's formulas, with (N, m) arrays and nothing clever."""
    if name == "off_support_l1":
        return (mask * (a - z)).abs().sum(dim=1)
    l1, l2 = (mask * a).abs().sum(dim=1), (mask * a).square().sum(dim=1).sqrt()
    return torch.stack([p / q if q > 0 else p * 0 for p, q in zip(l1, l2, strict=True)])


def kept_of_each(a, k):
    """(N, m) bool: the k largest of each row."""
    kept = torch.zeros_like(a, dtype=torch.bool)
    for i in range(len(a)):
        kept[i, a[i].argsort(descending=True)[:k]] = True
    return kept


def kept_of_batch(a, k):
    """(N, m) bool: the k N largest of the batch."""
    order = sorted(
        (
            (value, i, j)
            for i, row in enumerate(a.tolist())
            for j, value in enumerate(row)
        ),
        reverse=True,
    )
    kept = torch.zeros_like(a, dtype=torch.bool)
    for _, i, j in order[: k * len(a)]:
        kept[i, j] = True
    return kept


def dense_loss(coder, x, s, since_fired):
    """The whole loss, dense, straight from docs/protocol.md and arXiv:2412.06410; and the smallest activation kept."""
    shift, scale = 0, 1
    if s.input_norm == "unit_l2_layernorm":
        shift, scale = (
            x.mean(dim=1, keepdim=True),
            x.std(dim=1, keepdim=True, correction=0),
        )
    a = (((x - shift) / scale - coder.b_dec) @ coder.W_enc + coder.b_enc).clamp_min(0)
    kept = {"topk": kept_of_each, "batch_topk": kept_of_batch}[s.objective](
        a.detach(), s.k
    )
    z = a * kept
    x_hat = (z @ coder.W_dec + coder.b_dec) * scale + shift
    loss = (x - x_hat).square().sum() / len(x) + dense_rest(
        coder, s, a, z, x - x_hat, since_fired, scale
    )
    return loss, z[z > 0].min().item()


def dense_rest(coder, s, a, z, residual, since_fired, scale=1):
    """What all objectives add to theirs: the penalty, and AuxK on the residual, of codes z of activations a (N, m)."""
    active, rest = (z > 0).any(dim=0), 0
    if s.penalty:
        mask = (
            active.double()
            if s.mask == "batch_active"
            else torch.ones_like(active).double()
        )
        rest = rest + s.lam * dense_penalty(s.penalty, a, z, mask.detach()).sum() / len(
            a
        )
    dead = torch.where(active, 0, since_fired + len(a)) >= s.dead_after
    if dead.any():
        a_dead = a * dead
        e_hat = (a_dead * kept_of_each(a_dead, s.auxk_k)) @ coder.W_dec * scale
        rest = rest + s.auxk_alpha * (residual.detach() - e_hat).square().sum() / len(a)
    return rest
