"""A frozen copy of the model, the training step and the two regularizers as of commit e3daf4b, self-contained.

`test_frozen.py` trains beside it: whatever is rebuilt, `topk`, `reg1` and `reg2` agree to rounding. Do not edit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_CHUNK = 16_384

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
        input_norm, tied: see `sae.model.TopKSAE`.
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
        x: (N, d) prepared inputs (`sae.inputs.open_inputs`) on the device to train on, total variance about 1 (lambda
            depends on that scale).
        settings: see :class:`Settings`.
        penalty: a regularizer (`sae.regularizers`); None trains the baseline.
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
    for step, (epoch, picked) in enumerate(
        batches(count, batch_size, s.epochs, s.seed, rows_on)
    ):
        batch = x[picked]
        lr = s.lr * min(1.0, (steps - step) / max(1.0, s.decay_fraction * steps))
        optimiser.param_groups[0]["lr"] = lr

        loss, parts, since_fired = objective(sae, batch, s, penalty, since_fired)
        update(sae, optimiser, loss)

        if step % s.log_every == 0 or step == steps - 1:
            row = {"step": step, "epoch": epoch, "lr": lr} | {
                name: part.item() for name, part in parts.items()
            }
            row["r2"] = 1 - row["reconstruction"] / known.variance
            rows.append(row)
            # `not <` also catches NaN. The last step may have broken a weight after this loss was computed.
            broken = step == steps - 1 and not all(
                p.isfinite().all() for p in sae.parameters()
            )
            if (
                broken
                or not row["loss"] < float("inf")
                or not row["reconstruction"] < DIVERGED_AT * known.variance
            ):
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
    return Moments((total / len(x)).float().to(x.device), total_variance(x))


def batches(count, batch_size, epochs, seed, device="cpu"):
    """Yield (epoch, row numbers (batch_size,)): a fresh permutation each epoch, its incomplete batch dropped.

    The permutation is drawn on the CPU, the same for every device, and moved there as a whole.
    """
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for rows in (
            torch.randperm(count, generator=generator).to(device).split(batch_size)
        ):
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
        mask = (
            fired.to(a.dtype)
            if settings.mask == "batch_active"
            else torch.ones_like(a[0])
        )
        regularization = penalty(a, values, indices, mask).mean()
        loss = loss + settings.lam * regularization
    dead = since_fired >= settings.dead_after
    # An accelerator is not asked whether any latent is dead, since that would wait for it: there AuxK is computed every
    # time, and is 0 if none is.
    if dead.device.type != "cpu" or dead.any():
        aux = auxk_loss(sae, a, residual, scale, dead, settings.auxk_k)
        loss = loss + settings.auxk_alpha * aux
    parts = {
        "loss": loss,
        "reconstruction": reconstruction,
        "penalty": regularization,
        "aux": aux,
    }
    return (
        loss,
        parts | {"l0": (values > 0).sum() / len(batch), "dead": dead.sum()},
        since_fired,
    )


def fired_latents(values, indices, m):
    """(m,) bool: which latents have an activation > 0 among the picks; a pick of value 0 did not fire."""
    hits = torch.zeros(m, device=values.device)
    return (
        hits.scatter_add_(
            0, indices.reshape(-1), (values > 0).to(hits.dtype).reshape(-1)
        )
        > 0
    )


def auxk_loss(sae, a, residual, scale, dead, auxk_k):
    """AuxK: mean squared error of the residual's reconstruction from the `auxk_k` most active dead latents.

    The residual is detached, and b_d takes no part: x - xhat has it already subtracted. Without dead latents it is 0.
    """
    values, indices = (
        dead_picks(a, dead, auxk_k)
        if a.device.type == "cpu"
        else dead_picks_masked(a, dead, auxk_k)
    )
    e_hat = gather_sum(values, indices, sae.W_dec)
    if scale is not None:
        e_hat = e_hat * scale
    return (residual.detach() - e_hat).square().sum(dim=1).mean() * dead.any()


def dead_picks(a, dead, count):
    """The `count` most active dead latents of each sample: values and indices, both (N, at most `count`).

    Reads the number of dead latents, and then touches their columns alone.
    """
    dead_indices = dead.nonzero().squeeze(1)
    values, picks = a[:, dead_indices].topk(
        min(count, len(dead_indices)), dim=1, sorted=False
    )
    return values, dead_indices[picks]


def dead_picks_masked(a, dead, count):
    """The same without knowing their number; what is short of `count` is filled with activations of 0."""
    return (a * dead).topk(min(count, a.shape[1]), dim=1, sorted=False)


@torch.no_grad()
def remove_parallel(weight):
    """Remove from the gradient of each unit row its component along the row."""
    weight.grad.addcmul_(
        weight, (weight.grad * weight).sum(dim=1, keepdim=True), value=-1
    )


@torch.no_grad()
def unit_rows_(weight):
    """Scale each row to unit l2 norm, in place."""
    weight.div_(weight.norm(dim=1, keepdim=True).clamp_min(1e-12))


class TopKSAE(nn.Module):
    """Parameters `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d) with unit rows, `b_dec` (d,).

    Args:
        d, m, k: dimensions, latents, latents kept per sample.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm'; with the last each sample is standardised before the
            encoder, and that is undone after the decoder.
        tied: the encoder is the decoder's transpose; `W_enc` is then no parameter of its own.
        metadata: what :func:`sae.saefile.save` writes beside the tensors.
    """

    def __init__(self, d, m, k, input_norm="none", tied=False, metadata=None):
        super().__init__()
        self.k, self.layernorm, self.tied = k, input_norm == "unit_l2_layernorm", tied
        self.metadata = dict(metadata or {})
        self.W_dec = nn.Parameter(torch.zeros(m, d))
        self.b_dec = nn.Parameter(torch.zeros(d))
        self.b_enc = nn.Parameter(torch.zeros(m))
        if not tied:
            self.W_enc = nn.Parameter(torch.zeros(d, m))

    @torch.no_grad()
    def initialise(self, mean, seed):
        """Random unit decoder rows, encoder = decoder transposed, `b_dec` = `mean` (d,) of the standardised inputs."""
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(self.W_dec.shape, generator=generator)
        self.W_dec.copy_(functional.normalize(rows, dim=1))
        self.b_dec.copy_(mean)
        if not self.tied:
            self.W_enc.copy_(self.W_dec.T)

    def encoder_weight(self):
        """(d, m)."""
        return self.W_dec.T if self.tied else self.W_enc

    def standardise(self, x):
        """x, and how to undo it: (x', scale, shift) with x = x' * scale + shift; scale None without LayerNorm."""
        if not self.layernorm:
            return x, None, None
        shift = x.mean(dim=1, keepdim=True)
        scale = x.std(dim=1, keepdim=True, correction=0).clamp_min(1e-8)
        return (x - shift) / scale, scale, shift

    def activations(self, x, precision=torch.float32):
        """a = ReLU(pi): standardised inputs (N, d) to (N, m) float32.

        b_d is folded into the encoder's bias, so that no gradient has to flow to the inputs.

        Args:
            precision: what the product with the encoder, and its gradient, are computed in; weights stay float32.
        """
        weight = self.encoder_weight()
        bias = self.b_enc - self.b_dec @ weight
        if precision == torch.float32:
            return functional.relu(torch.addmm(bias, x, weight))
        return functional.relu((x.to(precision) @ weight.to(precision)).float() + bias)

    def select(self, a):
        """The k largest activations of each sample, in no particular order: values and indices, both (N, k)."""
        return a.topk(self.k, dim=1, sorted=False)

    def decode(self, values, indices):
        """xhat (N, d), standardised, from sparse codes (N, k)."""
        return gather_sum(values, indices, self.W_dec) + self.b_dec

    def encode(self, x, k=None):
        """Sparse codes of prepared inputs (N, d), largest first: values and indices, both (N, k)."""
        return self.activations(self.standardise(x)[0]).topk(k or self.k, dim=1)

    def reconstruct(self, x, values, indices):
        """xhat (N, d) in the space of the prepared inputs `x`, from their codes."""
        _, scale, shift = self.standardise(x)
        x_hat = self.decode(values, indices)
        return x_hat if scale is None else x_hat * scale + shift


def gather_sum(values, indices, weight):
    """sum_j values[n, j] * weight[indices[n, j]]: (N, k), (N, k), (m, d) to (N, d), differentiable in both floats.

    Never a dense (N, m) product: N k d multiplications instead of N m d. The gradient of `weight` gathers too: with the
    picks sorted by latent it is the same operation, and its order of summation is fixed, on a GPU as well.
    """
    out = functional.embedding_bag(
        indices, weight.detach(), per_sample_weights=values, mode="sum"
    )
    return (
        _WeightGradient.apply(out, weight, values.detach(), indices)
        if weight.requires_grad
        else out
    )


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, out, weight, values, indices):
        ctx.save_for_backward(values, indices)
        ctx.rows = len(weight)
        return out.view_as(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        values, indices = ctx.saved_tensors
        # Narrow integers sort faster; the sort is stable, so samples are summed in order.
        flat = indices.reshape(-1)
        narrow = torch.short if ctx.rows < 2**15 else torch.int
        ordered, order = torch.sort(flat.to(narrow), stable=True)
        # Not by counting: `bincount` waits for a GPU.
        starts = torch.searchsorted(
            ordered, torch.arange(ctx.rows, dtype=narrow, device=flat.device)
        )
        weight_gradient = functional.embedding_bag(
            order // indices.shape[1],
            gradient,
            offsets=starts,
            per_sample_weights=values.reshape(-1)[order],
            mode="sum",
        )
        return gradient, weight_gradient, None, None


def off_support_l1(a, values, _indices, mask):
    """|| mask * (a_i - z_i) ||_1 for each sample: (N, m), (N, k), (N, k), (m,) to (N,).

    A pick with a positive value is batch-active by definition, so what was kept is subtracted unmasked.
    """
    return a @ mask - values.sum(dim=1)


def l1_l2_ratio(a, _values, _indices, mask):
    """|| mask * a_i ||_1 / || mask * a_i ||_2 for each sample: (N, m), (m,) to (N,).

    A row of zeros has penalty 0 and gradient 0 (the paper leaves this open).
    """
    return _L1L2Ratio.apply(a, mask)


class _L1L2Ratio(torch.autograd.Function):
    # Plain autograd makes about nine passes over (N, m); the closed form makes four.
    # d/da_j (l1 / l2) = mask_j (1 / l2 - a_j l1 / l2^3), for a >= 0.

    @staticmethod
    def forward(ctx, a, mask):
        l1 = a @ mask
        l2 = (a.square() @ mask).sqrt()
        inverse = torch.where(l2 > 0, 1 / l2, 0)
        ctx.save_for_backward(a, mask, l1, inverse)
        return l1 * inverse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        a, mask, l1, inverse = ctx.saved_tensors
        constant = (gradient * inverse).unsqueeze(1)
        slope = (gradient * l1 * inverse**3).unsqueeze(1)
        return torch.addcmul(constant, a, slope, value=-1).mul_(mask), None


def total_variance(x):
    """sum over dimensions of the variance of (N, d), an array, tensor or `Inputs`: E || x - E x ||^2, in float64."""
    count, mean, square = 0, 0.0, 0.0
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        chunk = np.asarray(
            chunk.cpu() if isinstance(chunk, torch.Tensor) else chunk, dtype=np.float64
        )
        # Chan et al. 1983: the pairwise update does not cancel, unlike E x^2 - (E x)^2.
        delta = chunk.mean(axis=0) - mean
        total = count + len(chunk)
        square += ((chunk - chunk.mean(axis=0)) ** 2).sum() + (
            delta**2
        ).sum() * count * len(chunk) / total
        mean = mean + delta * len(chunk) / total
        count = total
    return square / count
