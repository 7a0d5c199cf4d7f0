"""Signed orthogonal axes, a control that no step trains.

The axes are the principal axes of the training inputs, or the dimensions. Each of the d
axes gives two latents, its positive and its negative side, since activations are not
negative: m = 2d, whatever the recipe says. As in Top-k, the k largest activations of a
sample are kept, all where k is above 2d; b_d is the mean of the inputs.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.options import Options as Base
from sae.models.coder import Coder
from sae.models.inputs import Inputs
from sae.training import step

VERSION = 1
TRAINS = False
_CHUNK = 16_384  # Rows whose covariance is computed at once.


class Options(Base):
    """The options of axes."""

    basis: Literal["principal", "dimensions"]
    """Principal axes of the training inputs, or the backbone's own dimensions."""


class Objective(step.Objective):
    """Take the axes, both signs of each."""

    options: Options

    @torch.no_grad()
    def finish(self, x: Float[Tensor, "images dims"] | Inputs) -> Coder:
        """Return the coder of the axes.

        Args:
            x: the prepared training inputs.
        """
        initial = self.coder
        axes = torch.eye(initial.d)
        if self.options.basis == "principal":
            axes = principal_axes(x, initial)
        signed_axes = torch.cat([axes, -axes])

        m = 2 * initial.d
        coder = Coder(
            initial.d,
            m,
            min(self.settings.k, m),
            input_norm=initial.input_norm,
            tied=initial.tied,
        )
        coder.fill(
            {"W_enc": signed_axes.T, "W_dec": signed_axes, "b_dec": initial.b_dec}
        )
        return coder.to(initial.b_dec.device)


def principal_axes(
    x: Float[Tensor, "images dims"] | Inputs, coder: Coder
) -> Float[Tensor, "dims dims"]:
    """Compute the eigenvectors of the covariance of prepared inputs around `b_dec`.

    Args:
        x: the prepared inputs.
        coder: says how they are standardised, and has `b_dec`.

    Returns:
        Rows of norm 1, that of the largest variance first.
    """
    covariance = torch.zeros(coder.d, coder.d, dtype=torch.float64)
    for chunk in x.split(_CHUNK):
        standard, _, _ = coder.standardise(chunk)
        centred = (standard - coder.b_dec).cpu().double()
        covariance += centred.T @ centred
    _, eigenvectors = torch.linalg.eigh(covariance)
    return eigenvectors.T.flip(0).float()
