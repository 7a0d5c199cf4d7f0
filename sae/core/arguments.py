"""Check what users pass to the library: an error names the argument and its value."""

import logging
import operator
import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from sae.core import workers
from sae.core.errors import UserError

progress = logging.getLogger("sae.progress")
_ROWS_CHECKED = 65536


def device_name(device: Any) -> str:
    """Return the name of the torch device that is meant.

    Raises:
        UserError: it is no name of a device, or the device is not here.
    """
    import torch  # Slow to import.

    if not isinstance(device, str | torch.device):
        raise UserError(
            f"device is {reprlib.repr(device)}; give the name of a device, such as "
            "'cpu', 'cuda' or 'auto'"
        )
    return workers.available_device(str(device))


def whole_number(name: str, value: Any, allowed: str, least: int | None = None) -> int:
    """Return a user's whole number, of any integer type, as an int.

    Args:
        name: what error messages call it.
        value: what was given.
        allowed: what error messages say may be given.
        least: the smallest that is allowed; None: any.

    Raises:
        UserError: it is of another type, as 8.0 and True are, or below `least`.
    """
    try:
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # An array or tensor of several.
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise UserError(
            f"{name} is {reprlib.repr(value)}, of type {type(value).__name__}; give a "
            f"whole number: {allowed}"
        )
    if least is not None and number < least:
        raise UserError(f"{name} is {number}; give {allowed}")
    return number


def file_path(name: str, value: Any) -> Path:
    """Return a user's path of a file or folder, which need not exist.

    Args:
        name: what error messages call it.
        value: what was given.

    Raises:
        UserError: it is no path, an empty one, or one that no file system has.
    """
    if not isinstance(value, str | os.PathLike):
        raise UserError(
            f"{name} is {reprlib.repr(value)}, of type {type(value).__name__}; give a "
            "path"
        )
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"{name} is {text!r}; give the path of a file or folder")
    return Path(text)


def tell_of_zero_rows(name: str, values: np.ndarray) -> None:
    """Warn of embeddings that are zero as a whole, as those of lost images often are.

    Args:
        name: what the message calls the embeddings.
        values: (N, d).
    """
    is_zero = np.concatenate(
        [
            ~values[start : start + _ROWS_CHECKED].any(axis=1)
            for start in range(0, len(values), _ROWS_CHECKED)
        ]
    )
    if is_zero.any():
        progress.warning(
            "%s: %d of %d embeddings are all zero, first that of row %d (from 0): leave "
            "out images that were not embedded",
            name,
            is_zero.sum(),
            len(values),
            is_zero.argmax(),
        )


def first_faint_row(values: np.ndarray, dtype: Any) -> int | None:
    """Return the first row of which a type keeps a few digits only, or nothing.

    Args:
        values: (N, d) floats, finite.
        dtype: the type that they are stored or computed in.

    Returns:
        The number of the first row without a normal number of that type that is not
        zero as a whole; None if there is none.
    """
    largest = np.maximum(values.max(axis=1), -values.min(axis=1))
    is_faint = (largest > 0) & (largest < np.finfo(dtype).smallest_normal)
    return int(is_faint.argmax()) if is_faint.any() else None
