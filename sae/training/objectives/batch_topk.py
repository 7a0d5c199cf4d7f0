"""BatchTopK: the k N largest activations of a whole batch of N samples.

Source: Bussmann et al. 2024, arXiv:2412.06410.

Afterwards a threshold takes the selection's place, so that a sample's codes do not
depend on its batch. Its estimate in training is the mean over batches of the smallest
activation > 0 that was kept. `finish` fixes it so that the mean number of active
latents on the training rows is k (a bank then scales it to validation images:
`sae.bank.train`). The estimate stays in the metadata as `threshold_uncalibrated`.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.options import Options as Base
from sae.models.coder import Coder, Threshold
from sae.models.inputs import Inputs
from sae.training import picks, step
from sae.training.calibrate import calibrate

VERSION = 1


class Options(Base):
    """The options of BatchTopK."""

    momentum: float | None = Field(0.99, ge=0, lt=1)
    """Momentum of the threshold's moving mean; null: the mean over all steps."""


class Objective(step.Objective):
    """Select the k N largest activations of the batch, and estimate their threshold.

    Attributes:
        threshold: the estimate, from the batches so far.
        batch_count: how many batches it rests on: those with an activation > 0.
    """

    options: Options
    threshold: Float[Tensor, ""]
    batch_count: Float[Tensor, ""]

    def start(self) -> None:
        """Set the estimate to that of no batch."""
        # In double precision, as small changes add up; Apple's GPUs have none.
        device = self.coder.b_dec.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.threshold = torch.zeros((), dtype=dtype, device=device)
        self.batch_count = torch.zeros_like(self.threshold)

    def pick(self, a: Float[Tensor, "batch latents"]) -> picks.Picks:
        """Pick the k N largest activations of the batch; the picks are flat."""
        picked = picks.of_batch(a, self.settings.k)
        self._update_threshold(picked.values.detach())
        return picked

    def loss(
        self, x: Float[Tensor, "batch dims"], step: int
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Compute the loss of one batch, as Top-k has it.

        Args:
            x: prepared inputs.
            step: the number of the step, from 0.

        Returns:
            The loss, and the parts that all objectives have, with `threshold`, the
            estimate so far.
        """
        loss, parts = super().loss(x, step)
        return loss, parts | {"threshold": self.threshold}

    def finish(self, x: Float[Tensor, "images dims"] | Inputs) -> Coder:
        """Return the coder with one threshold for all latents.

        Args:
            x: the prepared training inputs, on which k latents are active on average.
        """
        equal_thresholds = torch.ones_like(self.coder.b_enc)
        theta = calibrate(self.coder, x, equal_thresholds, self.settings.k)
        self.coder.select = Threshold(theta)
        self.coder.metadata["threshold_uncalibrated"] = self.threshold.item()
        return self.coder

    def _update_threshold(self, values: Float[Tensor, " picks"]) -> None:
        """Move the estimate towards the smallest value > 0 that a batch kept."""
        positive_or_infinite = values.where(values > 0, torch.inf)
        smallest = positive_or_infinite.min().to(self.threshold.dtype)
        has_positive = smallest.isfinite()
        self.batch_count = self.batch_count + has_positive

        # The plain mean at first, so that the start leaves no trace.
        rate = 1 / self.batch_count.clamp_min(1)
        if self.options.momentum is not None:
            rate = rate.clamp_min(1 - self.options.momentum)
        moved = torch.lerp(self.threshold, smallest, rate)
        self.threshold = torch.where(has_positive, moved, self.threshold)
