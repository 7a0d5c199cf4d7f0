"""How data stands in a file of the site: a classic script with one call, since a page on disk may not fetch."""

import base64
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

KINDS = {"f16": "<f2", "f32": "<f4", "u8": "u1", "u16": "<u2", "u32": "<u4"}
NONE = {"u16": 2**16 - 1, "u32": 2**32 - 1}
LARGEST = float(np.finfo(np.float16).max)


def put(folder: Path, name: str, payload: dict[str, Any]) -> None:
    """Write `folder`/data/`name`.js, which hands `payload` to the page under that name."""
    path = folder / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(name, payload), encoding="ascii")


def script(name: str, payload: dict[str, Any]) -> str:
    """The script, in ASCII: neither the page's encoding nor a `</script>`, a quote or U+2028 in a name can end it."""
    given, text = (
        json.dumps(name),
        json.dumps(plain(payload), separators=(",", ":"), allow_nan=False),
    )
    return f"SITE.put({given},{text});\n".replace("<", "\\u003c")


def plain(value: Any) -> Any:
    """What JSON can hold: numpy's numbers and arrays as Python's, what is no finite number as null."""
    if isinstance(value, dict):
        return {str(name): plain(of) for name, of in value.items()}
    if isinstance(value, list | tuple | np.ndarray | pd.Series):
        return [
            plain(of)
            for of in (value if isinstance(value, list | tuple) else value.tolist())
        ]
    if isinstance(value, np.generic):
        value = value.item()
    missing = (
        value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float) and not math.isfinite(value))
    )
    return None if missing else value


def packed(values: Any, kind: str) -> dict[str, str]:
    """An array of any shape, row after row, as base64 of gzip of little-endian numbers.

    Args:
        values: those of f16 are clipped to what it can hold; NaN stays.
        kind: one of `KINDS`.
    """
    found = np.asarray(values)
    found = np.clip(found, -LARGEST, LARGEST) if kind == "f16" else found
    raw = np.ascontiguousarray(found, dtype=KINDS[kind]).tobytes()
    return {
        "type": kind,
        "data": base64.b64encode(gzip.compress(raw, mtime=0)).decode("ascii"),
    }


def index(values: Any, count: int) -> dict[str, str]:
    """Places below `count`, packed as narrow as that allows; a negative one stands for none."""
    kind, found = "u16" if count <= NONE["u16"] else "u32", np.asarray(values)
    return packed(np.where(found < 0, NONE[kind], found), kind)
