"""An SAE that was made elsewhere: nothing trains it.

A method that says `import` (config.yaml) has it. It keeps its own input space, m and
threshold. The rule `imported` has brought it into the project's form.
"""

import numpy as np
from jaxtyping import Float

from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Options as Base
from sae.core.options import later
from sae.models import saefile
from sae.models.coder import Coder, TopK
from sae.models.convert import describe_doubt
from sae.models.inputs import prepare, total_variance
from sae.training.loop import untrained_row
from sae.training.recipe import Settings

VERSION = 1
TRAINS = False
MADE_ELSEWHERE = True
# At most so many training embeddings are reconstructed. The SAE must do that better
# than their mean does.
_ROWS = 16_384


class Options(Base):
    """The options of an imported SAE."""

    file: str
    """The SAE, in this project's form."""
    other_datasets: bool = later(False)
    """Whether the experiment has datasets that it may not be of; it is then left out
    where it does not fit."""


def content(options: Options) -> dict[str, str]:
    """Return what decides the result, instead of the options: the file's hash.

    So the place of the file does not count.
    """
    return {"file_sha256": files.sha256(options.file)}


def take(
    options: Options, settings: Settings, embeddings: Float[np.ndarray, "images dims"]
) -> tuple[Coder, dict[str, float]]:
    """Load the SAE, and check that it fits a cell.

    Args:
        options: where it lies.
        settings: its k is that of the bank.
        embeddings: the training split, as the backbone gave it. The SAE reconstructs at
            most 16,384 of its rows.

    Returns:
        The SAE, and its row of the log.

    Raises:
        UserError: it has another number of dimensions or, with a Top-k, another k than
            the bank, or it reconstructs the embeddings worse than their mean does: its
            input space is another one.
    """
    coder = saefile.load(options.file)
    sae_name = f"{options.file}, an imported SAE,"
    if coder.d != embeddings.shape[1]:
        raise UserError(
            f"{sae_name} takes {coder.d} dimensions, and these embeddings have "
            f"{embeddings.shape[1]}: name its method in an experiment of the backbone "
            "that it was trained on"
        )
    if isinstance(coder.select, TopK) and coder.select.k != settings.k:
        raise UserError(
            f"{sae_name} keeps {coder.select.k} latents of an image, and this cell has "
            f"k = {settings.k}: give its method `import: {{ place: ..., k: "
            f"{coder.select.k} }}`, and it is scored in cells of that k alone"
        )

    coder.k = settings.k
    row = _reconstruct(coder, embeddings)
    if not row["r2"] > 0:
        raise UserError(f"{sae_name} {_describe_misfit(coder, row['r2'])}")
    return coder, row


def misfit(options: Options, embeddings: Float[np.ndarray, "images dims"]) -> str:
    """Return why a cell goes without the SAE, '' where it does not.

    A cell goes without an SAE that may be of another of the experiment's datasets, and
    reconstructs the training embeddings worse than their mean does.

    Args:
        options: as :func:`take` takes them, as are the embeddings.
    """
    if not options.other_datasets:
        return ""
    coder = saefile.load(options.file)
    if coder.d != embeddings.shape[1]:
        return ""  # Of another backbone, which is an error.
    row = _reconstruct(coder, embeddings)
    return "" if row["r2"] > 0 else _describe_misfit(coder, row["r2"])


def _reconstruct(
    coder: Coder, embeddings: Float[np.ndarray, "images dims"]
) -> dict[str, float]:
    # Evenly spread, since rows may be in the order of their classes.
    every_nth = -(-len(embeddings) // _ROWS)
    x = prepare(embeddings[::every_nth], coder.input_norm, coder.input_scale)
    return untrained_row(coder, x, total_variance(x))


def _describe_misfit(coder: Coder, r2: float) -> str:
    return (
        f"{describe_doubt(coder, r2, 'the training embeddings')}, `import: {{ place: "
        "..., input_norm: ..., input_scale: ... }`; or, if it was trained on another "
        "dataset, name that one, `import: { place: ..., dataset: ... }`, and it is "
        "scored there alone"
    )
