"""The Top-k sparse autoencoder (Gao et al. 2024, arXiv:2406.04093; the form of arXiv:2606.27321).

    pi = W_e (x - b_d) + b_e;  a = ReLU(pi);  z = TopK_k(a);  xhat = W_d z + b_d

Shapes: N samples, d dimensions, m latents, k kept. Codes are always sparse: `values` and `indices`, both (N, k).
"""

import torch
from torch import nn
from torch.nn import functional

from sae.models import inputs


class TopKSAE(nn.Module):
    """Parameters `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d) with unit rows, `b_dec` (d,).

    Args:
        d, m, k: dimensions, latents, latents kept per sample.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm'; with the last each sample is standardised before the
            encoder, and that is undone after the decoder.
        tied: the encoder is the decoder's transpose; `W_enc` is then no parameter of its own.
        metadata: what :func:`sae.models.saefile.save` writes beside the tensors.
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

    def prepare(self, embeddings):
        """Stored embeddings (N, d) as the backbone gave them, to the model's input space."""
        return inputs.prepare(embeddings, self.metadata["input_norm"], self.metadata["input_scale"])

    def open_inputs(self, embeddings):
        """The same on the model's device, and without holding what does not fit: see `sae.models.inputs.open_inputs`."""
        norm, scale = self.metadata["input_norm"], self.metadata["input_scale"]
        return inputs.open_inputs(embeddings, norm, scale, self.b_dec.device)


def gather_sum(values, indices, weight):
    """sum_j values[n, j] * weight[indices[n, j]]: (N, k), (N, k), (m, d) to (N, d), differentiable in both floats.

    Never a dense (N, m) product: N k d multiplications instead of N m d. The gradient of `weight` gathers too: with the
    picks sorted by latent it is the same operation, and its order of summation is fixed, on a GPU as well.
    """
    out = functional.embedding_bag(indices, weight.detach(), per_sample_weights=values, mode="sum")
    return _WeightGradient.apply(out, weight, values.detach(), indices) if weight.requires_grad else out


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
        starts = torch.searchsorted(ordered, torch.arange(ctx.rows, dtype=narrow, device=flat.device))
        weight_gradient = functional.embedding_bag(
            order // indices.shape[1],
            gradient,
            offsets=starts,
            per_sample_weights=values.reshape(-1)[order],
            mode="sum",
        )
        return gradient, weight_gradient, None, None
