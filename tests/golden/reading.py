"""What results say, as words and numbers, so that those of two runs can be compared.

A reading is a text with `#` in place of each number, and the numbers. Words must be the
same; numbers may differ as much as those of two processors do. Long lists of numbers
are summed up, so that a reading stays small.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report.site.reading import payload, unpacked

NUMBER = re.compile(r"(?<![\w.#])[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")
# A hash, which says with other letters what is compared here anyway.
HASH = re.compile(r"(?<![\w.])(?=\d*[a-f])[0-9a-f]{16,64}\b")
# Tables in Markdown are as wide as their numbers.
FILLING = re.compile(r"([ -])\1+")
# Of a page: what is drawn, and what makes it look as it does.
NOT_TEXT = re.compile(r"<(svg|style|script)\b.*?</\1>|data:[^\"')]*", re.DOTALL)
# Keys of JSON: times, versions and the machine.
NOT_COMPARED = {"provenance"}
MOST = 12  # numbers of a list that are kept one by one
MOST_ROWS = 60  # of a frame, likewise


def reading(path: Path) -> tuple[str, list[float]]:
    """Return the words and the numbers of a result.

    Args:
        path: a file; of a data file of the site its name without `.js`.
    """
    match path.suffix:
        case ".parquet":
            text = of_frame(pd.read_parquet(path))
        case ".json":
            text = as_text(json.loads(path.read_text(encoding="utf-8")))
        case ".js":
            site, name = str(path.with_suffix("")).split("/data/")
            text = as_text(payload(Path(site), name))
        case ".html":
            text = NOT_TEXT.sub("", path.read_text(encoding="utf-8"))
        case _:
            text = path.read_text(encoding="utf-8")
    return words_and_numbers(text)


def words_and_numbers(text: str) -> tuple[str, list[float]]:
    """Return a text with `#` in place of its numbers, and the numbers."""
    text = FILLING.sub(r"\1", HASH.sub("HASH", text))
    numbers = [number.replace("−", "-") for number in NUMBER.findall(text)]
    return NUMBER.sub("#", text), [float(number) for number in numbers]


def of_frame(frame: pd.DataFrame) -> str:
    """Return a frame as a CSV; if it is long, what its columns hold by method.

    Pictures are left out.
    """
    holds_bytes = frame.map(lambda value: isinstance(value, bytes)).any()
    frame = frame.loc[:, ~holds_bytes]
    if len(frame) <= MOST_ROWS:
        return frame.to_csv(index=False)
    lines = []
    methods = frame["method"] if "method" in frame else pd.Series("all", frame.index)
    for method, rows in frame.groupby(methods):
        lines.append(f"{method}: {len(rows)} rows")
        for name, column in rows.items():
            summary = summed_up(column) if is_numeric(column) else words_of(column)
            lines.append(f"  {name}: {summary}")
    return "\n".join(lines)


def is_numeric(column: pd.Series) -> bool:
    """Say whether a column holds numbers, and no truth values."""
    return pd.api.types.is_numeric_dtype(column) and column.dtype != bool


def words_of(column: pd.Series) -> str:
    """Return how often each value of a column is there."""
    counts = column.map(str).value_counts().sort_index()
    if len(counts) > MOST:
        return f"{len(counts)} values"
    return ", ".join(f"{value} {count}x" for value, count in counts.items())


def summed_up(values: Any) -> str:
    """Return what changes if one of many numbers does, or two change places."""
    array = np.asarray(values, dtype=float)
    present = array[np.isfinite(array)]
    if not present.size:
        return f"0 of {array.size}"
    place = np.arange(1, present.size + 1)
    figures = (present.mean(), present.std(), present.min(), present.max())
    figures += (present @ place / place.sum(),)
    return f"{present.size} of {array.size}: " + " ".join(f"{f:.6g}" for f in figures)


def as_text(value: Any) -> str:
    """Return JSON a line for each value, its long lists of numbers summed up."""
    return json.dumps(shortened(value), indent=1, ensure_ascii=False)


def shortened(value: Any) -> Any:
    """Return JSON with long lists of numbers summed up, packed ones as well."""
    if isinstance(value, dict):
        if value.keys() == {"type", "data"}:
            return f"{value['type']} {summed_up(unpacked(value))}"
        compared = {k: part for k, part in value.items() if k not in NOT_COMPARED}
        return {key: shortened(part) for key, part in compared.items()}
    if not isinstance(value, list):
        return value
    if any(isinstance(part, bool | str | list | dict) for part in value):
        return [shortened(part) for part in value]
    numbers = [np.nan if number is None else number for number in value]
    if len(value) > MOST:
        return summed_up(numbers)
    return " ".join("-" if number is None else f"{number:.6g}" for number in value)
