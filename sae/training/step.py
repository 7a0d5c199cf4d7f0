"""What the objectives that select activations have in common: the loss of one batch.

Loss (arXiv:2606.27321), N samples a batch, R a batch mean so that lambda does not depend on the batch size:

    (1/N) sum_i ||x_i - xhat_i||^2 + alpha (1/N) sum_i ||e_i - ehat_i||^2 + lambda (1/N) sum_i R_i

with e the detached residual and ehat its reconstruction from the top dead latents, without b_d (`sae.training.auxk`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

from sae.core.errors import UserError
from sae.core.options import Options
from sae.models.coder import Coder, restore
from sae.models.inputs import Inputs
from sae.training.auxk import auxk_loss
from sae.training.encoder import activations
from sae.training.picks import Picks
from sae.training.settings import Settings

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

    x: torch.Tensor
    a: torch.Tensor
    picks: Picks
    mask: torch.Tensor
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

    a: torch.Tensor
    picks: Picks
    reconstruction: torch.Tensor
    attach: Callable[[Picks], Picks]
    error: Callable[[Picks], torch.Tensor]


@dataclass(frozen=True)
class View:
    """What :meth:`Objective.total` needs of one batch of N samples.

    Attributes:
        x, standard, scale: (N, d) inputs; standardised; (N, 1) what each was divided by, or None.
        a: (N, m) activations ReLU(pi), with gradients where there is a penalty.
        picks: what was selected of them, with gradients.
        residual: (N, d) what their reconstruction leaves.
        step: from 0.
    """

    x: torch.Tensor
    standard: torch.Tensor
    scale: torch.Tensor | None
    a: torch.Tensor
    picks: Picks
    residual: torch.Tensor
    step: int


@dataclass(frozen=True)
class Penalty:
    """A penalty entry at work: its name and file, function and options, and its weight in the loss, lambda."""

    name: str
    function: Callable[[Batch], torch.Tensor]
    options: Options
    weight: float

    def __call__(self, batch: Batch) -> torch.Tensor:
        """The mean over the batch.

        Raises:
            UserError: the entry does not return one real number a sample.
        """
        values, wanted = self.function(batch), batch.a.shape[:1]
        is_tensor = isinstance(values, torch.Tensor)
        if not is_tensor or values.shape != wanted or not values.is_floating_point():
            found = f"{values.dtype} of shape {tuple(values.shape)}" if is_tensor else type(values).__name__
            raise UserError(
                f"penalty {self.name} returned {found}; it has to return one value a sample, floats of shape "
                f"{tuple(wanted)}, of which lambda weighs the mean"
            )
        if batch.step == 0 and not values.requires_grad:  # May be meant, if it warms up.
            log.warning("penalty %s has no gradient in the first step", self.name)
        return values.mean()


class Objective:
    """The seam of an objective, and the loss of those that decode a selection of a = ReLU(pi).

    Attributes:
        coder, settings: what is trained, and how.
        options: the entry's own.
        penalty: a :class:`Penalty` or None.
        since_fired: (m,) samples since each latent last fired.
    """

    def __init__(self, coder: Coder, settings: Settings, options: Options, penalty: Penalty | None = None) -> None:
        self.coder, self.settings, self.options, self.penalty = coder, settings, options, penalty
        self.since_fired = torch.zeros(settings.m, dtype=torch.int64, device=coder.b_dec.device)
        self.start()

    def start(self) -> None:
        """Set up what the entry keeps from step to step."""

    def parameters(self) -> list[torch.Tensor]:
        """What is learned beside the coder's own parameters, such as thresholds."""
        return []

    def pick(self, a: torch.Tensor) -> Picks:
        """Select of the activations (N, m) of a training batch what is decoded.

        They come without gradient and are not to be changed. Gradients are attached to the picks afterwards, so these
        have the values that they have in `a`, or 0 where a place stays empty.
        """
        raise NotImplementedError

    def fit(self, fit: Fit) -> torch.Tensor:
        """The part of the loss that asks for reconstruction: the error of the selection, or of several of its parts."""
        return fit.reconstruction

    def finish(self, _x: torch.Tensor | Inputs) -> Coder:
        """The coder as it is saved, given the prepared training inputs (N, d)."""
        return self.coder

    def loss(self, x: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch of prepared inputs (N, d), and its parts by name.

        Parts: loss, reconstruction (of the selection, whatever `fit` asks for), penalty, aux (scalars), l0 (selected
        > 0 a sample), dead (latents).
        """
        s = self.settings
        standard, scale, shift = self.coder.standardise(x)
        precision, penalised = getattr(torch, s.precision), self.penalty is not None
        a = activations(self.coder, standard, precision, differentiable=penalised)
        picks = self._picks(a.detach(), step)
        # Where a penalty needs the dense gradient in full precision, it may as well hold that of the picks.
        both = penalised and precision == torch.float32

        def attach(picks: Picks) -> Picks:
            return picks.gather(a) if both else picks.attach(self.coder, standard)

        def left(picks: Picks) -> torch.Tensor:
            return x - restore(picks.decode(self.coder.W_dec) + self.coder.b_dec, scale, shift)

        picks = attach(picks)
        residual = left(picks)
        reconstruction = residual.square().sum(dim=1).mean()

        def error(other: Picks) -> torch.Tensor:
            return left(other).square().sum(dim=1).mean()

        loss = self.fit(Fit(a.detach(), picks, reconstruction, attach, error))
        return self.total(loss, reconstruction, View(x, standard, scale, a, picks, residual, step))

    def total(
        self, loss: torch.Tensor, reconstruction: torch.Tensor, view: "View"
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """A batch's loss with the penalty and AuxK added, and its parts; latents that fired are noted."""
        s, a, picks = self.settings, view.a, view.picks
        fired = picks.fired()
        self.since_fired = torch.where(fired, 0, self.since_fired + len(view.x))
        regularization = aux = torch.zeros((), device=view.x.device)
        if self.penalty is not None:
            mask = fired.to(a.dtype) if s.mask == "batch_active" else torch.ones_like(a[0])
            seen = Batch(view.x, a, picks, mask, self.coder, view.step, self.penalty.options)
            regularization = self.penalty(seen)
            loss = loss + self.penalty.weight * regularization
        dead = self.since_fired >= s.dead_after
        # An accelerator is not asked whether any latent is dead, since that would wait for it: there AuxK is computed
        # every time, and is 0 if none is.
        if dead.device.type != "cpu" or dead.any():
            aux = auxk_loss(self.coder, view.standard, a.detach(), view.residual, view.scale, dead, s.auxk_k)
            loss = loss + s.auxk_alpha * aux
        parts = {"loss": loss, "reconstruction": reconstruction, "penalty": regularization, "aux": aux}
        return loss, parts | {"l0": (picks.values > 0).sum() / len(view.x), "dead": dead.sum()}

    def _picks(self, a: torch.Tensor, step: int) -> Picks:
        picks, of = self.pick(a), f"objective {self.settings.objective}: pick() returned"
        rows = len(picks.values if picks.starts is None else picks.starts)
        if rows != len(a):  # One row would be taken for all.
            raise UserError(f"{of} picks of {rows} samples, not of {len(a)}")
        if step == 0:
            there = torch.where(picks.values == 0, 0, picks.of(a))
            if not torch.allclose(picks.values, there, rtol=0, atol=0, equal_nan=True):
                raise UserError(f"{of} values that are neither activations of their latents nor 0")
        return picks


def start(coder: Coder, settings: Settings, objective: ModuleType, penalty: ModuleType | None = None) -> Objective:
    """An objective entry at work on a coder.

    Args:
        objective, penalty: modules of the entries (`sae.core.registry.load`).

    Raises:
        UserError: a module lacks what its kind has, or a penalty has no weight or no mask.
    """
    made = None
    if penalty is not None:
        if settings.lam is None or settings.mask is None:
            raise UserError(f"penalty {settings.penalty} has no {'lambda' if settings.lam is None else 'mask'}")
        function, name = _attribute(penalty, "penalty"), penalty.__name__.rpartition(".")[2]
        if file := getattr(penalty, "__file__", None):
            name = f"{name} ({file})"
        made = Penalty(name, function, _options(penalty, settings), settings.lam)
    return _attribute(objective, "Objective")(coder, settings, _options(objective, settings), made)


def _options(entry: ModuleType, settings: Settings) -> Options:
    return settings.of(getattr(entry, "Options", Options))


def _attribute(entry: ModuleType, name: str) -> Callable:
    if not hasattr(entry, name):
        raise UserError(f"{entry.__file__} has no {name}; docs/extending.md says what an entry holds")
    return getattr(entry, name)
