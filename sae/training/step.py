"""What the objectives that select activations have in common: the loss of one batch.

Loss (arXiv:2606.27321), N samples a batch, R a batch mean so that lambda does not depend on the batch size:

    (1/N) sum_i ||x_i - xhat_i||^2 + alpha (1/N) sum_i ||e_i - ehat_i||^2 + lambda (1/N) sum_i R_i

with e the detached residual and ehat its reconstruction from the top dead latents, without b_d (`sae.training.auxk`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sae.core.errors import UserError
from sae.core.options import Options
from sae.models.coder import Coder, restore
from sae.models.inputs import Inputs
from sae.training.auxk import auxk_loss
from sae.training.picks import Picks, activations
from sae.training.recipe import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """What a penalty sees of one batch of N samples.

    Attributes:
        x: (N, d) prepared inputs.
        a: (N, m) activations ReLU(pi), before the selection.
        picks: what was selected of them.
        mask: (m,) of zeros and ones, constant in backprop: the latents that the penalty is about.
        coder: as it is before this step.
        step: from 0.
        options: the penalty's own.
    """

    x: Tensor
    a: Tensor
    picks: Picks
    mask: Tensor
    coder: Coder
    step: int
    options: Options


@dataclass(frozen=True)
class Fit:
    """What an objective's `fit` sees of one batch of N samples.

    Attributes:
        a: (N, m) activations ReLU(pi), without gradient.
        picks: what was selected of them, with gradients.
        reconstruction: their mean squared error, summed over dimensions.
        attach: gives other picks of `a` their gradients.
        error: the mean squared error of the reconstruction from other picks.
    """

    a: Tensor
    picks: Picks
    reconstruction: Tensor
    attach: Callable[[Picks], Picks]
    error: Callable[[Picks], Tensor]


@dataclass(frozen=True)
class Penalty:
    """A penalty entry at work: its module and options, and its weight in the loss, lambda."""

    entry: ModuleType
    options: Options
    weight: float

    def __call__(self, batch: Batch) -> Tensor:
        """The mean over the batch.

        Raises:
            UserError: the entry does not return one real number a sample.
        """
        values, wanted = self.entry.penalty(batch), batch.a.shape[:1]
        name = self.entry.__name__.rpartition(".")[2]
        if (
            not isinstance(values, Tensor)
            or values.shape != wanted
            or not values.is_floating_point()
        ):
            said = f"one value a sample, floats of shape {tuple(wanted)}, of which lambda weighs the mean"
            got = f"penalty {name} ({self.entry.__file__}) returned {described(values)}"
            raise UserError(f"{got}; it has to return {said}")
        if (
            batch.step == 0 and not values.requires_grad
        ):  # May be meant, if it warms up.
            log.warning("penalty %s has no gradient in the first step", name)
        return values.mean()


def described(value: Any) -> str:
    """What an entry returned, for errors."""
    return (
        f"{value.dtype} of shape {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else type(value).__name__
    )


class Objective:
    """The seam of an objective, and the loss of those that decode a selection of a = ReLU(pi).

    Attributes:
        coder, settings: what is trained, and how.
        options: the entry's own.
        penalty: a :class:`Penalty` or None.
        since_fired: (m,) samples since each latent last fired.
        most_norm: of all gradients of a step together, to which they are scaled down; None: any.
    """

    most_norm: float | None = None

    def __init__(
        self,
        coder: Coder,
        settings: Settings,
        options: Options,
        penalty: Penalty | None = None,
    ) -> None:
        self.coder, self.settings, self.options, self.penalty = (
            coder,
            settings,
            options,
            penalty,
        )
        self.since_fired = torch.zeros(
            settings.m, dtype=torch.int64, device=coder.b_dec.device
        )
        self.start()

    def start(self) -> None:
        """Set up what the entry keeps from step to step."""

    def parameters(self) -> list[Tensor]:
        """What is learned beside the coder's own parameters, such as thresholds."""
        return []

    def pick(self, a: Tensor) -> Picks:
        """Select of the activations (N, m) of a training batch what is decoded.

        They come without gradient and are not to be changed. Gradients are attached to the picks afterwards, so these
        have the values that they have in `a`, or 0 where a place stays empty.
        """
        raise NotImplementedError

    def fit(self, fit: Fit) -> Tensor:
        """The part of the loss that asks for reconstruction: the error of the selection, or of several of its parts."""
        return fit.reconstruction

    def finish(self, _x: Tensor | Inputs) -> Coder:
        """The coder as it is saved, given the prepared training inputs (N, d)."""
        return self.coder

    def loss(self, x: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch of prepared inputs (N, d), and its parts by name.

        Parts: loss, reconstruction (of the selection, whatever `fit` asks for), penalty, aux (scalars), l0 (selected
        > 0 a sample), dead (latents).
        """
        standard, scale, shift = self.coder.standardise(x)
        precision, penalised = (
            getattr(torch, self.settings.precision),
            self.penalty is not None,
        )
        a = activations(self.coder, standard, precision, differentiable=penalised)
        # Where a penalty needs the dense gradient in full precision, it may as well hold that of the picks.
        both = penalised and precision == torch.float32

        def attach(picks: Picks) -> Picks:
            return picks.gather(a) if both else picks.attach(self.coder, standard)

        def left(picks: Picks) -> Tensor:
            return x - restore(
                picks.decode(self.coder.W_dec) + self.coder.b_dec, scale, shift
            )

        def error(picks: Picks) -> Tensor:
            return left(picks).square().sum(dim=1).mean()

        picks = attach(self._picks(a.detach(), step))
        residual = left(picks)
        reconstruction = residual.square().sum(dim=1).mean()
        loss = self.fit(Fit(a.detach(), picks, reconstruction, attach, error))
        return self.total(loss, reconstruction, x, a, picks, residual, step)

    def total(
        self,
        loss: Tensor,
        reconstruction: Tensor,
        x: Tensor,
        a: Tensor,
        picks: Picks,
        residual: Tensor,
        step: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch's loss with the penalty and AuxK added, and its parts; latents that fired are noted.

        Args:
            x: (N, d) prepared inputs.
            a: (N, m) activations ReLU(pi), with gradients where there is a penalty.
            picks: what was selected of them, with gradients.
            residual: (N, d) what their reconstruction leaves.
        """
        s, fired = self.settings, picks.fired()
        self.since_fired = torch.where(fired, 0, self.since_fired + len(x))
        regularization = aux = torch.zeros((), device=x.device)
        if self.penalty is not None:
            mask = (
                fired.to(a.dtype) if s.mask == "batch_active" else torch.ones_like(a[0])
            )
            regularization = self.penalty(
                Batch(x, a, picks, mask, self.coder, step, self.penalty.options)
            )
            loss = loss + self.penalty.weight * regularization
        dead = self.since_fired >= s.dead_after
        # An accelerator is not asked whether any latent is dead, since that would wait for it: there AuxK is computed
        # every time, and is 0 if none is.
        if dead.device.type != "cpu" or dead.any():
            aux = auxk_loss(self.coder, x, a.detach(), residual, dead, s.auxk_k)
            loss = loss + s.auxk_alpha * aux
        parts = {
            "loss": loss,
            "reconstruction": reconstruction,
            "penalty": regularization,
            "aux": aux,
        }
        return loss, parts | {
            "l0": (picks.values > 0).sum() / len(x),
            "dead": dead.sum(),
        }

    def _picks(self, a: Tensor, step: int) -> Picks:
        picks, of = (
            self.pick(a),
            f"objective {self.settings.objective}: pick() returned",
        )
        rows = len(picks.values if picks.starts is None else picks.starts)
        if rows != len(a):  # One row would be taken for all.
            raise UserError(f"{of} picks of {rows} samples, not of {len(a)}")
        if step == 0:
            there = torch.where(picks.values == 0, 0, picks.of(a))
            if not torch.allclose(picks.values, there, rtol=0, atol=0, equal_nan=True):
                raise UserError(
                    f"{of} values that are neither activations of their latents nor 0"
                )
        return picks


def start(
    coder: Coder,
    settings: Settings,
    objective: ModuleType,
    penalty: ModuleType | None = None,
) -> Objective:
    """An objective entry at work on a coder.

    Args:
        objective, penalty: modules of the entries (`sae.core.registry.load`).

    Raises:
        UserError: a penalty has no weight or no mask.
    """
    made = None
    if penalty is not None:
        if settings.lam is None or settings.mask is None:
            raise UserError(
                f"penalty {settings.penalty} has no {'lambda' if settings.lam is None else 'mask'}"
            )
        made = Penalty(penalty, settings.of(penalty), settings.lam)
    return objective.Objective(coder, settings, settings.of(objective), made)
