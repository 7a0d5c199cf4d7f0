"""Sparse autoencoders on frozen vision embeddings: how they are trained, what they are worth.

`core` holds what all rooms use. `config` describes config.yaml. `data` turns images into embeddings. `models` is what a
trained SAE is; `training` makes one, `bank` many. `scoring` says what they are worth; `report` prints and draws it.

The package is lazy on purpose: importing it imports nothing else, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae.models.apply import Encoder

__version__ = "0.1.0"


def load(path: str, device: str = "cpu") -> Encoder:
    """Load a trained SAE to apply it: `sae.load(path).encode(embeddings)`; see :class:`sae.models.apply.Encoder`."""
    from sae.models.apply import Encoder

    return Encoder(path, device)
