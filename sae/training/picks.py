"""The activations of a training batch, the ones that are selected, and their gradients.

Shapes in comments: N samples in a batch, d dimensions, m latents, k picks of a sample,
P = k N picks of a batch. A pick of value 0 is an empty place.
"""

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sae.models.coder import Coder, gather_sum

# One number for each pick: (N, k), or (P,) where samples differ in how many they have.
FloatPerPick = Float[Tensor, "batch k"] | Float[Tensor, " picks"]
IntPerPick = Int[Tensor, "batch k"] | Int[Tensor, " picks"]
BoolPerPick = Bool[Tensor, "batch k"] | Bool[Tensor, " picks"]

_GROUP = 8  # Latents in a group, of which `largest` compares the maxima first.


@dataclass(frozen=True)
class _Places:
    """The sample and the latent of each pick, without its value."""

    indices: IntPerPick
    m: int
    starts: Int[Tensor, " batch"] | None

    def samples(self) -> IntPerPick:
        """Return the sample of each pick, shaped as the indices."""
        device = self.indices.device
        if self.starts is None:
            samples = torch.arange(len(self.indices), device=device)
            return samples[:, None].expand_as(self.indices)
        places = torch.arange(len(self.indices), device=device)
        return torch.searchsorted(self.starts, places, right=True) - 1

    @functools.cached_property
    def by_latent(
        self,
    ) -> tuple[Int[Tensor, " picks"], Int[Tensor, " picks"], Int[Tensor, " latents"]]:
        """Sort the picks by latent, once: later calls return the first one's result.

        Returns:
            Of each sorted pick the place where it stood before, and its sample; and
            where the picks of each latent begin.
        """
        # Narrow integers sort faster. The sort is stable, so that the samples of a
        # latent are summed in order.
        narrow_int = torch.short if self.m < 2**15 else torch.int
        latents = self.indices.reshape(-1).to(narrow_int)
        is_few = len(latents) < 2**15
        if latents.device.type == "cpu" and narrow_int == torch.short and is_few:
            # NumPy sorts 16-bit integers by radix; PyTorch does so from 32,768 of them
            # on, and takes ten times as long for fewer.
            places = torch.from_numpy(np.argsort(latents.numpy(), kind="stable"))
        else:
            places = torch.argsort(latents, stable=True)

        # Not by counting: `bincount` waits for a GPU.
        all_latents = torch.arange(self.m, dtype=narrow_int, device=latents.device)
        starts = torch.searchsorted(latents[places], all_latents)
        return places, self.samples().reshape(-1)[places], starts


@dataclass(frozen=True)
class Picks:
    """Selected activations of m latents.

    Either each sample has k of them, or each has as many as fall to it when they are
    selected of a whole batch; those are flat, sample after sample.

    Attributes:
        values: the activations, in no particular order within a sample.
        indices: the latent of each value.
        m: the number of latents there are.
        starts: where each sample begins, if the picks are flat.
    """

    values: FloatPerPick
    indices: IntPerPick
    m: int
    starts: Int[Tensor, " batch"] | None = None
    _places: _Places = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = _Places(self.indices, self.m, self.starts)
        object.__setattr__(self, "_places", places)

    def sample_count(self) -> int:
        """Return the number of samples in the batch."""
        return len(self.values if self.starts is None else self.starts)

    def rows(self) -> IntPerPick:
        """Return the sample of each pick, shaped as the values."""
        return self._places.samples()

    def attach(self, coder: Coder, x: Float[Tensor, "batch dims"]) -> "Picks":
        """Make the values differentiable in the encoder's weights, in float32.

        Activations that were not picked get no gradient. So this takes no product of
        all samples with all latents.

        Args:
            coder: the coder that encoded the batch.
            x: the standardised inputs that the values are activations of.

        Returns:
            Picks of the same values and latents.
        """
        # An objective may have picked among the first latents only.
        picks = replace(self, m=coder.m)
        values = _WithEncoderGradient.apply(
            self.values, x, picks, coder.W_enc.T, coder.b_enc, coder.b_dec
        )
        return picks._with_values(values)

    def gather(self, a: Float[Tensor, "batch latents"]) -> "Picks":
        """Make the values differentiable in all activations `a`, which are so already.

        Returns:
            Picks of the same values and latents.
        """
        # An empty place stays empty, whatever its latent's activation is.
        values = torch.where(self.values == 0, 0, self.values_in(a))
        return replace(self, values=values, m=a.shape[1])

    def values_in(self, a: Float[Tensor, "batch latents"]) -> FloatPerPick:
        """Read `a` at the places of the picks; shaped as the values."""
        if self.starts is None:
            return a.gather(1, self.indices)
        return a.flatten().gather(0, self.rows() * a.shape[1] + self.indices)

    def where(self, keep: BoolPerPick) -> "Picks":
        """Empty the places where `keep`, shaped as the values, is false."""
        return self._with_values(torch.where(keep, self.values, 0))

    def dense(self) -> Float[Tensor, "batch latents"]:
        """Write the picks, with their gradients, into an array of all latents."""
        places = (self.rows() * self.m + self.indices).reshape(-1)
        zeros = self.values.new_zeros(self.sample_count() * self.m)
        flat = zeros.index_add(0, places, self.values.reshape(-1))
        return flat.view(self.sample_count(), self.m)

    def decode(
        self, weight: Float[Tensor, "latents dims"]
    ) -> Float[Tensor, "batch dims"]:
        """Sum, for each sample, the rows of `weight` that it picked times their values.

        Gradients flow to the values and to the weight.
        """
        sums = gather_sum(self.values, self.indices, weight.detach(), self.starts)
        if not weight.requires_grad:
            return sums
        return _WithDecoderGradient.apply(sums, weight, self)

    def sums(self) -> Float[Tensor, " batch"]:
        """Sum the values of each sample."""
        if self.starts is None:
            return self.values.sum(dim=1)

        # Each value weighs the one row, a 1, of a table.
        table = self.values.new_ones(1, 1)
        rows_of_table = torch.zeros_like(self.indices)
        sums = functional.embedding_bag(
            rows_of_table,
            table,
            self.starts,
            per_sample_weights=self.values,
            mode="sum",
        )
        return sums.squeeze(1)

    def fired(self) -> Bool[Tensor, " latents"]:
        """Tell which latents fired: a pick of them has a value above 0.

        A latent that was picked with value 0 did not fire.
        """
        hits = torch.zeros(self.m, device=self.values.device)
        is_positive = (self.values > 0).to(hits.dtype)
        hits.scatter_add_(0, self.indices.reshape(-1), is_positive.reshape(-1))
        return hits > 0

    def sum_by_latent(
        self,
        weights: FloatPerPick,
        rows: Float[Tensor, "batch dims"],
    ) -> Float[Tensor, "latents dims"]:
        """Sum, for each latent, the rows of the samples that picked it times a weight.

        The picks are sorted by latent and then gathered, as in decoding. So the order
        of summation is fixed, on a GPU too.

        Args:
            weights: a weight for each pick, shaped as the values.
            rows: a row for each sample.
        """
        places, samples, starts = self._places.by_latent
        return gather_sum(weights.reshape(-1)[places], samples, rows, starts)

    def _with_values(self, values: FloatPerPick) -> "Picks":
        picks = replace(self, values=values)
        # They share the places, so that these are sorted by latent once.
        object.__setattr__(picks, "_places", self._places)
        return picks


class _WithDecoderGradient(torch.autograd.Function):
    """Give decoded sums, which have the gradient of the values, that of the weight."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, _weight: Tensor, picks: Picks) -> Tensor:
        ctx.picks = picks._with_values(picks.values.detach())
        return sums.view_as(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight_gradient = ctx.picks.sum_by_latent(ctx.picks.values, gradient)
        return gradient, weight_gradient, None


class _WithEncoderGradient(torch.autograd.Function):
    """Give picked activations, which are computed already, the encoder's gradients.

    value = ReLU((x - b_dec) . w_j + b_j) for a pick of latent j. `encoder` is (m, d).
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        x: Tensor,
        picks: Picks,
        encoder: Tensor,
        _b_enc: Tensor,
        b_dec: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(values, x, encoder, b_dec)
        ctx.picks = picks
        return values.view_as(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, x, encoder, b_dec = ctx.saved_tensors
        picks = ctx.picks
        centred = x - b_dec

        gradient = torch.where(values > 0, gradient, 0)
        b_enc_gradient = gradient.new_zeros(picks.m).scatter_add_(
            0, picks.indices.reshape(-1), gradient.reshape(-1)
        )
        encoder_gradient = picks.sum_by_latent(gradient, centred)
        b_dec_gradient = -(b_enc_gradient @ encoder)
        return None, None, None, encoder_gradient, b_enc_gradient, b_dec_gradient


class _WithDenseEncoderGradient(torch.autograd.Function):
    """Give all activations, which are computed already, the encoder's gradients.

    a = ReLU((x - b_dec) @ encoder.T + b_enc); `encoder` is (m, d). Plain autograd would
    go through (N, m) more often, and keep more of it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        x: Tensor,
        precision: torch.dtype,
        encoder: Tensor,
        _b_enc: Tensor,
        b_dec: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(a, x, encoder, b_dec)
        ctx.precision = precision
        return a.view_as(a)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, x, encoder, b_dec = ctx.saved_tensors
        precision = ctx.precision
        centred = x - b_dec

        gradient = torch.ops.aten.threshold_backward(gradient, a, 0)
        b_enc_gradient = gradient.sum(dim=0)
        product = gradient.to(precision).T @ centred.to(precision)
        encoder_gradient = product.to(x.dtype)
        b_dec_gradient = -(b_enc_gradient @ encoder)
        return None, None, None, encoder_gradient, b_enc_gradient, b_dec_gradient


def compute_activations(
    coder: Coder,
    x: Float[Tensor, "batch dims"],
    precision: torch.dtype,
    *,
    differentiable: bool,
) -> Float[Tensor, "batch latents"]:
    """Compute the activations ReLU(pi) of all latents, in float32.

    Args:
        coder: the coder that encodes.
        x: standardised inputs.
        precision: of the product with the encoder, and of the product that gives the
            encoder's gradient.
        differentiable: whether gradients flow through the activations. What is picked
            of them can have gradients without that (:meth:`Picks.attach`).
    """
    with torch.no_grad():
        a = coder.activations(x, precision)
    if not differentiable:
        return a
    # In float64, which tests use, "float32" means the precision of the inputs.
    gradient_precision = x.dtype if precision == torch.float32 else precision
    return _WithDenseEncoderGradient.apply(
        a, x, gradient_precision, coder.W_enc.T, coder.b_enc, coder.b_dec
    )


def of_each(a: Float[Tensor, "batch latents"], k: int) -> Picks:
    """Pick the k largest activations of each sample."""
    values, indices = largest(a, k)
    return Picks(values, indices, a.shape[1])


def of_batch(a: Float[Tensor, "batch latents"], k: int) -> Picks:
    """Pick the k N largest activations of a batch of N samples: k a sample on average.

    Returns:
        Flat picks, sample after sample.
    """
    n, m = a.shape
    values, places = largest(a.reshape(1, -1), k * n)

    places, order = places.squeeze(0).sort()
    values = values.squeeze(0)[order]
    starts = torch.searchsorted(places // m, torch.arange(n, device=a.device))
    return Picks(values, places % m, m, starts)


def largest(
    a: Float[Tensor, "rows columns"], k: int
) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """Find the k largest values of each row, and their columns, in no particular order.

    On a CPU, where k is small and groups come out even, the columns are parted into
    groups. Of them the k groups with the largest maxima are found first, and then the k
    largest values in those groups: each of these k maxima is at least as large as every
    value of another group. That is one quick pass, a selection among m / 8 maxima, and
    one among 8 k values.

    Args:
        a: contiguous.
        k: at most the number of columns.
    """
    row_count, column_count = a.shape
    # Where the chosen groups hold over half of the columns, groups save nothing.
    is_worthwhile = 2 * k * _GROUP <= column_count and column_count % _GROUP == 0
    if a.device.type != "cpu" or not is_worthwhile:
        return a.topk(k, dim=1, sorted=False)

    # Group g holds the columns g, g + group_count, g + 2 group_count, ... They lie that
    # far apart, so that `amax` compares runs of memory.
    group_count = column_count // _GROUP
    grouped = a.view(row_count, _GROUP, group_count)
    group_numbers = grouped.amax(dim=1).topk(k, dim=1, sorted=False).indices

    # (rows, _GROUP * k): the first members of the k groups, then their second ones, ...
    group_of_member = group_numbers.unsqueeze(1).expand(-1, _GROUP, -1)
    member_values = grouped.gather(2, group_of_member).flatten(1)
    values, places = member_values.topk(k, dim=1, sorted=False)

    # Place p is member number p // k of the group at rank p % k.
    member_numbers = places // k
    columns = group_numbers.gather(1, places % k) + member_numbers * group_count
    return values, columns
