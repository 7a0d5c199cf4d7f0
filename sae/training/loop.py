"""Train one SAE: optimiser, schedule, log and divergence.

The objective says what is minimised, and makes the coder that comes out.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim.adam import adam

from sae.core.errors import UserError
from sae.core.seeding import seeded
from sae.models import inputs
from sae.models.coder import Coder
from sae.training.recipe import Settings
from sae.training.step import Objective, describe_value, unchanged

VERSION = 1
log = logging.getLogger(__name__)
# A reconstruction this many times worse than the mean's is beyond recovery.
DIVERGED_AT = 100.0
# The parameters of the coder that the recipe's option `frozen` leaves as they were
# initialised.
FROZEN = {None: (), "encoder": ("encoder", "b_enc"), "decoder": ("W_dec",)}
# Steps between checks for divergence. Separate from `log_every`, since logging must not
# change a result.
CHECK_EVERY = 25
# Rows that are reconstructed or averaged at once.
_CHUNK = 16_384

LogRow = dict[str, Any]


class Diverged(Exception):
    """Training left the finite numbers, or the reconstruction got absurd.

    Attributes:
        step: the step at which this was found.
        rows: the log so far.
    """

    def __init__(self, step: int, rows: list[LogRow]) -> None:
        super().__init__(f"diverged by step {step}")
        self.step = step
        self.rows = rows


@dataclass(frozen=True)
class Moments:
    """The mean and the variance of prepared inputs, which all SAEs of a bank share.

    Attributes:
        mean: the mean of the inputs as the encoder sees them, where b_d starts.
        variance: the total variance of the inputs.
    """

    mean: Float[Tensor, " dims"]
    variance: float


def train(
    x: Float[Tensor, "images dims"] | inputs.Inputs,
    settings: Settings,
    objective: ModuleType,
    penalty: ModuleType | None = None,
    progress: Callable[[LogRow], None] | None = None,
    input_moments: Moments | None = None,
) -> tuple[Coder, list[LogRow]]:
    """Train an SAE on prepared inputs.

    Args:
        x: prepared inputs (`sae.models.inputs.open_inputs`) on the device to train on,
            of total variance about 1 (lambda depends on that scale).
        settings: how to train.
        objective: the module of the objective that the settings name.
        penalty: the module of the penalty that they name; None trains without one.
        progress: called with each row of the log.
        input_moments: what :func:`moments` returned for `x`, if it was asked before.

    Returns:
        The trained coder and the log, a list of dicts. They hold step, epoch, lr, the
        parts of the objective's loss (of Top-k: loss, reconstruction, penalty, aux, l0,
        dead), r2. Where nothing is trained, the log has one row, of step -1.

    Raises:
        Diverged: the loss is not finite, or the reconstruction error is `DIVERGED_AT`
            times the variance.
        UserError: the inputs or an entry are not of their form, or the settings name a
            penalty whose module is not given.
    """
    check_inputs(x)
    if input_moments is None:
        input_moments = moments(x, settings.input_norm)
    # By the seed alone: an entry that draws differs between trials in nothing else.
    with seeded(f"training, seed {settings.seed}"):
        return _train(x, settings, objective, penalty, progress, input_moments)


def _train(
    x: Float[Tensor, "images dims"] | inputs.Inputs,
    settings: Settings,
    objective: ModuleType,
    penalty: ModuleType | None,
    progress: Callable[[LogRow], None] | None,
    input_moments: Moments,
) -> tuple[Coder, list[LogRow]]:
    image_count, d = x.shape

    coder = Coder(
        d, settings.m, settings.k, input_norm=settings.input_norm, tied=settings.tied
    ).to(x.device)
    coder.initialise(input_moments.mean, settings.seed, settings.encoder_scale)
    objective_at_work = objective.Objective(
        coder, settings, settings.of(objective), penalty
    )

    takes_steps = getattr(objective, "TRAINS", True)
    if settings.frozen == "all" or not takes_steps:
        coder = finish(objective_at_work, x)
        return coder, [untrained_row(coder, x, input_moments.variance)]

    for name in FROZEN[settings.frozen]:
        getattr(coder, name).requires_grad_(False)
    parameters = [*coder.parameters(), *objective_at_work.parameters()]
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    check_learned(learned, settings.objective)
    optimiser = Adam(learned, settings)

    steps = settings.steps_on(image_count)
    batch_size = min(settings.batch_size, image_count)
    # Inputs that stay on disk are indexed by row numbers on the CPU.
    row_device = x.device if isinstance(x, Tensor) else "cpu"
    all_batches = batches(image_count, batch_size, steps, settings.seed, row_device)
    rows: list[LogRow] = []

    for step, (epoch, batch_rows) in enumerate(all_batches):
        lr = learning_rate(settings, step, steps)
        optimiser.lr = lr
        loss, parts = objective_at_work.loss(x[batch_rows], step)
        if step == 0:
            check_loss(loss, parts, settings.objective)
        update(coder, optimiser, loss, objective_at_work.most_norm)

        is_last = step == steps - 1
        is_logged = is_last or step % settings.log_every == 0
        is_checked = is_last or step % CHECK_EVERY == 0
        # On a GPU only these steps wait for their numbers.
        if not is_logged and not is_checked:
            continue

        row = {"step": step, "epoch": epoch, "lr": lr}
        for name, part in parts.items():
            row[name] = part.item()
        row["r2"] = 1 - row["reconstruction"] / input_moments.variance

        if is_checked:
            diverged = is_beyond_recovery(row, input_moments.variance)
            # The last step may break a weight after its loss was computed.
            if is_last and not diverged:
                diverged = not all(p.isfinite().all() for p in coder.parameters())
            if diverged:
                raise Diverged(step, [*rows, row])
        if is_logged:
            rows.append(row)
            if progress is not None:
                progress(row)

    if penalty is not None and not objective_at_work.penalty_acts:
        log.warning(
            "penalty %s (%s) had no gradient in any step, so that this SAE is what it "
            "would be without it: compute the penalty from batch.a or batch.coder by "
            "PyTorch's functions, without detach, item, round or a comparison",
            settings.penalty,
            penalty.__file__,
        )
    return finish(objective_at_work, x), rows


def check_inputs(x: Any) -> None:
    """Check that inputs are prepared ones.

    Raises:
        UserError: they are not.
    """
    is_float32 = isinstance(x, Tensor) and x.dtype == torch.float32
    if not (is_float32 or isinstance(x, inputs.Inputs)):
        problem = f"not {describe_value(x)}"
    elif len(x.shape) != 2 or 0 in x.shape:
        problem = f"and these are of shape {tuple(x.shape)}"
    else:
        return
    raise UserError(
        f"the loop trains on prepared inputs, float32 of shape (N, d), {problem}: "
        "sae.models.inputs.open_inputs makes them of embeddings, and sae.train asks "
        "for embeddings alone"
    )


def finish(objective: Objective, x: Tensor | inputs.Inputs) -> Coder:
    """Let an objective make the coder that is saved.

    Raises:
        UserError: it changed the inputs, on which other SAEs are trained too.
    """
    entry = f"objective {objective.settings.objective}: finish()"
    given = {"the inputs": x} if isinstance(x, Tensor) else {}
    with unchanged(entry, given, step=0):
        return objective.finish(x)


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Return the rate of a step: constant at first, then falling linearly.

    It falls to `lr` divided by the number of steps that it falls, in the last step; the
    step after that would have 0.

    Args:
        settings: of these the rate at the start, and the share of steps that it falls.
        step: the number of the step, from 0.
        steps: the number of all steps.
    """
    falling_steps = max(1.0, settings.decay_fraction * steps)
    return settings.lr * min(1.0, (steps - step) / falling_steps)


def is_beyond_recovery(row: LogRow, variance: float) -> bool:
    """Tell whether a row of the log has a loss or an error that no training mends."""
    # `not <` also catches NaN.
    loss_is_infinite = not row["loss"] < float("inf")
    error_is_absurd = not row["reconstruction"] < DIVERGED_AT * variance
    return loss_is_infinite or error_is_absurd


def check_learned(learned: list[Tensor], objective: str) -> None:
    """Check that steps can be taken in what an objective learns.

    Args:
        learned: the parameters of its coder, and its own, that have a gradient.
        objective: the name of the objective, for the message.

    Raises:
        UserError: a parameter is computed from another one, or is given twice.
    """
    if not all(parameter.is_leaf for parameter in learned):
        raise UserError(
            f"objective {objective}: parameters() returns a tensor that is computed "
            "from another one, which no step can change; move it to its device before "
            "it requires a gradient"
        )
    if len({id(parameter) for parameter in learned}) < len(learned):
        raise UserError(
            f"objective {objective}: parameters() returns a parameter twice, or one of "
            "the coder's, which is learned anyway; leave it out"
        )


def check_loss(loss: Tensor, parts: dict[str, Tensor], objective: str) -> None:
    """Check the form of what an objective's `loss` returned, in the first step.

    Whether the numbers are finite is checked all along (`is_beyond_recovery`).

    Args:
        loss: the loss.
        parts: its parts by name.
        objective: the name of the objective, for the message.

    Raises:
        UserError: the loss or a part of it is no single real number, or a part that the
            loop needs is missing.
    """
    value_by_description = {"the loss": loss}
    for name, part in parts.items():
        value_by_description[f"the part {name!r}"] = part

    for description, value in value_by_description.items():
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            raise UserError(
                f"objective {objective}: {description} that loss() returns is "
                f"{describe_value(value)}, not a tensor of one number"
            )
    for name in ("loss", "reconstruction"):
        if name not in parts:
            raise UserError(
                f"objective {objective}: the parts that loss() returns lack {name!r}"
            )


class Adam:
    """Optimise by Adam (Kingma & Ba, arXiv:1412.6980) without weight decay, fused.

    `torch.optim.Adam` takes the same steps, bit for bit. But making one loads PyTorch's
    compiler (`torch._dynamo`), 1.4 s of a job that may train for ten.

    Attributes:
        parameters: what is learned.
        lr: the learning rate of the next step.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: Settings) -> None:
        """Start with moments of 0.

        Args:
            parameters: what is learned.
            settings: of these the first rate, and the options of Adam.
        """
        self.parameters = list(parameters)
        self.lr = settings.lr
        self._settings = settings
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        # Where the parameters are: a fused step reads them there.
        self._steps_taken = [
            torch.zeros((), dtype=torch.float32, device=parameter.device)
            for parameter in self.parameters
        ]

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take a step; a parameter without a gradient stays as it is."""
        learned = []
        gradients = []
        means = []
        squares = []
        steps_taken = []
        for parameter, mean, square, count in zip(
            self.parameters, self._means, self._squares, self._steps_taken, strict=True
        ):
            if parameter.grad is None:
                continue
            learned.append(parameter)
            gradients.append(parameter.grad)
            means.append(mean)
            squares.append(square)
            steps_taken.append(count)
        adam(
            learned,
            gradients,
            means,
            squares,
            [],
            steps_taken,
            fused=True,
            amsgrad=False,
            beta1=self._settings.adam_beta1,
            beta2=self._settings.adam_beta2,
            lr=self.lr,
            weight_decay=0.0,
            eps=self._settings.adam_eps,
            maximize=False,
        )


def update(
    coder: Coder,
    optimiser: Adam,
    loss: Float[Tensor, ""],
    most_norm: float | None = None,
) -> None:
    """Take one step down the gradient of a loss; the decoder's rows stay of unit norm.

    Args:
        coder: the coder that is trained.
        optimiser: the optimiser of all that is learned.
        loss: the loss of a batch.
        most_norm: the norm that all gradients together are scaled down to; None leaves
            them as they are.
    """
    optimiser.zero_grad()
    loss.backward()
    if most_norm is not None:
        torch.nn.utils.clip_grad_norm_(optimiser.parameters, most_norm)
    if coder.W_dec.requires_grad:
        remove_parallel(coder.W_dec)
    optimiser.step()
    if coder.W_dec.requires_grad:
        unit_rows_(coder.W_dec)


@torch.no_grad()
def untrained_row(
    coder: Coder, x: Float[Tensor, "images dims"] | inputs.Inputs, variance: float
) -> LogRow:
    """Return the log's one row of a coder that no step made.

    Args:
        coder: the coder.
        x: the prepared inputs that it reconstructs, all of them.
        variance: the total variance of the inputs.
    """
    error = 0.0
    active_count = 0.0
    for chunk in x.split(_CHUNK):
        codes = coder.encode(chunk)
        residual = chunk - coder.reconstruct(chunk, codes)
        # On the CPU, since Apple's GPUs have no double precision.
        error += residual.cpu().double().square().sum().item()
        active_count += len(codes.values)
    error /= len(x)
    return {
        "step": -1,
        "epoch": 0,
        "lr": 0.0,
        "loss": error,
        "reconstruction": error,
        "l0": active_count / len(x),
        "r2": 1 - error / variance,
    }


def moments(
    x: Float[Tensor, "images dims"] | inputs.Inputs, input_norm: str
) -> Moments:
    """Compute the :class:`Moments` of prepared inputs.

    Args:
        x: the prepared inputs.
        input_norm: the recipe's option, which says how the encoder standardises.
    """
    d = x.shape[1]
    coder = Coder(d, 1, 1, input_norm=input_norm)
    total = torch.zeros(d, dtype=torch.float64)
    for chunk in x.split(_CHUNK):
        standard, _, _ = coder.standardise(chunk)
        total = total + standard.mean(dim=0).cpu().double() * len(chunk)
    mean = (total / len(x)).float().to(x.device)
    return Moments(mean, inputs.total_variance(x))


def batches(
    count: int,
    batch_size: int,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, Int[Tensor, " batch"]]]:
    """Yield the epoch and the row numbers of each step's batch.

    Each epoch is a fresh permutation of all rows, whose last incomplete batch is
    dropped. The permutation is drawn on the CPU, so that it is the same for every
    device, and moved there as a whole.

    Args:
        count: the number of rows.
        batch_size: rows of a batch; at most `count`.
        steps: how many batches to yield.
        seed: of the permutations.
        device: where the row numbers lie.
    """
    generator = torch.Generator().manual_seed(seed)
    batches_of_epoch = count // batch_size
    for step in range(steps):
        epoch, batch_number = divmod(step, batches_of_epoch)
        if batch_number == 0:
            permutation = torch.randperm(count, generator=generator).to(device)
            epoch_batches = permutation.split(batch_size)
        yield epoch, epoch_batches[batch_number]


@torch.no_grad()
def remove_parallel(weight: Float[Tensor, "latents dims"]) -> None:
    """Remove from the gradient of each unit row its component along the row."""
    assert weight.grad is not None
    along_row = (weight.grad * weight).sum(dim=1, keepdim=True)
    weight.grad.addcmul_(weight, along_row, value=-1)


@torch.no_grad()
def unit_rows_(weight: Float[Tensor, "latents dims"]) -> None:
    """Scale each row to unit l2 norm, in place."""
    weight.div_(weight.norm(dim=1, keepdim=True).clamp_min(1e-12))
