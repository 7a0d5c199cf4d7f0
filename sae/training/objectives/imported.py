"""An SAE that was made elsewhere: a method that says `import` (config.yaml) has it, and nothing trains it.

It keeps its own input space, m and threshold. The rule `imported` has brought it into the project's form.
"""

import numpy as np

from sae.core import files
from sae.core.errors import UserError
from sae.core.options import Options as Base
from sae.models import saefile
from sae.models.coder import Coder, TopK
from sae.models.convert import doubt
from sae.models.inputs import prepare, total_variance
from sae.training.loop import untrained
from sae.training.recipe import Settings

VERSION = 1
TRAINS = False
MADE_ELSEWHERE = True
_ROWS = 16_384  # at most, of the training embeddings, which the SAE must reconstruct better than their mean does


class Options(Base):
    """Of this objective."""

    file: str
    """The SAE, in this project's form."""


def content(options: Options) -> dict[str, str]:
    """What decides the result, instead of the options: the hash of the file, wherever it lies."""
    return {"file_sha256": files.sha256(options.file)}


def take(
    options: Options, settings: Settings, embeddings: np.ndarray
) -> tuple[Coder, dict[str, float]]:
    """The SAE, and its row of the log: what it gives on training embeddings, at most 16,384 of them.

    Args:
        settings: its k is that of the bank.
        embeddings: (N, d) of the training split, as the backbone gave them.

    Raises:
        UserError: it has another number of dimensions or, with a Top-k, another k than the bank, or it reconstructs
            the embeddings worse than their mean does: its input space is another one.
    """
    coder, where = saefile.load(options.file), f"{options.file}, an imported SAE,"
    rows = embeddings[
        :: -(-len(embeddings) // _ROWS)
    ]  # Evenly spread: rows may be in the order of their classes.
    if coder.d != rows.shape[1]:
        said = "name its method in an experiment of the backbone that it was trained on"
        raise UserError(
            f"{where} takes {coder.d} dimensions, and these embeddings have {rows.shape[1]}: {said}"
        )
    if isinstance(coder.select, TopK) and coder.select.k != settings.k:
        raise UserError(
            f"{where} keeps {coder.select.k} latents of an image, and this cell has k = {settings.k}: give its "
            f"method `import: {{ place: ..., k: {coder.select.k} }}`, and it is scored in cells of that k alone"
        )
    coder.k = settings.k
    x = prepare(rows, coder.input_norm, coder.input_scale)
    row = untrained(coder, x, total_variance(x))
    if not row["r2"] > 0:
        said = doubt(coder, row["r2"], "the training embeddings")
        raise UserError(
            f"{where} {said}, `import: {{ place: ..., input_norm: ..., input_scale: ... }}`"
        )
    return coder, row
