"""How data stands in a file of the site.

A file is a classic script with one call, since a page on disk may not fetch.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sae.core.errors import UserError

KINDS = {"f16": "<f2", "f32": "<f4", "u8": "u1", "u16": "<u2", "u32": "<u4"}
NONE = {"u16": 2**16 - 1, "u32": 2**32 - 1}
LARGEST = float(np.finfo(np.float16).max)


def put(folder: Path, name: str, payload: dict[str, Any]) -> None:
    """Write `folder`/data/`name`.js, which hands a payload to the page by that name."""
    path = folder / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(name, payload), encoding="ascii")


def script(name: str, payload: dict[str, Any]) -> str:
    """Return the script, in ASCII.

    Neither the page's encoding nor a `</script>`, a quote or U+2028 in a name can end
    it.
    """
    name_text = json.dumps(name)
    payload_text = json.dumps(plain(payload), separators=(",", ":"), allow_nan=False)
    return f"SITE.put({name_text},{payload_text});\n".replace("<", "\\u003c")


def read_payload(folder: Path, name: str) -> Any:
    """Return the payload of `folder`/data/`name`.js, which :func:`put` wrote.

    Packed arrays stay packed.

    Raises:
        UserError: the file is not there, or is not of this form.
    """
    path = folder / "data" / f"{name}.js"
    start = f"SITE.put({json.dumps(name)},"
    try:
        text = path.read_text(encoding="ascii")
        if not text.startswith(start):
            raise ValueError(f"it does not begin with {start}")
        return json.loads(text.removeprefix(start).rstrip().removesuffix(");"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} was altered or cut short: {error}") from None


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value.

    Numbers and arrays of numpy become Python's; what is no finite number becomes None.
    """
    if isinstance(value, dict):
        return {str(key): plain(element) for key, element in value.items()}
    if isinstance(value, np.ndarray | pd.Series):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def packed(values: Any, kind: str) -> dict[str, str]:
    """Pack an array of any shape, row after row.

    Args:
        values: Numbers; those of f16 are clipped to what it can hold; NaN stays.
        kind: One of `KINDS`.

    Returns:
        `type`, the kind, and `data`, base64 of gzip of little-endian numbers.
    """
    array = np.asarray(values)
    if kind == "f16":
        array = np.clip(array, -LARGEST, LARGEST)
    raw_bytes = np.ascontiguousarray(array, dtype=KINDS[kind]).tobytes()
    compressed = gzip.compress(raw_bytes, mtime=0)
    return {"type": kind, "data": base64.b64encode(compressed).decode("ascii")}


def unpacked(array: Mapping[str, str]) -> np.ndarray:
    """Return the numbers of a packed array, flat."""
    raw_bytes = gzip.decompress(base64.b64decode(array["data"]))
    return np.frombuffer(raw_bytes, KINDS[array["type"]])


def index(values: Any, count: int) -> dict[str, str]:
    """Pack places below `count`, as narrow as that allows.

    A negative place stands for none.
    """
    places = np.asarray(values)
    kind = "u16" if count <= NONE["u16"] else "u32"
    return packed(np.where(places < 0, NONE[kind], places), kind)
