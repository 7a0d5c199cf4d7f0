"""BatchTopK (Bussmann et al. 2024, arXiv:2412.06410): the k N largest activations of a whole batch of N samples.

Afterwards a threshold takes its place, so that a sample's codes do not depend on its batch. Its estimate in training
is the mean over batches of the smallest activation > 0 that was kept. `finish` fixes it so that the mean number of
active latents on the training rows is k (a bank then scales it to validation images: `sae.bank.train`); the estimate
stays in the metadata as `threshold_uncalibrated`.
"""

import torch
from pydantic import Field

from sae.core.options import Options as Base
from sae.models.coder import Coder, Threshold
from sae.models.inputs import Inputs
from sae.training import picks, step
from sae.training.calibrate import calibrate

VERSION = 1


class Options(Base):
    """Of this objective."""

    momentum: float | None = Field(0.99, ge=0, lt=1)
    """Of the moving mean that estimates the threshold in training; null: the mean over all steps."""


class Objective(step.Objective):
    """Select the k N largest activations of the batch, and estimate the threshold that does the same."""

    options: Options

    def start(self) -> None:
        """No batch was seen yet."""
        # In double precision, as small changes add up; Apple's GPUs have none.
        device = self.coder.b_dec.device
        self.threshold = torch.zeros(
            (),
            dtype=torch.float32 if device.type == "mps" else torch.float64,
            device=device,
        )
        self.seen = torch.zeros_like(self.threshold)

    def pick(self, a: torch.Tensor) -> picks.Picks:
        """(N, m) to k N picks."""
        picked = picks.of_batch(a, self.settings.k)
        self._estimate(picked.values.detach())
        return picked

    def loss(
        self, x: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """As of Top-k; the estimated threshold is logged too."""
        loss, parts = super().loss(x, step)
        return loss, parts | {"threshold": self.threshold}

    def finish(self, x: torch.Tensor | Inputs) -> Coder:
        """The coder with one threshold for all latents."""
        self.coder.select = Threshold(
            calibrate(self.coder, x, torch.ones_like(self.coder.b_enc), self.settings.k)
        )
        self.coder.metadata["threshold_uncalibrated"] = self.threshold.item()
        return self.coder

    def _estimate(self, kept: torch.Tensor) -> None:
        smallest = kept.where(kept > 0, torch.inf).min().to(self.threshold.dtype)
        self.seen = self.seen + smallest.isfinite()
        # The plain mean at first, so that the start leaves no trace.
        rate = 1 / self.seen.clamp_min(1)
        if self.options.momentum is not None:
            rate = rate.clamp_min(1 - self.options.momentum)
        self.threshold = torch.where(
            smallest.isfinite(),
            torch.lerp(self.threshold, smallest, rate),
            self.threshold,
        )
