"""Sparse autoencoders on frozen vision embeddings: training them, and judging them.

`core` holds what all rooms use. `config` describes config.yaml. `data` turns images
into embeddings. `models` is what a trained SAE is; `training` makes one, `bank` many.
`scoring` says what they are worth, `protocols` which train and count, `comparison` what
methods differ in; `cards` says where one SAE stands; `report` prints and draws it.
`steps` is what there is to run.

The package is lazy on purpose: importing it imports nothing else, so that the command
line starts fast.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from sae.cards.alone import card
    from sae.models.apply import Encoder
    from sae.models.coder import Coder
    from sae.scoring.alone import score
    from sae.training.alone import train

__all__ = ["card", "export", "load", "save", "score", "train"]
__version__ = "1.0.0"

# A file of the user's beside the script, or in the working directory, is imported instead
# of the package of its name, and what then fails lies far from it.
for _name in ("numpy", "pandas", "pyarrow", "scipy", "sklearn", "torch", "yaml"):
    _file = os.path.join(sys.path[0] or os.curdir, f"{_name}.py")
    if os.path.exists(_file):
        raise ImportError(
            f"{_file} is imported instead of the package {_name}, which sae needs: "
            "give the file another name"
        )


def load(path: "Path | str", device: "str | torch.device" = "cpu") -> "Encoder":
    """Load a trained SAE to apply it; see :class:`sae.models.apply.Encoder`.

    An example, of embeddings (N, d) as the backbone gave them::

        model = sae.load("sae.safetensors")
        codes = model.encode(embeddings)
        reconstructions = model.reconstruct(embeddings)  # (N, d), as raw as they are

    Args:
        path: the SAE's file, sae.safetensors.
        device: the name of a torch device, or 'auto' for the best that there is.

    Raises:
        UserError: the file is missing, altered or no SAE; there is no such device.
    """
    from sae.models.apply import Encoder

    return Encoder(path, device)


def save(sae: "Encoder | Coder", path: "Path | str") -> None:
    """Write an SAE to a file, which `sae.load` opens.

    Args:
        sae: what `sae.train` or `sae.load` returns.
        path: the file, `sae.safetensors`; one that is there is replaced.

    Raises:
        UserError: there is no such folder; or the file would give back another SAE, as
            one whose weights hold NaN.
    """
    from sae.models.apply import coder_of
    from sae.models.saefile import save

    save(coder_of(sae, "sae.save"), path)


def export(sae: "Encoder | Coder", format: str, folder: "Path | str") -> None:
    """Write an SAE for another library.

    Args:
        sae: what `sae.train` or `sae.load` returns.
        format: the library: saelens, dictionary_learning, sparsify or overcomplete.
        folder: the folder to write, which must not exist.

    Raises:
        UserError: the folder is there or cannot be made, or the format cannot hold this
            SAE.
    """
    from sae.models.apply import coder_of
    from sae.models.convert import export

    export(coder_of(sae, "sae.export"), format, folder)


# {function: its module}; imported when somebody first asks for it.
_FUNCTIONS = {
    "card": "sae.cards.alone",
    "score": "sae.scoring.alone",
    "train": "sae.training.alone",
}


def __getattr__(name: str) -> Any:
    """Import a function when somebody first asks for it."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_FUNCTIONS]
