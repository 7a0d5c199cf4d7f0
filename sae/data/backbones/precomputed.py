"""Embeddings that are already made, for datasets of type `table`.

They lie in {root}/{model}/{split}.npy. There is no model and there are no images, hence
no `load`. Row i of a split's file belongs to row i of that split in the table.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sae.core import options
from sae.core.errors import UserError
from sae.core.files import read_array
from sae.data.splits import SPLITS

VERSION = 1
READS_IMAGES = False
# The store is made of these files: a change in one rebuilds it.
FILES = [
    "{root}/{model}/train.npy",
    "{root}/{model}/val.npy",
    "{root}/{model}/test.npy",
]
_TYPES = ("float16", "float32", "float64")


class Options(options.Options):
    """The options of such a backbone."""

    model: str
    """The name of the folder inside the dataset's `root`."""


def files(dataset: Any, spec: Options) -> dict[str, Path]:
    """Return {split: its file}.

    Raises:
        UserError: a file does not exist.
    """
    paths = {split: Path(dataset.root, spec.model, f"{split}.npy") for split in SPLITS}
    for path in paths.values():
        if not path.is_file():
            hint = ""
            if path.with_suffix(".npz").exists():
                hint = f" (a {path.stem}.npz may hold several)"
            raise UserError(
                f"embeddings {path} do not exist; save an array (N, d) there with "
                f"`numpy.save`{hint}"
            )
    return paths


def embeddings(dataset: Any, spec: Options, split: str) -> np.ndarray:
    """Return the embeddings of a split, (N, d), which are read on demand.

    They are of type float16, float32 or float64.

    Raises:
        UserError: the file is missing, or does not hold such an array.
    """
    path = files(dataset, spec)[split]
    array = read_array(path)
    if array.ndim != 2 or 0 in array.shape or array.dtype.name not in _TYPES:
        raise UserError(
            f"embeddings {path} are {array.dtype.name} of shape {array.shape}; "
            f"expected (N, d) of {', '.join(_TYPES)}"
        )
    return array
