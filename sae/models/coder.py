"""The one form in which an SAE is saved, scored, drawn, exported and applied, however it was trained.

    a = ReLU((x - b_d) @ W_e + b_e);  z = select(a);  xhat = z @ W_d + b_d

`select` is :class:`TopK` (Gao et al. 2024, arXiv:2406.04093) or :class:`Threshold` (a threshold per latent: BatchTopK,
JumpReLU, ReLU and others reduce to it). A coder has no state: what it gives for a sample depends on that sample alone.

Shapes: N samples, d dimensions, m latents.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sae.models import inputs
from sae.models.codes import Codes, concatenate
from sae.models.sizes import CHUNK


class TopK(nn.Module):
    """Keep the k largest activations of each sample."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, a: Tensor) -> Codes:
        """Codes of the activations (N, m)."""
        values, indices = a.topk(self.k, dim=1)
        kept = values > 0
        return _codes(values[kept], indices[kept], kept.sum(dim=1), a.shape[1])


class Threshold(nn.Module):
    """Keep the activations above their latent's threshold; `theta` (m,).

    The comparison is strict. Of a threshold below 0, 0 is used: an activation of 0 is never active.
    """

    theta: Tensor

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.register_buffer("theta", theta)

    def forward(self, a: Tensor) -> Codes:
        """Codes of the activations (N, m)."""
        kept = a > self.theta.clamp_min(0)
        rows, indices = kept.nonzero(as_tuple=True)
        values = a[kept]
        # Largest first in each row: both sorts are stable, so that equal values stay in the order of their latents.
        order = values.argsort(descending=True, stable=True)
        order = order[rows[order].argsort(stable=True)]
        return _codes(values[order], indices[order], kept.sum(dim=1), a.shape[1])


def _codes(values: Tensor, indices: Tensor, lengths: Tensor, m: int) -> Codes:
    offsets = functional.pad(lengths.cumsum(0), (1, 0))
    return Codes(
        values.cpu().numpy(), indices.int().cpu().numpy(), offsets.cpu().numpy(), m
    )


class Coder(nn.Module):
    """A sparse autoencoder: `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d), `b_dec` (d,), `select`.

    Args:
        d, m: dimensions, latents.
        k: the budget: the k of a Top-k coder, the mean number of active latents that a threshold is fixed for.
        select: :class:`TopK` or :class:`Threshold`; by default `TopK(k)`.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm'; with the last each sample is standardised before the
            encoder, and that is undone after the decoder.
        input_scale: the factor of the inputs after their norm.
        tied: the encoder is the decoder's transpose; it then has no parameter of its own.
        metadata: what :func:`sae.models.saefile.save` writes beside the tensors: what made this SAE.
    """

    def __init__(
        self,
        d: int,
        m: int,
        k: int,
        select: TopK | Threshold | None = None,
        *,
        input_norm: str = "none",
        input_scale: float = 1.0,
        tied: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.d, self.m, self.k = d, m, k
        self.input_norm, self.input_scale, self.tied = input_norm, input_scale, tied
        self.metadata = dict(metadata or {})
        self.select: TopK | Threshold = select or TopK(k)
        self.W_dec = nn.Parameter(torch.zeros(m, d))
        self.b_dec = nn.Parameter(torch.zeros(d))
        self.b_enc = nn.Parameter(torch.zeros(m))
        if not tied:
            # Not (d, m): each latent's gradient lies together, and fused Adam copies what is not contiguous.
            self.encoder = nn.Parameter(torch.zeros(m, d))

    @torch.no_grad()
    def initialise(self, mean: Tensor, seed: int, encoder_scale: float = 1.0) -> None:
        """Random unit decoder rows, encoder = decoder transposed times `encoder_scale` (if not tied), `b_dec` = `mean`.

        `mean` (d,) is that of the standardised inputs.
        """
        rows = torch.randn(
            self.W_dec.shape, generator=torch.Generator().manual_seed(seed)
        )
        self.W_dec.copy_(functional.normalize(rows, dim=1))
        self.b_dec.copy_(mean)
        if not self.tied:
            self.encoder.copy_(encoder_scale * self.W_dec)

    @property
    def W_enc(self) -> Tensor:
        """(d, m): the parameter `encoder` transposed, or the decoder if they are tied."""
        return (self.W_dec if self.tied else self.encoder).T

    def _named(self) -> dict[str, Tensor]:
        found = {
            "W_enc": self.W_enc,
            "b_enc": self.b_enc,
            "W_dec": self.W_dec,
            "b_dec": self.b_dec,
        }
        return found | (
            {"theta": self.select.theta} if isinstance(self.select, Threshold) else {}
        )

    @torch.no_grad()
    def fill(self, tensors: dict[str, Tensor]) -> None:
        """Take over tensors by the names of :meth:`tensors`; what is not among them stays.

        Raises:
            KeyError: there is no such tensor.
            RuntimeError: one is not of its shape.
        """
        own = self._named()
        for name, value in tensors.items():
            if value.shape != own[name].shape:  # `copy_` would broadcast.
                raise RuntimeError(
                    f"{name} is of shape {tuple(value.shape)}, not {tuple(own[name].shape)}"
                )
            own[name].copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """Copies on the CPU, as a file has them: `W_enc`, `b_enc`, `W_dec`, `b_dec`, and `theta` of thresholds."""
        # Clones: a tied encoder is a view of the decoder, which safetensors refuses.
        return {
            name: t.detach().cpu().clone().contiguous()
            for name, t in self._named().items()
        }

    def standardise(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x (N, d), and how to undo it: (x', scale, shift) with x = x' * scale + shift, both None without LayerNorm."""
        if self.input_norm != "unit_l2_layernorm":
            return x, None, None
        shift = x.mean(dim=1, keepdim=True)
        scale = x.std(dim=1, keepdim=True, correction=0).clamp_min(1e-8)
        return (x - shift) / scale, scale, shift

    def activations(self, x: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        """a = ReLU(pi): standardised inputs (N, d) to (N, m) float32.

        b_d is folded into the encoder's bias, so that no gradient has to flow to the inputs.

        Args:
            precision: what the product with the encoder, and its gradient, are computed in; weights stay float32.
        """
        weight = self.W_enc
        bias = self.b_enc - self.b_dec @ weight
        if precision == torch.float32:
            return torch.addmm(bias, x, weight).relu_()
        return torch.add(x.to(precision) @ weight.to(precision), bias).relu_()

    def activations_by_chunk(self, x: Tensor | inputs.Inputs) -> Iterator[Tensor]:
        """`a` of prepared inputs (N, d), a chunk of rows at a time: never (N, m) as a whole."""
        with torch.no_grad():
            for part in x.split(CHUNK):
                yield self.activations(self.standardise(part)[0])

    def encode(
        self, x: Tensor | inputs.Inputs, select: TopK | Threshold | None = None
    ) -> Codes:
        """Codes of prepared inputs (N, d), by the coder's own selection or by another."""
        select = select or self.select
        return concatenate([select(a) for a in self.activations_by_chunk(x)])

    def firing_counts(self, x: Tensor | inputs.Inputs) -> np.ndarray:
        """(m,) the samples of prepared inputs (N, d) on which each latent is active, without keeping their codes."""
        return np.sum(
            [self.select(a).firing_counts() for a in self.activations_by_chunk(x)],
            axis=0,
        )

    def largest(self, x: Tensor | inputs.Inputs, r: int) -> tuple[Tensor, Tensor]:
        """The r largest of `a`, whatever the selection, largest first: values, from 0, and latents, both (N, r)."""
        values, indices = zip(
            *(a.topk(r, dim=1) for a in self.activations_by_chunk(x)), strict=True
        )
        return torch.cat(values), torch.cat(indices)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """xhat (N, d), standardised, from codes."""
        device = self.b_dec.device
        parts = codes.values, codes.indices.astype(np.int64), codes.offsets
        values, indices, starts = (torch.from_numpy(part).to(device) for part in parts)
        return (
            gather_sum(values.to(self.W_dec.dtype), indices, self.W_dec, starts[:-1])
            + self.b_dec
        )

    def reconstruct(self, x: Tensor, codes: Codes) -> Tensor:
        """xhat (N, d) in the space of the prepared inputs `x` (N, d), from their codes."""
        return restore(self.decode(codes), *self.standardise(x)[1:])

    def prepare(self, embeddings: np.ndarray) -> Tensor:
        """Stored embeddings (N, d) as the backbone gave them, to the model's input space."""
        return inputs.prepare(embeddings, self.input_norm, self.input_scale)

    def open_inputs(self, embeddings: np.ndarray) -> Tensor | inputs.Inputs:
        """The same on the model's device, without holding what does not fit: see `sae.models.inputs.open_inputs`."""
        return inputs.open_inputs(
            embeddings, self.input_norm, self.input_scale, self.b_dec.device
        )


def restore(x_hat: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Undo :meth:`Coder.standardise`: (N, d) in the space of the prepared inputs."""
    return x_hat if scale is None or shift is None else x_hat * scale + shift


def gather_sum(
    values: Tensor, indices: Tensor, weight: Tensor, starts: Tensor | None = None
) -> Tensor:
    """sum_j values[n, j] * weight[indices[n, j]]: (N, d); never a dense (N, m) product.

    Args:
        values, indices: (N, k) each; or (P,) each, row after row, with `starts`.
        weight: (m, d).
        starts: (N,) where each row starts, if rows have different lengths.
    """
    return functional.embedding_bag(
        indices, weight, starts, per_sample_weights=values, mode="sum"
    )
