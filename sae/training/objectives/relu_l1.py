"""ReLU with an l1 norm on the codes, and a threshold that keeps to the budget.

Source: Bricken et al. 2023.

z = a = ReLU(pi). Loss: ||x - xhat||^2 + w sum_j z_j ||W_d,j||; decoder rows have norm 1
here. At the end one threshold for all latents is set so that L0 is k on the training
rows (then on validation images: `sae.bank.train`): small activations that the l1 norm
left over do not count. So w decides how much more than k is active while it trains, and
is there to be tuned. (A weight that is steered to the budget from the start shrinks all
activations early, and reconstructs worse: docs/protocol.md.)
"""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from sae.core.options import Options as Base
from sae.training.objectives import _threshold

VERSION = 1


class Options(Base):
    """The options of ReLU with an l1 norm."""

    weight: float = Field(0.1, gt=0)
    """w, the weight of the l1 norm, where the inputs' total variance is 1."""


class Objective(_threshold.Objective):
    """Add the l1 norm of the codes to the error."""

    options: Options

    def sparsity(self, z: Float[Tensor, "batch latents"]) -> Float[Tensor, ""]:
        """Compute the weighted l1 norm of the codes, mean over the batch."""
        l1_norms = z @ self.coder.W_dec.norm(dim=1)
        return self.options.weight * l1_norms.mean()
