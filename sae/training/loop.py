"""Train one Top-k SAE: reconstruction + AuxK + lambda times a regularizer.

Loss (arXiv:2606.27321), N samples a batch, R a batch mean so that lambda does not depend on the batch size:

    (1/N) sum_i ||x_i - xhat_i||^2 + alpha (1/N) sum_i ||e_i - ehat_i||^2 + lambda (1/N) sum_i R_i

with e the detached residual and ehat its reconstruction from the top dead latents, without b_d (arXiv:2406.04093).
"""

import logging
from dataclasses import dataclass

import torch

from sae.models import inputs
from sae.models.coder import TopKSAE, gather_sum

log = logging.getLogger(__name__)

# A reconstruction this many times worse than the mean's is beyond recovery.
DIVERGED_AT = 100.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, with the data.

    Attributes:
        m, k: latents, latents kept.
        lam, mask, seed: lambda; 'batch_active' or 'all'; of initialisation and batch order.
        epochs, batch_size, lr, adam_eps: Adam; an epoch is a fresh permutation, its incomplete batch dropped.
        decay_fraction: share of the steps, at the end, over which lr falls linearly to 0.
        auxk_alpha, auxk_k: weight of AuxK; dead latents it may use per sample.
        dead_after: samples without an activation > 0 after which a latent counts as dead.
        input_norm, tied: see `sae.models.coder.TopKSAE`.
        log_every: steps between rows of the training log.
        precision: 'float32', or 'bfloat16' for the encoder's products; weights and all else stay float32.
    """

    m: int
    k: int
    lam: float
    mask: str
    seed: int
    epochs: int
    batch_size: int
    lr: float
    adam_eps: float
    decay_fraction: float
    auxk_alpha: float
    auxk_k: int
    dead_after: int
    input_norm: str
    tied: bool
    log_every: int
    precision: str = "float32"


class Diverged(Exception):
    """Training left the finite numbers, or the reconstruction got absurd; carries the step and the log so far."""

    def __init__(self, step, rows):
        super().__init__(f"diverged by step {step}")
        self.step, self.rows = step, rows


@dataclass(frozen=True)
class Moments:
    """What every SAE of a bank needs to know of its inputs.

    Attributes:
        mean: (d,) of the inputs as the encoder sees them, where b_d starts.
        variance: total variance of the inputs.
    """

    mean: torch.Tensor
    variance: float


def train(x, settings, penalty=None, progress=None, known=None):
    """Train an SAE on prepared inputs.

    Args:
        x: (N, d) prepared inputs (`sae.models.inputs.open_inputs`) on the device to train on, total variance about 1 (lambda
            depends on that scale).
        settings: see :class:`Settings`.
        penalty: a regularizer (`sae.training.penalties`); None trains the baseline.
        progress: called with each row of the log.
        known: what :func:`moments` returned for `x`, if it was asked before.

    Returns:
        The trained `TopKSAE` and the log, a list of dicts: step, epoch, lr, loss, reconstruction, penalty, aux, r2, l0,
        dead.

    Raises:
        Diverged: the loss is not finite, or the reconstruction error is `DIVERGED_AT` times the variance.
    """
    s, rows = settings, []
    count, d = x.shape
    sae = TopKSAE(d, s.m, s.k, s.input_norm, s.tied).to(x.device)
    known = known or moments(x, s.input_norm)
    sae.initialise(known.mean, s.seed)
    optimiser = torch.optim.Adam(sae.parameters(), lr=s.lr, eps=s.adam_eps, fused=True)
    batch_size = min(s.batch_size, count)
    steps = s.epochs * (count // batch_size)
    since_fired = torch.zeros(s.m, dtype=torch.int64, device=x.device)
    rows_on = x.device if isinstance(x, torch.Tensor) else "cpu"
    for step, (epoch, picked) in enumerate(batches(count, batch_size, s.epochs, s.seed, rows_on)):
        batch = x[picked]
        lr = s.lr * min(1.0, (steps - step) / max(1.0, s.decay_fraction * steps))
        optimiser.param_groups[0]["lr"] = lr

        loss, parts, since_fired = objective(sae, batch, s, penalty, since_fired)
        update(sae, optimiser, loss)

        if step % s.log_every == 0 or step == steps - 1:
            row = {"step": step, "epoch": epoch, "lr": lr} | {name: part.item() for name, part in parts.items()}
            row["r2"] = 1 - row["reconstruction"] / known.variance
            rows.append(row)
            # `not <` also catches NaN. The last step may have broken a weight after this loss was computed.
            broken = step == steps - 1 and not all(p.isfinite().all() for p in sae.parameters())
            if broken or not row["loss"] < float("inf") or not row["reconstruction"] < DIVERGED_AT * known.variance:
                raise Diverged(step, rows)
            if progress is not None:
                progress(row)
    return sae, rows


def update(sae, optimiser, loss):
    """One step down the gradient of `loss`; the decoder's rows stay of unit norm."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    remove_parallel(sae.W_dec)
    optimiser.step()
    unit_rows_(sae.W_dec)


def moments(x, input_norm):
    """The :class:`Moments` of prepared inputs."""
    sae, total = TopKSAE(x.shape[1], 1, 1, input_norm), 0.0
    for part in x.split(16_384):
        total = total + sae.standardise(part)[0].mean(dim=0).cpu().double() * len(part)
    return Moments((total / len(x)).float().to(x.device), inputs.total_variance(x))


def batches(count, batch_size, epochs, seed, device="cpu"):
    """Yield (epoch, row numbers (batch_size,)): a fresh permutation each epoch, its incomplete batch dropped.

    The permutation is drawn on the CPU, the same for every device, and moved there as a whole.
    """
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for rows in torch.randperm(count, generator=generator).to(device).split(batch_size):
            if len(rows) == batch_size:
                yield epoch, rows


def objective(sae, batch, settings, penalty, since_fired):
    """The loss of one batch (N, d).

    Args:
        penalty: a regularizer, or None.
        since_fired: (m,) samples since each latent last fired, before this batch.

    Returns:
        The loss; its parts as tensors (loss, reconstruction, penalty, aux, l0, dead); the new `since_fired`.
    """
    standard, scale, shift = sae.standardise(batch)
    a = sae.activations(standard, getattr(torch, settings.precision))
    values, indices = sae.select(a)
    x_hat = sae.decode(values, indices)
    residual = batch - (x_hat if scale is None else x_hat * scale + shift)
    reconstruction = residual.square().sum(dim=1).mean()
    fired = fired_latents(values, indices, settings.m)
    since_fired = torch.where(fired, 0, since_fired + len(batch))

    loss = reconstruction
    regularization = aux = torch.zeros((), device=batch.device)
    if penalty is not None:
        mask = fired.to(a.dtype) if settings.mask == "batch_active" else torch.ones_like(a[0])
        regularization = penalty(a, values, indices, mask).mean()
        loss = loss + settings.lam * regularization
    dead = since_fired >= settings.dead_after
    # An accelerator is not asked whether any latent is dead, since that would wait for it: there AuxK is computed every
    # time, and is 0 if none is.
    if dead.device.type != "cpu" or dead.any():
        aux = auxk_loss(sae, a, residual, scale, dead, settings.auxk_k)
        loss = loss + settings.auxk_alpha * aux
    parts = {"loss": loss, "reconstruction": reconstruction, "penalty": regularization, "aux": aux}
    return loss, parts | {"l0": (values > 0).sum() / len(batch), "dead": dead.sum()}, since_fired


def fired_latents(values, indices, m):
    """(m,) bool: which latents have an activation > 0 among the picks; a pick of value 0 did not fire."""
    hits = torch.zeros(m, device=values.device)
    return hits.scatter_add_(0, indices.reshape(-1), (values > 0).to(hits.dtype).reshape(-1)) > 0


def auxk_loss(sae, a, residual, scale, dead, auxk_k):
    """AuxK: mean squared error of the residual's reconstruction from the `auxk_k` most active dead latents.

    The residual is detached, and b_d takes no part: x - xhat has it already subtracted. Without dead latents it is 0.
    """
    values, indices = dead_picks(a, dead, auxk_k) if a.device.type == "cpu" else dead_picks_masked(a, dead, auxk_k)
    e_hat = gather_sum(values, indices, sae.W_dec)
    if scale is not None:
        e_hat = e_hat * scale
    return (residual.detach() - e_hat).square().sum(dim=1).mean() * dead.any()


def dead_picks(a, dead, count):
    """The `count` most active dead latents of each sample: values and indices, both (N, at most `count`).

    Reads the number of dead latents, and then touches their columns alone.
    """
    dead_indices = dead.nonzero().squeeze(1)
    values, picks = a[:, dead_indices].topk(min(count, len(dead_indices)), dim=1, sorted=False)
    return values, dead_indices[picks]


def dead_picks_masked(a, dead, count):
    """The same without knowing their number; what is short of `count` is filled with activations of 0."""
    return (a * dead).topk(min(count, a.shape[1]), dim=1, sorted=False)


@torch.no_grad()
def remove_parallel(weight):
    """Remove from the gradient of each unit row its component along the row."""
    weight.grad.addcmul_(weight, (weight.grad * weight).sum(dim=1, keepdim=True), value=-1)


@torch.no_grad()
def unit_rows_(weight):
    """Scale each row to unit l2 norm, in place."""
    weight.div_(weight.norm(dim=1, keepdim=True).clamp_min(1e-12))
