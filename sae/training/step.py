"""The loss of one batch, and what objectives, penalties and AuxK see of the batch.

Loss (arXiv:2606.27321), with N samples a batch. R is a mean over the batch, so that
lambda does not depend on the batch size:

    (1/N) sum_i ||x_i - xhat_i||^2
        + alpha (1/N) sum_i ||e_i - ehat_i||^2
        + lambda (1/N) sum_i R_i

with e the detached residual x - xhat. The second term is AuxK (Gao et al. 2024,
arXiv:2406.04093), by which dead latents revive: ehat is the reconstruction of e from
the most active of them, without b_d, since x - xhat has it already subtracted.

Shapes in comments: N samples in a batch, d dimensions, m latents.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.core import guard
from sae.core.errors import UserError
from sae.core.options import Options
from sae.models.coder import Coder, undo_standardise
from sae.models.inputs import Inputs
from sae.training.picks import Picks, compute_activations, largest, of_each
from sae.training.recipe import Settings


class Batch:
    """A batch in one step of the training, as objectives, penalties and AuxK see it.

    It begins with the first six attributes. Each of the others is set as the step gets
    there, and does not exist before: `a` when the batch is encoded, `picks` and what
    they leave for `fit`, `mask` and `options` for the penalty.

    Attributes:
        coder: the coder as it is before this step.
        x: the prepared inputs.
        step: the number of the step, from 0.
        standard: the inputs as the encoder sees them.
        scale, shift: (N, 1) each, with x = standard * scale + shift; None where the
            coder does not standardise.
        a: the activations ReLU(pi), before the selection. They have gradients where a
            penalty, or the objective, needs those of all.
        picks: what was selected of `a`, with gradients.
        residual: what the reconstruction from the picks leaves of the inputs.
        reconstruction: the mean squared error of that reconstruction, summed over
            dimensions.
        mask: 1 for the latents that the penalty is about, 0 for others; constant in
            backprop.
        options: the penalty's own options.
    """

    coder: Coder
    x: Float[Tensor, "batch dims"]
    step: int
    standard: Float[Tensor, "batch dims"]
    scale: Float[Tensor, "batch 1"] | None
    shift: Float[Tensor, "batch 1"] | None
    a: Float[Tensor, "batch latents"]
    picks: Picks
    residual: Float[Tensor, "batch dims"]
    reconstruction: Float[Tensor, ""]
    mask: Float[Tensor, " latents"]
    options: Options

    # Whether picks take their gradients through `a`, or from the coder.
    _gradients_through_a = False

    def __init__(self, coder: Coder, x: Float[Tensor, "batch dims"], step: int) -> None:
        self.coder = coder
        self.x = x
        self.step = step
        self.standard, self.scale, self.shift = coder.standardise(x)

    def encode(self, precision: torch.dtype, *, differentiable: bool) -> None:
        """Set the activations.

        Args:
            precision: of the product with the encoder.
            differentiable: whether the activations have gradients.
        """
        self.a = compute_activations(
            self.coder, self.standard, precision, differentiable=differentiable
        )
        # In full precision alone: the gradients of `a` are rounded as `a` is.
        self._gradients_through_a = differentiable and precision == torch.float32

    def attach(self, picks: Picks) -> Picks:
        """Give picks of the activations their gradients."""
        if self._gradients_through_a:
            return picks.gather(self.a)
        return picks.attach(self.coder, self.standard)

    def reconstruct(self, sums: Float[Tensor, "batch dims"]) -> None:
        """Set the residual and the error of the reconstruction.

        Args:
            sums: for each sample the sum of its codes times their decoder rows, to
                which the decoder's bias is still to be added.
        """
        self.residual = self._residual_of(sums)
        self.reconstruction = mean_squared_error(self.residual)

    def error(self, picks: Picks) -> Float[Tensor, ""]:
        """Compute the mean squared error of the reconstruction from other picks."""
        sums = picks.decode(self.coder.W_dec)
        return mean_squared_error(self._residual_of(sums))

    def _residual_of(
        self, sums: Float[Tensor, "batch dims"]
    ) -> Float[Tensor, "batch dims"]:
        x_hat = undo_standardise(sums + self.coder.b_dec, self.scale, self.shift)
        return self.x - x_hat


def mean_squared_error(residual: Float[Tensor, "batch dims"]) -> Float[Tensor, ""]:
    """Compute the mean over samples of the residual's squared length."""
    return residual.square().sum(dim=1).mean()


def auxk_loss(
    batch: Batch, dead: Bool[Tensor, " latents"], auxk_k: int
) -> Float[Tensor, ""]:
    """Compute the error with which dead latents reconstruct a batch's residual.

    Args:
        batch: the batch, with its residual, which is detached.
        dead: which latents are dead.
        auxk_k: how many dead latents reconstruct a sample's residual: the most active.

    Returns:
        The mean squared error, summed over dimensions; 0 if no latent is dead.
    """
    pick_dead = dead_picks if batch.a.device.type == "cpu" else dead_picks_masked
    picks = pick_dead(batch.a.detach(), dead, auxk_k)

    e_hat = picks.attach(batch.coder, batch.standard).decode(batch.coder.W_dec)
    if batch.scale is not None:
        e_hat = e_hat * batch.scale
    return mean_squared_error(batch.residual.detach() - e_hat) * dead.any()


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
    values, places = largest(a[:, dead_indices], min(count, len(dead_indices)))
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
    return of_each(a * dead, min(count, a.shape[1]))


def describe_value(value: Any) -> str:
    """Describe what an entry returned, for errors: a tensor's type and shape."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


@contextmanager
def unchanged(entry: str, tensors: Mapping[str, Tensor], step: int) -> Iterator[None]:
    """Check that an entry, which runs in this context, changes nothing it is given.

    The first step compares values. Later ones do not wait for a GPU.

    Args:
        entry: what the error calls the entry.
        tensors: what it is given, by name.
        step: the number of the step.

    Raises:
        UserError: it changed one of the tensors.
    """

    def states() -> dict[str, guard.State]:
        return {
            name: guard.state_of(tensor, compare_rows=step == 0)
            for name, tensor in tensors.items()
        }

    states_before = states()
    yield
    for name, state in states().items():
        if state != states_before[name]:
            raise UserError(
                f"{entry} changes {name} in place, which the training reads too: let "
                "it work on a copy, such as a.clone()"
            )


class Objective:
    """The seam of an objective, and the loss of those that decode some activations.

    Attributes:
        coder: the coder that is trained.
        settings: how it is trained.
        options: the entry's own options.
        penalty: the module of the penalty (`sae.core.registry.load`), or None.
        penalty_options: the penalty's own options.
        penalty_acts: whether the penalty had a gradient in any step so far.
        since_fired: the samples since each latent last fired.
        most_norm: the norm, of all gradients of a step together, to which they are
            scaled down; None leaves them as they are.
    """

    most_norm: float | None = None
    penalty_acts: bool = False
    since_fired: Int[Tensor, " latents"]

    def __init__(
        self,
        coder: Coder,
        settings: Settings,
        options: Options,
        penalty: ModuleType | None = None,
    ) -> None:
        """Put the entry, and perhaps a penalty, to work on a coder.

        Raises:
            UserError: the settings have no weight or no mask for the penalty, or name
                one that is not given.
        """
        if penalty is None and settings.penalty is not None:
            raise UserError(
                f"the settings name the penalty {settings.penalty}, and its module is "
                "not given: give sae.core.registry.load('penalty', "
                f"{settings.penalty!r}), or train by sae.train(penalty=...)"
            )
        self.coder = coder
        self.settings = settings
        self.options = options
        self.penalty = penalty
        if penalty is not None:
            if settings.lam is None:
                raise UserError(f"penalty {settings.penalty} has no lambda")
            if settings.mask is None:
                raise UserError(f"penalty {settings.penalty} has no mask")
            self.penalty_options = settings.of(penalty)
        self.since_fired = torch.zeros(
            settings.m, dtype=torch.int64, device=coder.b_dec.device
        )
        self.start()

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse an objective that changes the loss by a name that it had before.

        Raises:
            UserError: the class has a method `total`, which nothing would call.
        """
        super().__init_subclass__(**arguments)
        if "total" in vars(cls):
            raise UserError(
                f"{cls.__module__}: the method total of an objective is called "
                "add_penalty_and_auxk now, and takes a loss and a Batch (docs/api.md)"
            )

    def start(self) -> None:
        """Set up what the entry keeps from step to step."""

    def parameters(self) -> list[Tensor]:
        """Return what is learned beside the coder's parameters, such as thresholds."""
        return []

    def pick(self, a: Float[Tensor, "batch latents"]) -> Picks:
        """Select from the activations of a training batch what is decoded.

        The activations come without gradient and are not to be changed. Gradients are
        attached to the picks afterwards. So a pick has the value that it has in `a`,
        or 0 where a place stays empty.
        """
        raise NotImplementedError

    def fit(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the part of the loss that asks for reconstruction.

        Returns:
            The error of the selection; an entry may return that of several selections.
        """
        return batch.reconstruction

    def finish(self, _x: Float[Tensor, "images dims"] | Inputs) -> Coder:
        """Return the coder as it is saved, given the prepared training inputs."""
        return self.coder

    def loss(
        self, x: Float[Tensor, "batch dims"], step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the loss of one batch.

        Args:
            x: prepared inputs.
            step: the number of the step, from 0.

        Returns:
            The loss, and its parts by name (:meth:`add_penalty_and_auxk`).
        """
        # A penalty needs the gradients of all activations. Picks can have their own.
        batch = self.encode(x, step, differentiable=self.penalty is not None)
        batch.picks = batch.attach(self._checked_picks(batch))
        batch.reconstruct(batch.picks.decode(self.coder.W_dec))
        return self.add_penalty_and_auxk(self.fit(batch), batch)

    def encode(
        self, x: Float[Tensor, "batch dims"], step: int, *, differentiable: bool
    ) -> Batch:
        """Return a batch with its activations, in the precision of the settings.

        Args:
            x: prepared inputs.
            step: the number of the step, from 0.
            differentiable: whether the activations have gradients.
        """
        batch = Batch(self.coder, x, step)
        precision = getattr(torch, self.settings.precision)
        batch.encode(precision, differentiable=differentiable)
        return batch

    def add_penalty_and_auxk(
        self, loss: Float[Tensor, ""], batch: Batch
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Add to a loss what all objectives share, and note which latents fired.

        Args:
            loss: what the objective itself asks for.
            batch: the batch that the loss is of, with its picks and reconstruction.

        Returns:
            The whole loss, and its parts by name: `loss`, `reconstruction` (the error
            of the selection, whatever the objective asks for), `penalty`, `aux`, `l0`
            (picks above 0 a sample) and `dead` (latents); each is one number.
        """
        settings = self.settings
        sample_count = len(batch.x)
        fired = batch.picks.fired()
        self.since_fired = torch.where(fired, 0, self.since_fired + sample_count)
        zero = torch.zeros((), device=batch.x.device)

        mean_penalty = zero
        if self.penalty is not None:
            assert settings.lam is not None  # __init__ has seen to it.
            batch.mask = torch.ones_like(batch.a[0])
            if settings.mask == "batch_active":
                batch.mask = fired.to(batch.a.dtype)
            batch.options = self.penalty_options
            mean_penalty = self._mean_penalty(self.penalty, batch)
            loss = loss + settings.lam * mean_penalty

        aux = zero
        dead = self.since_fired >= settings.dead_after
        # An accelerator is not asked whether any latent is dead, since that would wait
        # for it. There AuxK is computed in each step, and is 0 if no latent is dead.
        if dead.device.type != "cpu" or dead.any():
            aux = auxk_loss(batch, dead, settings.auxk_k)
            loss = loss + settings.auxk_alpha * aux

        parts = {
            "loss": loss,
            "reconstruction": batch.reconstruction,
            "penalty": mean_penalty,
            "aux": aux,
            "l0": (batch.picks.values > 0).sum() / sample_count,
            "dead": dead.sum(),
        }
        return loss, parts

    def _mean_penalty(self, penalty: ModuleType, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean of the penalty over a batch, and check what the entry does."""
        given = {
            "x": batch.x,
            "a": batch.a,
            "picks.values": batch.picks.values,
            "picks.indices": batch.picks.indices,
            **self.coder.state_dict(keep_vars=True),
        }
        with unchanged(f"penalty {penalty.__file__}", given, batch.step):
            # A copy, so that AuxK reads what it would, whatever an entry sets.
            values = penalty.penalty(copy.copy(batch))

        entry_name = penalty.__name__.rpartition(".")[2]
        expected_shape = batch.a.shape[:1]
        is_one_float_a_sample = (
            isinstance(values, Tensor)
            and values.shape == expected_shape
            and values.is_floating_point()
        )
        if not is_one_float_a_sample:
            raise UserError(
                f"penalty {entry_name} ({penalty.__file__}) returned "
                f"{describe_value(values)}; it has to return one value a sample, "
                f"floats of shape {tuple(expected_shape)}, of which lambda weighs the "
                "mean"
            )
        # Most often asked once; a penalty may warm up.
        if not self.penalty_acts:
            self.penalty_acts = self._has_gradient(values, batch)
        return values.mean()

    def _has_gradient(self, values: Float[Tensor, " batch"], batch: Batch) -> bool:
        """Return whether a penalty changes anything that is learned."""
        if not values.requires_grad:
            return False
        # Of most penalties the first answers, which the encoder's gradient is not
        # computed for.
        for inputs in ([batch.a], [*self.coder.parameters(), *self.parameters()]):
            learned = [tensor for tensor in inputs if tensor.requires_grad]
            if not learned:
                continue
            gradients = torch.autograd.grad(
                values.sum(), learned, retain_graph=True, allow_unused=True
            )
            if any(gradient is not None and gradient.any() for gradient in gradients):
                return True
        return False

    def _checked_picks(self, batch: Batch) -> Picks:
        """Return what the entry picks, without gradients, and check it."""
        a = batch.a.detach()
        caller = f"objective {self.settings.objective}: pick()"
        given = {"a": a, **self.coder.state_dict(keep_vars=True)}
        with unchanged(caller, given, batch.step):
            picks = self.pick(a)

        count = picks.sample_count()
        if count != len(a):  # The picks of one sample would be taken for all.
            raise UserError(
                f"{caller} returned picks of {count} samples, not of {len(a)}"
            )
        if batch.step == 0:
            expected = torch.where(picks.values == 0, 0, picks.values_in(a))
            if not torch.allclose(
                picks.values, expected, rtol=0, atol=0, equal_nan=True
            ):
                raise UserError(
                    f"{caller} returned values that are neither activations of their "
                    "latents nor 0"
                )
        return picks
