"""Rows that are written batch by batch and survive a kill: a `.npy` file, and a journal with a checksum of each batch.

A process that continues a part checks every batch against the journal, and appends after the last whole batch. The
journal's first line, which says what the bytes mean, goes into every checksum.
"""

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from sae.core import files


class Part:
    """An array (rows, d) that is being written to `path`; the journal is `path` + `.journal`.

    Attributes:
        rows: the number of rows of the whole array.
        done: the number of rows that are written.
        shape, dtype: of the whole array; None before the first batch.
    """

    def __init__(self, path: str | Path, rows: int) -> None:
        self.path, self.journal, self.rows, self.done = Path(path), Path(f"{path}.journal"), rows, 0
        self.shape: tuple[int, int] | None = None
        self.dtype: np.dtype | None = None
        self._resume()

    @property
    def complete(self) -> bool:
        """Whether all rows are written."""
        return self.done == self.rows

    def append(self, batch: np.ndarray) -> None:
        """Add a batch (n, d) and its line in the journal.

        Raises:
            ValueError: d or dtype differ from those of the first batch, or there would be more than `rows` rows.
        """
        first = self.shape is None
        shape = (self.rows, batch.shape[1])
        if self.done + len(batch) > self.rows or not (first or (shape, batch.dtype) == (self.shape, self.dtype)):
            raise ValueError(f"{batch.dtype} {batch.shape} does not fit {self.path}, {self.done} of {self.rows} rows")
        content, head = np.ascontiguousarray(batch).tobytes(), _head(shape, batch.dtype)
        line = {"rows": len(batch), "crc32": _crc32(head, content)}
        with files.writing(self.path):
            if first:
                self.shape, self.dtype = shape, batch.dtype
                with open(self.path, "wb") as file:
                    write_header(file, shape, batch.dtype)
            with open(self.path, "ab") as file:
                file.write(content)
            with open(self.journal, "w" if first else "a") as journal:
                if first:
                    journal.write(head + "\n")
                journal.write(json.dumps(line) + "\n")
        self.done += len(batch)

    def data(self) -> IO[bytes]:
        """The file, opened and positioned at the first row; the caller closes it."""
        file = open(self.path, "rb")  # noqa: SIM115
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file

    def _resume(self) -> None:
        if not (self.path.is_file() and self.journal.is_file()):
            return
        try:
            lines = self.journal.read_text().split("\n")[:-1]  # Text after the last line break was cut short.
            head = json.loads(lines[0])
            shape, dtype = tuple(head["shape"]), np.dtype(head["dtype"])
            header = io.BytesIO()
            write_header(header, shape, dtype)
            width, kept, end = shape[1] * dtype.itemsize, 1, len(header.getvalue())
            with open(self.path, "rb+") as file:
                if shape[0] != self.rows or file.read(end) != header.getvalue():
                    return
                for line in map(json.loads, lines[1:]):
                    size = min(line["rows"], self.rows - self.done) * width
                    content = file.read(size)
                    if len(content) != line["rows"] * width or _crc32(lines[0], content) != line["crc32"]:
                        break
                    self.done, end, kept = self.done + line["rows"], file.tell(), kept + 1
                file.truncate(end)
        except (ValueError, KeyError, IndexError, TypeError, SyntaxError):
            # There is no header or no readable line: start anew.
            self.done = 0
        if self.done:
            self.shape, self.dtype = shape, dtype
            files.write_text(self.journal, "".join(line + "\n" for line in lines[:kept]))


def _head(shape: tuple[int, int], dtype: np.dtype) -> str:
    return json.dumps({"shape": shape, "dtype": dtype.str})


def _crc32(head: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(head.encode()))


def write_header(file: IO[bytes], shape: Sequence[int], dtype: np.dtype | str) -> None:
    """Write the header of a `.npy` file of this shape; the caller writes the rows after it."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
