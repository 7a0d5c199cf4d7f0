"""The loss of one batch, and what objectives and penalties see of the batch.

Loss (arXiv:2606.27321), with N samples a batch. R is a mean over the batch, so that
lambda does not depend on the batch size:

    (1/N) sum_i ||x_i - xhat_i||^2
        + alpha (1/N) sum_i ||e_i - ehat_i||^2
        + lambda (1/N) sum_i R_i

with e the detached residual x - xhat, and ehat the reconstruction of e from the most
active dead latents, without b_d (`sae.training.auxk`).

Shapes in comments: N samples in a batch, d dimensions, m latents.
"""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
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
from sae.training.auxk import auxk_loss
from sae.training.picks import Picks, compute_activations
from sae.training.recipe import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedBatch:
    """A batch whose activations are computed, and of which nothing is selected yet.

    Attributes:
        coder: the coder that encoded it.
        x: the prepared inputs.
        standard: the inputs as the encoder sees them.
        scale, shift: (N, 1) each, with x = standard * scale + shift; None where the
            coder does not standardise.
        a: the activations ReLU(pi).
        gradients_through_a: whether picks take their gradients through `a`, which then
            has one in full precision. Otherwise they take them from the coder.
    """

    coder: Coder
    x: Float[Tensor, "batch dims"]
    standard: Float[Tensor, "batch dims"]
    scale: Float[Tensor, "batch 1"] | None
    shift: Float[Tensor, "batch 1"] | None
    a: Float[Tensor, "batch latents"]
    gradients_through_a: bool

    def attach(self, picks: Picks) -> Picks:
        """Give picks of the activations their gradients."""
        if self.gradients_through_a:
            return picks.gather(self.a)
        return picks.attach(self.coder, self.standard)

    def residual(self, picks: Picks) -> Float[Tensor, "batch dims"]:
        """Subtract from the inputs what the picks reconstruct."""
        return self.residual_of_sums(picks.decode(self.coder.W_dec))

    def residual_of_sums(
        self, sums: Float[Tensor, "batch dims"]
    ) -> Float[Tensor, "batch dims"]:
        """Subtract from the inputs a reconstruction.

        Args:
            sums: for each sample the sum of its codes times their decoder rows, to
                which the decoder's bias is still to be added.
        """
        x_hat = undo_standardise(sums + self.coder.b_dec, self.scale, self.shift)
        return self.x - x_hat


@dataclass(frozen=True)
class DecodedBatch:
    """A batch that was selected from and reconstructed.

    Attributes:
        x: the prepared inputs.
        a: the activations ReLU(pi), with gradients where there is a penalty.
        picks: what was selected of them, with gradients.
        residual: what the reconstruction from the picks leaves of the inputs.
        error: the mean squared error of that reconstruction, summed over dimensions.
    """

    x: Float[Tensor, "batch dims"]
    a: Float[Tensor, "batch latents"]
    picks: Picks
    residual: Float[Tensor, "batch dims"]
    error: Float[Tensor, ""]


@dataclass(frozen=True)
class Fit:
    """A batch as an objective's `fit` sees it.

    Attributes:
        encoded: the batch, with its activations.
        picks: what was selected of the activations, with gradients.
        reconstruction: the mean squared error of the reconstruction from the picks,
            summed over dimensions.
    """

    encoded: EncodedBatch
    picks: Picks
    reconstruction: Float[Tensor, ""]

    @property
    def a(self) -> Float[Tensor, "batch latents"]:
        """The activations ReLU(pi), without gradient."""
        return self.encoded.a.detach()

    def attach(self, picks: Picks) -> Picks:
        """Give other picks of `a` their gradients."""
        return self.encoded.attach(picks)

    def error(self, picks: Picks) -> Float[Tensor, ""]:
        """Compute the mean squared error of the reconstruction from other picks."""
        return mean_squared_error(self.encoded.residual(picks))


@dataclass(frozen=True)
class Batch:
    """A batch as a penalty sees it.

    Attributes:
        x: the prepared inputs.
        a: the activations ReLU(pi), before the selection.
        picks: what was selected of them.
        mask: 1 for the latents that the penalty is about, 0 for others; constant in
            backprop.
        coder: the coder as it is before this step.
        step: the number of the step, from 0.
        options: the penalty's own options.
    """

    x: Float[Tensor, "batch dims"]
    a: Float[Tensor, "batch latents"]
    picks: Picks
    mask: Float[Tensor, " latents"]
    coder: Coder
    step: int
    options: Options


@dataclass(frozen=True)
class Penalty:
    """A penalty entry at work.

    Attributes:
        entry: the module of the entry.
        options: the entry's own options.
        weight: lambda, the weight of the penalty in the loss.
    """

    entry: ModuleType
    options: Options
    weight: float

    def __call__(self, batch: Batch) -> Float[Tensor, ""]:
        """Compute the mean of the penalty over a batch.

        Raises:
            UserError: the entry does not return one real number a sample, or changes
                the batch or the coder.
        """
        seen = {
            "x": batch.x,
            "a": batch.a,
            "picks.values": batch.picks.values,
            "picks.indices": batch.picks.indices,
            **batch.coder.state_dict(keep_vars=True),
        }
        before = states_of(seen, batch.step)
        values = self.entry.penalty(batch)
        check_unchanged(f"penalty {self.entry.__file__}", seen, before, batch.step)
        entry_name = self.entry.__name__.rpartition(".")[2]
        expected_shape = batch.a.shape[:1]

        is_one_float_a_sample = (
            isinstance(values, Tensor)
            and values.shape == expected_shape
            and values.is_floating_point()
        )
        if not is_one_float_a_sample:
            raise UserError(
                f"penalty {entry_name} ({self.entry.__file__}) returned "
                f"{describe_value(values)}; it has to return one value a sample, "
                f"floats of shape {tuple(expected_shape)}, of which lambda weighs the "
                "mean"
            )
        # It may be meant so, if the penalty warms up.
        if batch.step == 0 and not values.requires_grad:
            log.warning("penalty %s has no gradient in the first step", entry_name)
        return values.mean()


def describe_value(value: Any) -> str:
    """Describe what an entry returned, for errors: a tensor's type and shape."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def states_of(tensors: Mapping[str, Tensor], step: int) -> dict[str, guard.State]:
    """Return what tells whether tensors are changed; exactly in the first step.

    Later steps do not wait for a GPU.
    """
    return {
        name: guard.state_of(tensor, compare_rows=step == 0)
        for name, tensor in tensors.items()
    }


def check_unchanged(
    entry: str,
    tensors: Mapping[str, Tensor],
    before: Mapping[str, guard.State],
    step: int,
) -> None:
    """Check that an entry did not change what it was given.

    Args:
        entry: what the error calls the entry.
        tensors: what it was given, by name.
        before: what :func:`states_of` returned before it ran.
        step: the number of the step.

    Raises:
        UserError: it changed one of the tensors.
    """
    after = states_of(tensors, step)
    for name, state in before.items():
        if after[name] != state:
            raise UserError(
                f"{entry} changes {name} in place, which the training reads too: let "
                "it work on a copy, such as a.clone()"
            )


def mean_squared_error(residual: Float[Tensor, "batch dims"]) -> Float[Tensor, ""]:
    """Compute the mean over samples of the residual's squared length."""
    return residual.square().sum(dim=1).mean()


class Objective:
    """The seam of an objective, and the loss of those that decode some activations.

    Attributes:
        coder: the coder that is trained.
        settings: how it is trained.
        options: the entry's own options.
        penalty: the penalty at work, or None.
        since_fired: the samples since each latent last fired.
        most_norm: the norm, of all gradients of a step together, to which they are
            scaled down; None leaves them as they are.
    """

    most_norm: float | None = None
    since_fired: Int[Tensor, " latents"]

    def __init__(
        self,
        coder: Coder,
        settings: Settings,
        options: Options,
        penalty: Penalty | None = None,
    ) -> None:
        self.coder = coder
        self.settings = settings
        self.options = options
        self.penalty = penalty
        self.since_fired = torch.zeros(
            settings.m, dtype=torch.int64, device=coder.b_dec.device
        )
        self.start()

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

    def fit(self, fit: Fit) -> Float[Tensor, ""]:
        """Compute the part of the loss that asks for reconstruction.

        Returns:
            The error of the selection; an entry may return that of several selections.
        """
        return fit.reconstruction

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
        encoded = self._encode(x, differentiable=self.penalty is not None)
        picks = encoded.attach(self._select(encoded.a.detach(), step))
        residual = encoded.residual(picks)
        error = mean_squared_error(residual)

        loss = self.fit(Fit(encoded, picks, error))

        decoded = DecodedBatch(x, encoded.a, picks, residual, error)
        return self.add_penalty_and_auxk(loss, decoded, step)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuse an objective that changes the loss by a name that it had before.

        Raises:
            UserError: the class has a method `total`, which nothing would call.
        """
        super().__init_subclass__(**arguments)
        if "total" in vars(cls):
            raise UserError(
                f"{cls.__module__}: the method total of an objective is called "
                "add_penalty_and_auxk now, and takes a DecodedBatch (docs/api.md)"
            )

    def total(
        self,
        loss: Float[Tensor, ""],
        reconstruction: Float[Tensor, ""],
        x: Float[Tensor, "batch dims"],
        a: Float[Tensor, "batch latents"],
        picks: Picks,
        residual: Float[Tensor, "batch dims"],
        step: int,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Call :meth:`add_penalty_and_auxk` by the name that it had before."""
        warnings.warn("total is add_penalty_and_auxk now", FutureWarning, stacklevel=2)
        batch = DecodedBatch(x, a, picks, residual, reconstruction)
        return self.add_penalty_and_auxk(loss, batch, step)

    def add_penalty_and_auxk(
        self, loss: Float[Tensor, ""], batch: DecodedBatch, step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Add to a loss what all objectives share, and note which latents fired.

        Args:
            loss: what the objective itself asks for.
            batch: the batch that the loss is of.
            step: the number of the step, from 0.

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
            seen_by_penalty = Batch(
                x=batch.x,
                a=batch.a,
                picks=batch.picks,
                mask=self._penalty_mask(batch.a, fired),
                coder=self.coder,
                step=step,
                options=self.penalty.options,
            )
            mean_penalty = self.penalty(seen_by_penalty)
            loss = loss + self.penalty.weight * mean_penalty

        aux = zero
        dead = self.since_fired >= settings.dead_after
        # An accelerator is not asked whether any latent is dead, since that would wait
        # for it. There AuxK is computed in each step, and is 0 if no latent is dead.
        if dead.device.type != "cpu" or dead.any():
            aux = auxk_loss(
                self.coder,
                batch.x,
                batch.a.detach(),
                batch.residual,
                dead,
                settings.auxk_k,
            )
            loss = loss + settings.auxk_alpha * aux

        parts = {
            "loss": loss,
            "reconstruction": batch.error,
            "penalty": mean_penalty,
            "aux": aux,
            "l0": (batch.picks.values > 0).sum() / sample_count,
            "dead": dead.sum(),
        }
        return loss, parts

    def _penalty_mask(
        self, a: Float[Tensor, "batch latents"], fired: Bool[Tensor, " latents"]
    ) -> Float[Tensor, " latents"]:
        """Return 1 for the latents that the penalty is about, and 0 for others."""
        if self.settings.mask == "batch_active":
            return fired.to(a.dtype)
        return torch.ones_like(a[0])

    def _encode(
        self, x: Float[Tensor, "batch dims"], *, differentiable: bool
    ) -> EncodedBatch:
        standard, scale, shift = self.coder.standardise(x)
        precision = getattr(torch, self.settings.precision)
        a = compute_activations(
            self.coder, standard, precision, differentiable=differentiable
        )
        return EncodedBatch(
            coder=self.coder,
            x=x,
            standard=standard,
            scale=scale,
            shift=shift,
            a=a,
            gradients_through_a=differentiable and precision == torch.float32,
        )

    def _select(self, a: Float[Tensor, "batch latents"], step: int) -> Picks:
        """Let the entry pick, and check what it returns."""
        seen = {"a": a, **self.coder.state_dict(keep_vars=True)}
        before = states_of(seen, step)
        picks = self.pick(a)
        check_unchanged(
            f"objective {self.settings.objective}: pick()", seen, before, step
        )
        returned = f"objective {self.settings.objective}: pick() returned"

        count = picks.sample_count()
        if count != len(a):  # The picks of one sample would be taken for all.
            raise UserError(f"{returned} picks of {count} samples, not of {len(a)}")

        if step == 0:
            expected = torch.where(picks.values == 0, 0, picks.values_in(a))
            if not torch.allclose(
                picks.values, expected, rtol=0, atol=0, equal_nan=True
            ):
                raise UserError(
                    f"{returned} values that are neither activations of their latents "
                    "nor 0"
                )
        return picks


def start(
    coder: Coder,
    settings: Settings,
    objective: ModuleType,
    penalty: ModuleType | None = None,
) -> Objective:
    """Put an objective entry, and perhaps a penalty entry, to work on a coder.

    Args:
        coder: the coder to be trained.
        settings: how it is trained.
        objective: the module of the objective (`sae.core.registry.load`).
        penalty: the module of the penalty, or None.

    Raises:
        UserError: a penalty has no weight or no mask.
    """
    penalty_at_work = None
    if penalty is not None:
        if settings.lam is None:
            raise UserError(f"penalty {settings.penalty} has no lambda")
        if settings.mask is None:
            raise UserError(f"penalty {settings.penalty} has no mask")
        penalty_at_work = Penalty(penalty, settings.of(penalty), settings.lam)
    return objective.Objective(coder, settings, settings.of(objective), penalty_at_work)
