"""Rows that are written batch by batch and survive a kill.

A `PartialArray` is a `.npy` file, and a journal with a checksum of each batch. A
process that continues one checks every batch against the journal, and appends after the
last whole batch. The journal's first line, which says what the bytes mean, goes into
every checksum.
"""

import io
import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sae.core import files
from sae.core.errors import UserError


class RowType(NamedTuple):
    """The type of an array's rows: the number of values in one, and their type."""

    d: int
    dtype: np.dtype

    @property
    def byte_count(self) -> int:
        """The number of bytes of one row."""
        return self.d * self.dtype.itemsize


class PartialArray:
    """An array (rows, d) that is being written.

    Args:
        path: its file; the journal is `path` + `.journal`. What is there already, and
            agrees with the journal, is kept.
        rows: the number of rows of the whole array.
        first_row: the row of a split that the array begins with.

    Attributes:
        path: its file.
        journal: the journal.
        rows: the number of rows of the whole array.
        first_row: the row of a split that the array begins with.
        rows_written: the number of rows that are written.
        row_type: the type of its rows; None before the first batch.
    """

    def __init__(self, path: str | Path, rows: int, first_row: int = 0) -> None:
        self.path = Path(path)
        self.journal = Path(f"{path}.journal")
        self.rows = rows
        self.first_row = first_row
        self.rows_written = 0
        self.row_type: RowType | None = None
        self._resume()

    @property
    def complete(self) -> bool:
        """True once all rows are written."""
        return self.rows_written == self.rows

    @property
    def next_row(self) -> int:
        """The first row of the split that is not written yet."""
        return self.first_row + self.rows_written

    @property
    def end_row(self) -> int:
        """The row of the split behind the last one of the array."""
        return self.first_row + self.rows

    def append(self, batch: Float[np.ndarray, "n d"]) -> None:
        """Add a batch and its line in the journal.

        Raises:
            UserError: d or dtype differ from those of the first batch, or there would
                be more than `rows` rows.
        """
        row_type = RowType(batch.shape[1], batch.dtype)
        if self.row_type not in (None, row_type):
            raise UserError(
                f"{self.path}: the backbone gave d and type {tuple(row_type)} after "
                "others"
            )
        rows_written = self.rows_written + len(batch)
        if rows_written > self.rows:
            raise UserError(
                f"{self.path}: {rows_written} embeddings for {self.rows} images"
            )

        content = np.ascontiguousarray(batch).tobytes()
        first_line = json.dumps(
            {"shape": (self.rows, row_type.d), "dtype": row_type.dtype.str}
        )
        line = {"rows": len(batch), "crc32": _crc32(first_line, content)}
        is_first = self.row_type is None
        mode = "w" if is_first else "a"
        with (
            files.writing(self.path),
            open(self.path, f"{mode}b") as file,
            open(self.journal, mode) as journal,
        ):
            if is_first:
                file.write(header(self.rows, row_type))
                journal.write(first_line + "\n")
            file.write(content)
            journal.write(json.dumps(line) + "\n")
        self.row_type = row_type
        self.rows_written = rows_written

    def _resume(self) -> None:
        """Take over the batches of an earlier process; cut off what follows them."""
        try:
            # Text after the last line break was cut short.
            first_line, *lines = self.journal.read_text().split("\n")[:-1]
            array = json.loads(first_line)
            row_type = RowType(array["shape"][1], np.dtype(array["dtype"]))
            good_lines = [first_line]
            rows_written = 0
            file_header = header(self.rows, row_type)
            with open(self.path, "rb+") as file:
                if file.read(len(file_header)) != file_header:
                    return
                for line in map(json.loads, lines):
                    content = file.read(line["rows"] * row_type.byte_count)
                    if _crc32(first_line, content) != line["crc32"]:
                        break
                    good_lines.append(json.dumps(line))
                    rows_written += len(content) // row_type.byte_count
                file.truncate(len(file_header) + rows_written * row_type.byte_count)
        except (FileNotFoundError, ValueError, LookupError, TypeError, SyntaxError):
            return  # There is no header or no readable line: start anew.
        if rows_written:
            self.row_type = row_type
            self.rows_written = rows_written
            files.write_text(self.journal, "".join(line + "\n" for line in good_lines))


def _crc32(first_line: str, content: bytes) -> int:
    """Return the checksum of a batch's bytes, which covers the first line too."""
    return zlib.crc32(content, zlib.crc32(first_line.encode()))


def header(rows: int, row_type: RowType) -> bytes:
    """Return the header of a `.npy` file of so many rows, which come after it."""
    stream = io.BytesIO()
    array = {
        "descr": np.lib.format.dtype_to_descr(row_type.dtype),
        "fortran_order": False,
        "shape": (rows, row_type.d),
    }
    np.lib.format.write_array_header_1_0(stream, array)
    return stream.getvalue()
