"""Take Adam's steps by PyTorch's function for them.

`torch.optim.Adam` takes the same steps, bit for bit. But making one loads PyTorch's
compiler (`torch._dynamo`), 1.4 s of a job that may train for ten.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

from sae.training.recipe import Settings


class Adam:
    """Optimise by Adam (Kingma & Ba, arXiv:1412.6980) without weight decay, fused.

    Attributes:
        parameters: what is learned.
        lr: the learning rate of the next step.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: Settings) -> None:
        """Start with moments of 0.

        Args:
            parameters: what is learned.
            settings: of these the first rate, both betas and the eps.
        """
        self.parameters = list(parameters)
        self.lr = settings.lr
        self._betas = (settings.adam_beta1, settings.adam_beta2)
        self._eps = settings.adam_eps
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
        beta1, beta2 = self._betas
        adam(
            learned,
            gradients,
            means,
            squares,
            [],
            steps_taken,
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=self.lr,
            weight_decay=0.0,
            eps=self._eps,
            maximize=False,
        )
