"""The one reader of CSV files that people or other programs wrote.

They are UTF-8, and may begin with a byte order mark, as those of spreadsheets do. The
mark is no part of the first field, quoted or not.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from sae.core import files

# What the functions below raise on a file that is no such table.
UNREADABLE = (OSError, ValueError, TypeError, OverflowError, KeyError, csv.Error)
_ENCODING = "utf-8-sig"  # It drops a byte order mark, if there is one.
_CHUNK = 16 << 20  # bytes in memory at a time


def open_text(path: str | Path) -> TextIO:
    """Open a text file; line ends stay as they are."""
    return open(files.regular(path), newline="", encoding=_ENCODING)


def read_rows(path: str | Path) -> Iterator[list[str]]:
    """Yield the fields of each row, the first row among them.

    Rows may differ in length.
    """
    with open_text(path) as file:
        yield from csv.reader(file)


def read_column(path: str | Path, column: str) -> Iterator[str] | None:
    """Return the values of one column, in order.

    Returns:
        None where the first row has no such column.
    """
    rows = read_rows(path)
    first_row = next(rows, [])
    if column not in first_row:
        return None
    place = first_row.index(column)
    # Empty rows hold nothing; a row that is too short holds an empty value.
    return (row[place] if place < len(row) else "" for row in rows if row)


def read_batches(
    path: str | Path, types: dict[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of any size, in batches.

    Args:
        types: {column: its type}, of the columns that are read.
    """
    # Arrow drops the mark by itself.
    reading = pa.csv.ReadOptions(block_size=_CHUNK)
    conversion = pa.csv.ConvertOptions(column_types=types, include_columns=list(types))
    with pa.csv.open_csv(path, reading, convert_options=conversion) as batches:
        yield from batches


def read_frame(path: str | Path, types: dict[str, Any]) -> pd.DataFrame:
    """Read a whole file.

    Only an empty field counts as missing, because a class may be called NA or None.

    Args:
        types: {column: its dtype}, of the columns whose type is known.
    """
    return pd.read_csv(
        files.regular(path),
        dtype=types,
        keep_default_na=False,
        na_values=[""],
        encoding=_ENCODING,
    )
