"""Notice that code changes what it was only given to read.

Arrays of NumPy can refuse to be written; tensors cannot, nor can an array through a
tensor that shares its memory. So these are looked at before and after.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# Rows of an array that are compared. What works in place most often changes all.
_COMPARED = 16

# The type, a tensor's number of changes, and the bytes of some rows.
State = tuple[str, int | None, bytes]


def read_only(array: np.ndarray) -> np.ndarray:
    """Return an array that cannot be written, of the same memory.

    The array itself, which may be a caller's, stays as it is.
    """
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def state_of(array: "np.ndarray | Tensor", compare_rows: bool = True) -> State:
    """Return what is another value after `array` was changed.

    Changes by PyTorch's own functions are all noticed. Others (`tensor.data`,
    `tensor.numpy()`) are where they reach one of some rows, evenly spaced.

    Args:
        array: the array or tensor.
        compare_rows: whether rows are looked at, which waits for a GPU.
    """
    changes = None
    if not isinstance(array, np.ndarray) and not array.is_inference():
        changes = array._version
    if not compare_rows:
        return str(array.dtype), changes, b""
    rows: Any = array if array.ndim else array[None]
    rows = rows[:: max(1, len(rows) // _COMPARED)]
    if not isinstance(array, np.ndarray):
        # float, since NumPy lacks bfloat16.
        rows = rows.detach().cpu()
        rows = (rows.float() if rows.is_floating_point() else rows).numpy()
    return str(array.dtype), changes, rows.tobytes()


def lock(value: Any) -> "Iterator[np.ndarray | Tensor]":
    """Make all arrays in a value read-only; yield them and its tensors.

    Args:
        value: arrays, tensors and sparse matrices, also in tuples, lists, mappings and
            dataclasses. Memory maps are left out, and so is anything else.
    """
    if isinstance(value, np.memmap):
        return
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
        yield value
    elif hasattr(value, "is_inference"):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from lock(part)
    elif isinstance(value, Mapping):
        yield from lock(list(value.values()))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from lock(getattr(value, field.name))
    elif hasattr(value, "indptr"):
        yield from lock([value.data, value.indices, value.indptr])
