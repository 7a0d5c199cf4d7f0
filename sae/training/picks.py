"""The activations of a training batch: all, or those that are selected, and the gradients that flow through them.

Shapes: N samples, d dimensions, m latents, k a sample, P = k N picks. A pick of value 0 is an empty place.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sae.models.coder import Coder, gather_sum

_GROUP = 8  # latents whose largest activation is looked at first


@dataclass(frozen=True)
class Picks:
    """Selected activations of m latents; as many for each sample, or as many as fall to it of a whole batch.

    Attributes:
        values, indices: (N, k) activations and latents, in no particular order; or (P,), row after row.
        m: latents there are.
        starts: (N,) where each row starts, if they are (P,).
    """

    values: Tensor
    indices: Tensor
    m: int
    starts: Tensor | None = None
    # `replace` starts with an empty one: it may change the indices that were sorted.
    _sorted: dict[str, tuple[Tensor, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def attach(self, coder: Coder, x: Tensor) -> "Picks":
        """The same, as functions of the encoder's weights, in float32 whatever `a` was computed in.

        Activations that were not picked get no gradient, so it takes no dense product.

        Args:
            x: (N, d) standardised inputs that the values are activations of.
        """
        picks = replace(self, m=coder.m)  # They may be picks of the first latents.
        return picks._with(_encoded(self.values, coder, x, picks, x.dtype))

    def gather(self, a: Tensor) -> "Picks":
        """The same, as functions of the activations `a` (N, m), whose gradient is dense anyway."""
        values = torch.where(
            self.values == 0, 0, self.of(a)
        )  # An empty place stays empty.
        return replace(self, values=values, m=a.shape[1])

    def of(self, a: Tensor) -> Tensor:
        """What `a` (N, m) has at the places of the picks; shaped as the values."""
        if self.starts is None:
            return a.gather(1, self.indices)
        return a.flatten().gather(0, self.rows() * a.shape[1] + self.indices)

    def rows(self) -> Tensor:
        """The sample of each pick, shaped as the values."""
        if self.starts is None:
            return torch.arange(len(self.values), device=self.values.device)[
                :, None
            ].expand_as(self.values)
        places = torch.arange(len(self.indices), device=self.indices.device)
        return torch.searchsorted(self.starts, places, right=True) - 1

    def dense(self) -> Tensor:
        """The codes as a whole, (N, m), with their gradients."""
        samples = len(self.values) if self.starts is None else len(self.starts)
        places = (self.rows() * self.m + self.indices).reshape(-1)
        flat = self.values.new_zeros(samples * self.m).index_add(
            0, places, self.values.reshape(-1)
        )
        return flat.view(samples, self.m)

    def where(self, kept: Tensor) -> "Picks":
        """The same picks, those that are not `kept` (bool, shaped as the values) made empty places."""
        return self._with(torch.where(kept, self.values, 0))

    def decode(self, weight: Tensor) -> Tensor:
        """The sum of each row's picks times their rows of `weight` (m, d): (N, d); differentiable in both."""
        out = gather_sum(self.values, self.indices, weight.detach(), self.starts)
        return _Decoded.apply(out, weight, self) if weight.requires_grad else out

    def sums(self) -> Tensor:
        """(N,) the sum of each row's values."""
        if self.starts is None:
            return self.values.sum(dim=1)
        ones, zeros = self.values.new_ones(1, 1), torch.zeros_like(self.indices)
        return functional.embedding_bag(
            zeros, ones, self.starts, per_sample_weights=self.values, mode="sum"
        ).squeeze(1)

    def fired(self) -> Tensor:
        """(m,) bool: which latents have an activation > 0 among the picks; a pick of value 0 did not fire."""
        hits = torch.zeros(self.m, device=self.values.device)
        return (
            hits.scatter_add_(
                0,
                self.indices.reshape(-1),
                (self.values > 0).to(hits.dtype).reshape(-1),
            )
            > 0
        )

    def sum_by_latent(self, weights: Tensor, rows: Tensor) -> Tensor:
        """For each latent the sum over its picks of their `weights`, shaped as the values, times `rows` (N, d): (m, d).

        With the picks sorted by latent this gathers, as decoding does, and its order of summation is fixed, on a GPU
        as well.
        """
        order, samples, first = self._by_latent()
        return gather_sum(weights.reshape(-1)[order], samples, rows, first)

    def _with(self, values: Tensor) -> "Picks":
        """Picks of the same latents with other values; they share what is sorted."""
        picks = replace(self, values=values)
        object.__setattr__(picks, "_sorted", self._sorted)
        return picks

    def _by_latent(self) -> tuple[Tensor, ...]:
        """Of the picks in the order of their latents: their places (P,), samples (P,), and where latents start (m,)."""
        if not self._sorted:
            # Narrow integers sort faster; the sort is stable, so samples are summed in order.
            narrow = torch.short if self.m < 2**15 else torch.int
            flat = self.indices.reshape(-1)
            ordered, order = torch.sort(flat.to(narrow), stable=True)
            # Not by counting: `bincount` waits for a GPU.
            first = torch.searchsorted(
                ordered, torch.arange(self.m, dtype=narrow, device=flat.device)
            )
            self._sorted["by latent"] = (order, self.rows().reshape(-1)[order], first)
        return self._sorted["by latent"]


class _Decoded(torch.autograd.Function):
    # The gradient of the decoder's weight alone; that of the values is `embedding_bag`'s own.

    @staticmethod
    def forward(ctx: Any, out: Tensor, _weight: Tensor, picks: Picks) -> Tensor:
        ctx.picks = picks._with(picks.values.detach())
        return out.view_as(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, ctx.picks.sum_by_latent(ctx.picks.values, gradient), None


class _Encoded(torch.autograd.Function):
    # values = ReLU((x - b_d) . w_j + b_j) of the picked latents j, or of all where there are no picks: (N, m). Plain
    # autograd would go through (N, m) more often, and keep more of it.

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        x: Tensor,
        picks: Picks | None,
        dtype: torch.dtype,
        *weights: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(values, x, *weights)
        ctx.picks, ctx.dtype = picks, dtype
        return values.view_as(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, x, weight, _, b_dec = ctx.saved_tensors
        picks, centred = ctx.picks, x - b_dec
        if picks is None:
            gradient = torch.ops.aten.threshold_backward(gradient, values, 0)
            of_bias = gradient.sum(dim=0)
            of_weight = (gradient.to(ctx.dtype).T @ centred.to(ctx.dtype)).to(x.dtype)
        else:
            gradient = torch.where(values > 0, gradient, 0)
            of_bias = gradient.new_zeros(picks.m).scatter_add_(
                0, picks.indices.reshape(-1), gradient.reshape(-1)
            )
            of_weight = picks.sum_by_latent(gradient, centred)
        return None, None, None, None, of_weight, of_bias, -(of_bias @ weight)


def _encoded(
    values: Tensor, coder: Coder, x: Tensor, picks: Picks | None, dtype: torch.dtype
) -> Tensor:
    return _Encoded.apply(
        values, x, picks, dtype, coder.W_enc.T, coder.b_enc, coder.b_dec
    )


def activations(
    coder: Coder, x: Tensor, precision: torch.dtype, *, differentiable: bool
) -> Tensor:
    """a = ReLU(pi), dense, for penalties: standardised inputs (N, d) to (N, m) float32.

    Args:
        precision: of the product with the encoder, and of that of its gradient.
        differentiable: whether gradients flow through `a`. What is picked of it gets its own (`Picks.attach`).
    """
    with torch.no_grad():
        a = coder.activations(x, precision)
    return (
        _encoded(
            a, coder, x, None, x.dtype if precision == torch.float32 else precision
        )
        if differentiable
        else a
    )


def of_each(a: Tensor, k: int) -> Picks:
    """The k largest activations of each sample, of `a` (N, m)."""
    return Picks(*largest(a, k), a.shape[1])


def of_batch(a: Tensor, k: int) -> Picks:
    """The k N largest activations of the whole batch `a` (N, m), so k a sample on average."""
    n, m = a.shape
    values, flat = (part.squeeze(0) for part in largest(a.reshape(1, -1), k * n))
    flat, order = flat.sort()
    return Picks(
        values[order],
        flat % m,
        m,
        torch.searchsorted(flat // m, torch.arange(n, device=a.device)),
    )


def largest(a: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of `a` (N, m): values and places, both (N, k), in no particular order.

    On a CPU the k groups of latents with the largest members are found first, and then the k largest of those groups:
    no other group can hold one of them. That is one quick pass, and two selections among few.
    """
    n, m = a.shape
    if a.device.type != "cpu" or m % _GROUP or 2 * k * _GROUP > m:
        return a.topk(k, dim=1, sorted=False)
    count = (
        m // _GROUP
    )  # Each group's members lie this far apart, so that its maximum is one of whole vectors.
    grouped = a.view(n, _GROUP, count)
    groups = grouped.amax(dim=1).topk(k, dim=1, sorted=False).indices
    members = grouped.gather(2, groups.unsqueeze(1).expand(-1, _GROUP, -1)).flatten(1)
    values, places = members.topk(k, dim=1, sorted=False)
    return values, groups.gather(1, places % k) + places // k * count
