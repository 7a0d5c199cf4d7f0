"""Train one SAE: optimiser, schedule, log and divergence; the objective says what is minimised."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sae.core.errors import UserError
from sae.models import inputs
from sae.models.coder import Coder
from sae.training import step as stepping
from sae.training.recipe import Settings

VERSION = 1
# A reconstruction this many times worse than the mean's is beyond recovery.
DIVERGED_AT = 100.0
# The coder's parameters that an option `frozen` of the recipe leaves as they were initialised.
FROZEN = {None: (), "encoder": ("encoder", "b_enc"), "decoder": ("W_dec",)}
# Steps between checks for divergence. Separate from `log_every`, since logging must not change a result.
CHECK_EVERY = 25


class Diverged(Exception):
    """Training left the finite numbers, or the reconstruction got absurd; carries the step and the log so far."""

    def __init__(self, step: int, rows: list[dict[str, Any]]) -> None:
        super().__init__(f"diverged by step {step}")
        self.step, self.rows = step, rows


@dataclass(frozen=True)
class Moments:
    """What every SAE of a bank needs to know of its inputs.

    Attributes:
        mean: (d,) of the inputs as the encoder sees them, where b_d starts.
        variance: total variance of the inputs.
    """

    mean: Tensor
    variance: float


def train(
    x: Tensor | inputs.Inputs,
    settings: Settings,
    objective: ModuleType,
    penalty: ModuleType | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    known: Moments | None = None,
) -> tuple[Coder, list[dict[str, Any]]]:
    """Train an SAE on prepared inputs.

    Args:
        x: (N, d) prepared inputs (`sae.models.inputs.open_inputs`) on the device to train on, total variance about 1
            (lambda depends on that scale).
        objective, penalty: modules of the entries that the settings name; no penalty trains without one.
        progress: called with each row of the log.
        known: what :func:`moments` returned for `x`, if it was asked before.

    Returns:
        The trained coder and the log, a list of dicts. They hold step, epoch, lr, the parts of the objective's loss (of
        Top-k: loss, reconstruction, penalty, aux, l0, dead), r2. Where nothing is trained, it has one row, of step -1.

    Raises:
        Diverged: the loss is not finite, or the reconstruction error is `DIVERGED_AT` times the variance.
        UserError: an entry is not of its form.
    """
    s = settings
    rows: list[dict[str, Any]] = []
    count, d = x.shape
    known = known or moments(x, s.input_norm)
    coder = Coder(d, s.m, s.k, input_norm=s.input_norm, tied=s.tied).to(x.device)
    coder.initialise(known.mean, s.seed, s.encoder_scale)
    state = stepping.start(coder, s, objective, penalty)
    if s.frozen == "all" or not getattr(objective, "TRAINS", True):
        coder = state.finish(x)
        return coder, [untrained(coder, x, known.variance)]
    for name in FROZEN[s.frozen]:
        getattr(coder, name).requires_grad_(False)
    learning = [
        p for p in (*coder.parameters(), *state.parameters()) if p.requires_grad
    ]
    optimiser = adam(learning, s)
    steps = s.steps_on(count)
    rows_on = x.device if isinstance(x, Tensor) else "cpu"
    for step, (epoch, picked) in enumerate(
        batches(count, min(s.batch_size, count), steps, s.seed, rows_on)
    ):
        # Constant, then falling linearly to 0.
        lr = optimiser.param_groups[0]["lr"] = s.lr * min(
            1.0, (steps - step) / max(1.0, s.decay_fraction * steps)
        )
        loss, parts = state.loss(x[picked], step)
        if step == 0:
            check(loss, parts, s.objective)
        update(coder, optimiser, loss, state.most_norm)

        last = step == steps - 1
        logged, checked = (
            last or step % s.log_every == 0,
            last or step % CHECK_EVERY == 0,
        )
        if not logged and not checked:
            continue
        row = {"step": step, "epoch": epoch, "lr": lr} | {
            name: part.item() for name, part in parts.items()
        }
        row["r2"] = 1 - row["reconstruction"] / known.variance
        # `not <` also catches NaN. The last step may have broken a weight after its loss was computed.
        broken = (
            not row["loss"] < float("inf")
            or not row["reconstruction"] < DIVERGED_AT * known.variance
        )
        if checked and (
            broken or (last and not all(p.isfinite().all() for p in coder.parameters()))
        ):
            raise Diverged(step, [*rows, row])
        if logged:
            rows.append(row)
            if progress is not None:
                progress(row)
    return state.finish(x), rows


def check(loss: Tensor, parts: dict[str, Tensor], objective: str) -> None:
    """Check what an objective's `loss` returned.

    Raises:
        UserError: the loss or a part of it is no single real number, or a part that the loop needs is not there.
    """
    every = {"the loss": loss} | {
        f"the part {name!r}": part for name, part in parts.items()
    }
    for name, value in every.items():
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            found = stepping.described(value)
            raise UserError(
                f"objective {objective}: {name} that loss() returns is {found}, not a tensor of one number"
            )
    for name in ("loss", "reconstruction"):
        if name not in parts:
            raise UserError(
                f"objective {objective}: the parts that loss() returns lack {name!r}"
            )


def adam(parameters: Iterable[Tensor], s: Settings) -> torch.optim.Adam:
    """The optimiser of settings; the schedule sets its rate at each step."""
    return torch.optim.Adam(
        parameters, s.lr, (s.adam_beta1, s.adam_beta2), s.adam_eps, fused=True
    )


def update(
    coder: Coder,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    most_norm: float | None = None,
) -> None:
    """One step down the gradient of `loss`, cut to `most_norm`; the decoder's rows stay of unit norm."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if most_norm is not None:
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], most_norm)
    if coder.W_dec.requires_grad:
        remove_parallel(coder.W_dec)
    optimiser.step()
    if coder.W_dec.requires_grad:
        unit_rows_(coder.W_dec)


@torch.no_grad()
def untrained(
    coder: Coder, x: Tensor | inputs.Inputs, variance: float
) -> dict[str, Any]:
    """The row of the log of a coder that no step made: its reconstruction of all prepared inputs (N, d)."""
    error = active = 0.0
    for part in x.split(16_384):
        codes = coder.encode(part)
        error += (part - coder.reconstruct(part, codes)).double().square().sum().item()
        active += len(codes.values)
    error /= len(x)
    row = {
        "step": -1,
        "epoch": 0,
        "lr": 0.0,
        "loss": error,
        "reconstruction": error,
        "l0": active / len(x),
    }
    return row | {"r2": 1 - error / variance}


def moments(x: Tensor | inputs.Inputs, input_norm: str) -> Moments:
    """The :class:`Moments` of prepared inputs (N, d)."""
    coder, total = (
        Coder(x.shape[1], 1, 1, input_norm=input_norm),
        torch.zeros(x.shape[1], dtype=torch.float64),
    )
    for part in x.split(16_384):
        total = total + coder.standardise(part)[0].mean(dim=0).cpu().double() * len(
            part
        )
    return Moments((total / len(x)).float().to(x.device), inputs.total_variance(x))


def batches(
    count: int,
    batch_size: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, Tensor]]:
    """Yield `steps` times (epoch, row numbers (batch_size,)): each epoch a fresh permutation, its last part dropped.

    The permutation is drawn on the CPU, the same for every device, and moved there as a whole.
    """
    generator = torch.Generator().manual_seed(seed)
    of_an_epoch = count // batch_size
    for step in range(steps):
        epoch, batch = divmod(step, of_an_epoch)
        if batch == 0:
            parts = (
                torch.randperm(count, generator=generator).to(device).split(batch_size)
            )
        yield epoch, parts[batch]


@torch.no_grad()
def remove_parallel(weight: Tensor) -> None:
    """Remove from the gradient of each unit row its component along the row."""
    assert weight.grad is not None
    weight.grad.addcmul_(
        weight, (weight.grad * weight).sum(dim=1, keepdim=True), value=-1
    )


@torch.no_grad()
def unit_rows_(weight: Tensor) -> None:
    """Scale each row to unit l2 norm, in place."""
    weight.div_(weight.norm(dim=1, keepdim=True).clamp_min(1e-12))
