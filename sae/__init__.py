"""Sparse autoencoders on frozen vision embeddings: how they are trained, what they are worth.

`core` holds what all rooms use. `config` describes config.yaml. `data` turns images into embeddings. `models` is what a
trained SAE is; `training` makes one, `bank` many. `scoring` says what they are worth, `protocols` which train and
count, `comparison` what methods differ in; `report` prints and draws it. `steps` is what there is to run.

The package is lazy on purpose: importing it imports nothing else, so that the command line starts fast.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae.models.apply import Encoder
    from sae.scoring.alone import score

__all__ = ["load", "score"]
__version__ = "1.0.0"


def load(path: str, device: str = "cpu") -> "Encoder":
    """Load a trained SAE to apply it: `sae.load(path).encode(embeddings)`; see :class:`sae.models.apply.Encoder`."""
    from sae.models.apply import Encoder

    return Encoder(path, device)


def __getattr__(name: str) -> Any:
    """Import `score` when somebody first asks for it."""
    if name != "score":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sae.scoring.alone import score

    return score


def __dir__() -> list[str]:
    return [*globals(), "score"]
