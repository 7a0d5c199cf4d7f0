"""Signed orthogonal axes, a control that no step trains: the principal axes of the training inputs, or the dimensions.

Each of the d axes gives two latents, its positive and its negative side, since activations are not negative: m = 2d,
whatever the recipe says. As in Top-k, the k largest activations of a sample are kept, all where k is above 2d; b_d is
the mean of the inputs.
"""

from typing import Literal

import torch

from sae.core.options import Options as Base
from sae.models.coder import Coder
from sae.models.inputs import Inputs
from sae.training import step

VERSION = 1
TRAINS = False


class Options(Base):
    """Of this objective."""

    basis: Literal["principal", "dimensions"]
    """principal: by falling variance of the training inputs along them; dimensions: as the backbone has them."""


class Objective(step.Objective):
    """Take the axes, both signs of each."""

    options: Options

    @torch.no_grad()
    def finish(self, x: torch.Tensor | Inputs) -> Coder:
        """The coder of the axes, of the prepared training inputs (N, d)."""
        like = self.coder
        axes = (
            torch.eye(like.d)
            if self.options.basis == "dimensions"
            else principal_axes(x, like)
        )
        both = torch.cat([axes, -axes])
        m = 2 * like.d
        coder = Coder(
            like.d,
            m,
            min(self.settings.k, m),
            input_norm=like.input_norm,
            tied=like.tied,
        )
        coder.fill({"W_enc": both.T, "W_dec": both, "b_dec": like.b_dec})
        return coder.to(like.b_dec.device)


def principal_axes(x: torch.Tensor | Inputs, coder: Coder) -> torch.Tensor:
    """(d, d) unit rows: the eigenvectors of the covariance of prepared inputs (N, d) around `b_dec`, largest first."""
    covariance = torch.zeros(coder.d, coder.d, dtype=torch.float64)
    for part in x.split(16_384):
        centred = (coder.standardise(part)[0] - coder.b_dec).cpu().double()
        covariance += centred.T @ centred
    return torch.linalg.eigh(covariance)[1].T.flip(0).float()
