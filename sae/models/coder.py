"""The one form in which an SAE is saved, scored, drawn, exported and applied.

    a = ReLU((x - b_d) @ W_e + b_e);  z = select(a);  xhat = z @ W_d + b_d

However an SAE was trained, it ends as a :class:`Coder`. `select` is :class:`TopK` (Gao
et al. 2024, arXiv:2406.04093) or :class:`Threshold` (a threshold per latent: BatchTopK,
JumpReLU, ReLU and others reduce to it). A coder has no state: what it gives for a
sample depends on that sample alone.

Shapes: N samples, d dimensions, m latents.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sae.models import inputs
from sae.models.codes import Codes, concatenate
from sae.models.sizes import CHUNK


class TopK(nn.Module):
    """Keep the k largest activations of each sample; an activation of 0 never counts.

    Args:
        k: how many are kept at most.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, a: Float[Tensor, "samples m"]) -> Codes:
        """Return the codes of activations (N, m)."""
        values, latents = a.topk(self.k, dim=1)
        is_active = values > 0
        return _codes_of_active(values[is_active], latents[is_active], is_active, a)


class Threshold(nn.Module):
    """Keep the activations above their latent's threshold.

    The comparison is strict. For a threshold below 0, 0 is used: an activation of 0 is
    never active.

    Args:
        theta: (m,) the thresholds.
    """

    theta: Float[Tensor, " m"]

    def __init__(self, theta: Float[Tensor, " m"]) -> None:
        super().__init__()
        self.register_buffer("theta", theta)

    def forward(self, a: Float[Tensor, "samples m"]) -> Codes:
        """Return the codes of activations (N, m)."""
        is_active = a > self.theta.clamp_min(0)
        rows, latents = is_active.nonzero(as_tuple=True)
        values = a[is_active]

        # Largest first in each row. Both sorts are stable, so that equal values stay in
        # the order of their latents.
        by_value = values.argsort(descending=True, stable=True)
        by_row = by_value[rows[by_value].argsort(stable=True)]
        return _codes_of_active(values[by_row], latents[by_row], is_active, a)


def _codes_of_active(
    values: Float[Tensor, " active"],
    latents: Int[Tensor, " active"],
    is_active: Bool[Tensor, "samples candidates"],
    a: Float[Tensor, "samples m"],
) -> Codes:
    """Return the codes of active latents, which are given row after row."""
    row_lengths = is_active.sum(dim=1)
    offsets = functional.pad(row_lengths.cumsum(0), (1, 0))
    return Codes(
        values.cpu().numpy(),
        latents.int().cpu().numpy(),
        offsets.cpu().numpy(),
        a.shape[1],
    )


class Coder(nn.Module):
    """A sparse autoencoder: an encoder, a selection of latents, a decoder.

    Its tensors are `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d) and `b_dec` (d,).

    Args:
        d: dimensions of an input.
        m: latents.
        k: the budget: the k of a Top-k coder, the mean number of active latents that a
            threshold is fixed for.
        select: :class:`TopK` or :class:`Threshold`; by default `TopK(k)`.
        input_norm: 'none', 'unit_l2' or 'unit_l2_layernorm'; with the last each sample
            is standardised before the encoder, and that is undone after the decoder.
        input_scale: the factor of the inputs after their norm.
        tied: the encoder is the decoder's transpose; it then has no parameter of its
            own.
        metadata: what :func:`sae.models.saefile.save` writes beside the tensors: what
            made this SAE.
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
        self.d = d
        self.m = m
        self.k = k
        self.input_norm = input_norm
        self.input_scale = input_scale
        self.tied = tied
        self.metadata = dict(metadata or {})
        self.select: TopK | Threshold = select or TopK(k)
        self.W_dec = nn.Parameter(torch.zeros(m, d))
        self.b_dec = nn.Parameter(torch.zeros(d))
        self.b_enc = nn.Parameter(torch.zeros(m))
        if not tied:
            # Not (d, m): the gradient of each latent lies together in memory, and fused
            # Adam copies what is not contiguous.
            self.encoder = nn.Parameter(torch.zeros(m, d))

    @torch.no_grad()
    def initialise(
        self, mean: Float[Tensor, " d"], seed: int, encoder_scale: float = 1.0
    ) -> None:
        """Set the weights to those that a training begins with.

        Decoder rows are random and of norm 1. The encoder is the decoder transposed
        times `encoder_scale`, if it is not tied. `b_dec` is the mean.

        Args:
            mean: (d,) the mean of the standardised inputs.
            seed: of the decoder's rows.
            encoder_scale: the factor of an encoder that is not tied.
        """
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(self.W_dec.shape, generator=generator)
        self.W_dec.copy_(functional.normalize(rows, dim=1))
        self.b_dec.copy_(mean)
        if not self.tied:
            self.encoder.copy_(encoder_scale * self.W_dec)

    @property
    def W_enc(self) -> Float[Tensor, "d m"]:
        """Return the encoder (d, m): the decoder transposed if they are tied."""
        return (self.W_dec if self.tied else self.encoder).T

    def _tensors_by_name(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {
            "W_enc": self.W_enc,
            "b_enc": self.b_enc,
            "W_dec": self.W_dec,
            "b_dec": self.b_dec,
        }
        if isinstance(self.select, Threshold):
            tensors["theta"] = self.select.theta
        return tensors

    @torch.no_grad()
    def fill(self, tensors: dict[str, Tensor]) -> None:
        """Copy tensors by the names of :meth:`tensors`; what is not among them stays.

        Raises:
            KeyError: there is no such tensor.
            RuntimeError: a tensor is not of the shape that it should have.
        """
        own_tensors = self._tensors_by_name()
        for name, tensor in tensors.items():
            own_tensor = own_tensors[name]
            if tensor.shape != own_tensor.shape:  # `copy_` would broadcast.
                raise RuntimeError(
                    f"{name} is of shape {tuple(tensor.shape)}, not "
                    f"{tuple(own_tensor.shape)}"
                )
            own_tensor.copy_(tensor)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies on the CPU of the tensors that a file has.

        They are `W_enc`, `b_enc`, `W_dec`, `b_dec`, and `theta` of thresholds.
        """
        # Clones: a tied encoder is a view of the decoder, which safetensors refuses.
        return {
            name: tensor.detach().cpu().clone().contiguous()
            for name, tensor in self._tensors_by_name().items()
        }

    def standardise(
        self, x: Float[Tensor, "samples d"]
    ) -> tuple[
        Float[Tensor, "samples d"],
        Float[Tensor, "samples 1"] | None,
        Float[Tensor, "samples 1"] | None,
    ]:
        """Standardise each sample, if `input_norm` says so.

        Args:
            x: (N, d) prepared inputs.

        Returns:
            The standardised inputs x' (N, d), and a scale and a shift (N, 1) with
            x = x' * scale + shift. Without LayerNorm x itself, None and None.
        """
        if self.input_norm != "unit_l2_layernorm":
            return x, None, None
        shift = x.mean(dim=1, keepdim=True)
        scale = x.std(dim=1, keepdim=True, correction=0).clamp_min(1e-8)
        return (x - shift) / scale, scale, shift

    def activations(
        self, x: Float[Tensor, "samples d"], precision: torch.dtype = torch.float32
    ) -> Float[Tensor, "samples m"]:
        """Compute a = ReLU(pi) of standardised inputs.

        b_d is folded into the encoder's bias, so that no gradient has to flow to the
        inputs.

        Args:
            x: (N, d) standardised inputs.
            precision: what the product with the encoder, and its gradient, are computed
                in; weights stay float32.

        Returns:
            (N, m) float32.
        """
        weight = self.W_enc
        bias = self.b_enc - self.b_dec @ weight
        if precision == torch.float32:
            return torch.addmm(bias, x, weight).relu_()
        return torch.add(x.to(precision) @ weight.to(precision), bias).relu_()

    def activations_by_chunk(
        self, x: Float[Tensor, "samples d"] | inputs.Inputs
    ) -> Iterator[Float[Tensor, "chunk m"]]:
        """Yield the activations of prepared inputs (N, d), a chunk of rows at a time.

        Never (N, m) as a whole. No gradient flows to the weights.
        """
        for chunk in x.split(CHUNK):
            # Not around `yield`: a consumer that stops early would go on without
            # gradients.
            with torch.no_grad():
                activations = self.activations(self.standardise(chunk)[0])
            yield activations

    def encode(
        self,
        x: Float[Tensor, "samples d"] | inputs.Inputs,
        select: TopK | Threshold | None = None,
    ) -> Codes:
        """Encode prepared inputs.

        Args:
            x: (N, d) prepared inputs.
            select: how latents are selected; by default as the coder does.
        """
        select = select or self.select
        return concatenate([select(a) for a in self.activations_by_chunk(x)])

    def firing_counts(
        self, x: Float[Tensor, "samples d"] | inputs.Inputs
    ) -> Int[np.ndarray, " m"]:
        """Count the samples on which each latent is active, without keeping codes.

        Args:
            x: (N, d) prepared inputs.

        Returns:
            (m,) counts.
        """
        counts_by_chunk = [
            self.select(a).firing_counts() for a in self.activations_by_chunk(x)
        ]
        return np.sum(counts_by_chunk, axis=0)

    def largest(
        self, x: Float[Tensor, "samples d"] | inputs.Inputs, r: int
    ) -> tuple[Float[Tensor, "samples r"], Int[Tensor, "samples r"]]:
        """Find the r largest activations of each sample, whatever the selection is.

        Args:
            x: (N, d) prepared inputs.
            r: how many.

        Returns:
            Activations (N, r), from 0, the largest first; and their latents (N, r).
        """
        value_chunks = []
        latent_chunks = []
        for activations in self.activations_by_chunk(x):
            values, latents = activations.topk(r, dim=1)
            value_chunks.append(values)
            latent_chunks.append(latents)
        return torch.cat(value_chunks), torch.cat(latent_chunks)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Float[Tensor, "samples d"]:
        """Decode codes to xhat (N, d), which is standardised."""
        device = self.b_dec.device
        # Copies: PyTorch warns of arrays that are read-only, as a metric's codes.
        values = torch.tensor(codes.values, device=device)
        latents = torch.tensor(codes.indices, dtype=torch.int64, device=device)
        offsets = torch.tensor(codes.offsets, device=device)
        row_starts = offsets[:-1]
        weighted_rows = gather_sum(
            values.to(self.W_dec.dtype), latents, self.W_dec, row_starts
        )
        return weighted_rows + self.b_dec

    def reconstruct(
        self, x: Float[Tensor, "samples d"], codes: Codes
    ) -> Float[Tensor, "samples d"]:
        """Reconstruct prepared inputs from their codes.

        Args:
            x: (N, d) prepared inputs, of which the mean and scale of each are used.
            codes: the codes of these N samples.

        Returns:
            xhat (N, d) in the space of the prepared inputs.
        """
        _, scale, shift = self.standardise(x)
        return undo_standardise(self.decode(codes), scale, shift)

    def prepare(
        self, embeddings: Float[np.ndarray, "samples d"]
    ) -> Float[Tensor, "samples d"]:
        """Bring embeddings (N, d) as the backbone gave them to the input space.

        Returns:
            (N, d) float32 on the CPU: see :func:`sae.models.inputs.prepare`.
        """
        return inputs.prepare(embeddings, self.input_norm, self.input_scale)

    def open_inputs(
        self, embeddings: Float[np.ndarray, "samples d"]
    ) -> Float[Tensor, "samples d"] | inputs.Inputs:
        """Prepare embeddings (N, d) on the coder's device, or as they are asked for.

        What does not fit into memory stays where it is: see
        :func:`sae.models.inputs.open_inputs`.
        """
        return inputs.open_inputs(
            embeddings, self.input_norm, self.input_scale, self.b_dec.device
        )


def undo_standardise(
    x_hat: Float[Tensor, "samples d"],
    scale: Float[Tensor, "samples 1"] | None,
    shift: Float[Tensor, "samples 1"] | None,
) -> Float[Tensor, "samples d"]:
    """Undo :meth:`Coder.standardise`.

    Args:
        x_hat: (N, d) reconstructions of standardised inputs.
        scale: what `standardise` returned.
        shift: what `standardise` returned.

    Returns:
        (N, d) in the space of the prepared inputs.
    """
    if scale is None or shift is None:
        return x_hat
    return x_hat * scale + shift


def gather_sum(
    values: Tensor,
    indices: Tensor,
    weight: Float[Tensor, "m d"],
    starts: Int[Tensor, " samples"] | None = None,
) -> Float[Tensor, "samples d"]:
    """Sum the rows of a weight that each sample names: never a dense (N, m) product.

    Row n of what is returned is sum_j values[n, j] * weight[indices[n, j]].

    Args:
        values: (N, k) factors; or (P,), row after row, with `starts`.
        indices: rows of `weight`, of the shape of `values`.
        weight: (m, d).
        starts: (N,) where each row starts, if rows have different lengths.

    Returns:
        (N, d).
    """
    return functional.embedding_bag(
        indices, weight, starts, per_sample_weights=values, mode="sum"
    )
