"""A frozen vision model, as the loaders of `sae.data.backbones` return it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image

from sae.data import folding


@dataclass(frozen=True)
class Backbone:
    """A frozen vision model, with the transform that its images need.

    Attributes:
        model: Maps images (N, 3, H, W) to embeddings (N, d).
        transform: Maps a PIL image to a tensor (3, H, W).
        checkpoint: The file of the weights, whose hash goes into the fingerprint; None
            if the weights are an artifact.
        positions: Maps images (N, 3, H, W) to the vectors (N, h, w, d) at positions of
            which their embeddings are made: each is what the embedding of its position
            alone would be. Where nothing but linear layers follows the mean over
            positions, their mean is the embedding. None where there are none, as where
            attention pools the positions.
    """

    model: torch.nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
    checkpoint: str | None = None
    positions: Callable[[torch.Tensor], torch.Tensor] | None = None

    @functools.cached_property
    def folded(self) -> torch.nn.Module:
        """The model in eval mode, made faster (`sae.data.folding.fold`)."""
        return folding.fold(self.model.eval().requires_grad_(False))

    @functools.cached_property
    def folded_positions(self) -> torch.nn.Module:
        """What `positions` does, as a module, made faster likewise."""
        assert self.positions is not None
        module = _Positions(self.model.eval().requires_grad_(False), self.positions)
        return folding.fold(module)


class _Positions(torch.nn.Module):
    """A function that runs parts of a model, as a module, which can be traced."""

    def __init__(
        self,
        model: torch.nn.Module,
        positions: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self.model = model
        self.positions = positions

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.positions(images)
