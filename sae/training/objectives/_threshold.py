"""What JumpReLU and ReLU with an l1 norm share: codes of any length, and a threshold a latent that is fixed at the end.

Gradients are clipped: their norm, over all parameters, is at most `MOST`, as in SAELens. In the first steps half of all
latents are active, and Adam would remember gradients as large as those for a thousand steps.

N samples, m latents.
"""

import weakref

import torch
from torch.utils.hooks import RemovableHandle

from sae.models.coder import Coder, Threshold, restore
from sae.models.inputs import Inputs
from sae.training import step
from sae.training.calibrate import calibrate
from sae.training.encoder import activations
from sae.training.picks import Picks

MOST = 1.0  # norm of the gradients


class Objective(step.Objective):
    """The loss of an objective whose codes are dense while it trains."""

    def codes(self, a: torch.Tensor) -> torch.Tensor:
        """(N, m) codes of the activations, with gradients."""
        raise NotImplementedError

    def sparsity(self, z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """The part of the loss that asks for few active latents."""
        raise NotImplementedError

    def thresholds(self) -> torch.Tensor:
        """(m,) the thresholds that were trained with; their common factor is then set so that L0 is k."""
        raise NotImplementedError

    def loss(self, x: torch.Tensor, step_number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """As of Top-k, with a part `sparsity`."""
        if step_number == 0:  # By now it is known what stays frozen.
            learning = [p for p in (*self.coder.parameters(), *self.parameters()) if p.requires_grad]
            self._clipped = clip(learning, MOST)
        standard, scale, shift = self.coder.standardise(x)
        a = activations(self.coder, standard, getattr(torch, self.settings.precision), differentiable=True)
        z = self.codes(a)
        residual = x - restore(z @ self.coder.W_dec + self.coder.b_dec, scale, shift)
        reconstruction, sparsity = residual.square().sum(dim=1).mean(), self.sparsity(z, a)
        view = step.View(x, standard, scale, a, picks_of(z), residual, step_number)
        loss, parts = self.total(reconstruction + sparsity, reconstruction, view)
        return loss, parts | {"sparsity": sparsity}

    def finish(self, x: torch.Tensor | Inputs) -> Coder:
        """The coder with thresholds that keep k latents a sample, on average."""
        for hook in getattr(self, "_clipped", ()):
            hook.remove()
        theta = self.thresholds().detach()
        self.coder.select = Threshold(calibrate(self.coder, x, theta, self.settings.k))
        return self.coder


def clip(parameters: list[torch.Tensor], most: float) -> list[RemovableHandle]:
    """Scale the gradients of each backward pass down to a norm of `most` together, once the last of them is there.

    Each pass has to give all of them one. The hooks do not keep the parameters alive.
    """
    left, known = len(parameters), [weakref.ref(parameter) for parameter in parameters]

    def after(_: torch.Tensor) -> None:
        nonlocal left
        left -= 1
        if not left:
            left = len(known)
            torch.nn.utils.clip_grad_norm_([p for ref in known if (p := ref()) is not None], most)

    return [parameter.register_post_accumulate_grad_hook(after) for parameter in parameters]


def picks_of(z: torch.Tensor) -> Picks:
    """The codes > 0 of (N, m) as picks, with their gradients."""
    rows, latents = (z.detach() > 0).nonzero(as_tuple=True)
    starts = torch.searchsorted(rows, torch.arange(len(z), device=z.device))
    return Picks(z[rows, latents], latents, z.shape[1], starts)
