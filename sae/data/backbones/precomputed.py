"""Embeddings that are already made, for datasets of type `table`: {root}/{model}/{split}.npy.

There is no model and there are no images, hence no `load`. Spec: `model`, the name of the folder inside the dataset's
`root`. Row i of a split's file belongs to row i of that split in the table.
"""

from pathlib import Path

import numpy as np

from sae.data.splits import SPLITS
from sae.core.errors import UserError

_TYPES = ("float16", "float32", "float64")


def files(dataset_spec, backbone_spec):
    """{split: path} of the files."""
    folder = Path(dataset_spec["root"]) / backbone_spec["model"]
    return {split: _existing(folder / f"{split}.npy") for split in SPLITS}


def _existing(path):
    if not path.is_file():
        raise UserError(f"embeddings {path} do not exist; expected an array (N, d) saved there with `numpy.save`")
    return path


def embeddings(dataset_spec, backbone_spec, split):
    """The embeddings of a split, read on demand: (N, d) of type float16, float32 or float64.

    Raises:
        UserError: the file is missing, is not NumPy's, or holds something else.
    """
    path = files(dataset_spec, backbone_spec)[split]
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError) as error:
        raise UserError(f"embeddings {path} cannot be read ({error}); save an array (N, d) with `numpy.save`") from None
    if array.ndim != 2 or 0 in array.shape or array.dtype.name not in _TYPES:
        raise UserError(
            f"embeddings {path} are {array.dtype.name} of shape {array.shape}; expected (N, d) of {', '.join(_TYPES)}"
        )
    return array
