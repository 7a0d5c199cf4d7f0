"""Rows that arrive batch by batch and outlive a kill: a `.npy` file and a journal with a checksum for each batch.

The journal says what was written; a process that takes the part up again checks every batch against it and goes on
after the last whole one.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from sae.core import files


class Part:
    """An array (rows, d) on its way into `path`; the journal is `path` + `.journal`.

    Attributes:
        rows: how many rows it will have.
        done: how many it has.
        shape, dtype: of the whole array; None before the first batch.
    """

    def __init__(self, path, rows):
        self.path, self.journal, self.rows, self.done = Path(path), Path(f"{path}.journal"), rows, 0
        self.shape = self.dtype = None
        self._resume()

    @property
    def complete(self):
        """Whether all rows are there."""
        return self.done == self.rows

    def append(self, batch):
        """Add a batch (n, d) and its line in the journal.

        Raises:
            ValueError: another d or dtype than before, or more rows than there is room for.
        """
        first = self.shape is None
        if self.done + len(batch) > self.rows or not (
            first or (batch.shape[1], batch.dtype) == (self.shape[1], self.dtype)
        ):
            raise ValueError(f"{batch.dtype} {batch.shape} does not fit {self.path}, {self.done} of {self.rows} rows")
        content = np.ascontiguousarray(batch).tobytes()
        line = {"rows": len(batch), "crc32": zlib.crc32(content)}
        with files.writing(self.path):
            if first:
                self.shape, self.dtype = (self.rows, batch.shape[1]), batch.dtype
                with open(self.path, "wb") as file:
                    write_header(file, self.shape, self.dtype)
            with open(self.path, "ab") as file:
                file.write(content)
            with open(self.journal, "w" if first else "a") as file:
                if first:
                    file.write(json.dumps({"shape": self.shape, "dtype": batch.dtype.str}) + "\n")
                file.write(json.dumps(line) + "\n")
        self.done += len(batch)

    def data(self):
        """The file, opened where the rows begin."""
        file = open(self.path, "rb")  # noqa: SIM115 (the caller closes it)
        _skip_header(file)
        return file

    def _resume(self):
        if not (self.path.is_file() and self.journal.is_file()):
            return
        lines = self.journal.read_text().split("\n")[:-1]  # What follows the last line break was cut short.
        try:
            head = json.loads(lines[0])
            shape, dtype = tuple(head["shape"]), np.dtype(head["dtype"])
            if shape[0] != self.rows:
                return
            width, kept = shape[1] * dtype.itemsize, 1
            with open(self.path, "rb+") as file:
                _skip_header(file)
                end = file.tell()
                for line in map(json.loads, lines[1:]):
                    content = file.read(line["rows"] * width)
                    if len(content) != line["rows"] * width or zlib.crc32(content) != line["crc32"]:
                        break
                    self.done, end, kept = self.done + line["rows"], file.tell(), kept + 1
                file.truncate(end)
        except (ValueError, KeyError, IndexError):  # No header or no readable line: begin again.
            self.done = 0
            return
        self.shape, self.dtype = shape, dtype
        files.write_text(self.journal, "".join(line + "\n" for line in lines[:kept]))


def write_header(file, shape, dtype):
    """The header of a `.npy` file of this shape; the rows follow."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _skip_header(file):
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of the .npy format")
    np.lib.format.read_array_header_1_0(file)
