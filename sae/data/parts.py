"""Rows that are written batch by batch and survive a kill: a `.npy` file, and a journal with a checksum of each batch.

A process that continues a part checks every batch against the journal, and appends after the last whole batch. The
journal's first line, which says what the bytes mean, goes into every checksum.
"""

import io
import json
import zlib
from pathlib import Path

import numpy as np

from sae.core import files
from sae.core.errors import UserError

Kind = tuple[int, np.dtype]  # d, and the type of the numbers


class Part:
    """An array (rows, d) that is being written to `path`; the journal is `path` + `.journal`.

    Attributes:
        rows: the number of rows of the whole array.
        done: the number of rows that are written.
        kind: the array's d and dtype; None before the first batch.
    """

    def __init__(self, path: str | Path, rows: int) -> None:
        self.path, self.journal, self.rows, self.done = (
            Path(path),
            Path(f"{path}.journal"),
            rows,
            0,
        )
        self.kind: Kind | None = None
        self._resume()

    @property
    def complete(self) -> bool:
        """Whether all rows are written."""
        return self.done == self.rows

    def append(self, batch: np.ndarray) -> None:
        """Add a batch (n, d) and its line in the journal.

        Raises:
            UserError: d or dtype differ from those of the first batch, or there would be more than `rows` rows.
        """
        kind, done = (batch.shape[1], batch.dtype), self.done + len(batch)
        if self.kind not in (None, kind):
            raise UserError(
                f"{self.path}: the backbone gave d and type {kind} after others"
            )
        if done > self.rows:
            raise UserError(f"{self.path}: {done} embeddings for {self.rows} images")
        content, head = np.ascontiguousarray(batch).tobytes(), _head(self.rows, kind)
        line, mode = (
            {"rows": len(batch), "crc32": _crc32(head, content)},
            "a" if self.kind else "w",
        )
        with (
            files.writing(self.path),
            open(self.path, f"{mode}b") as file,
            open(self.journal, mode) as journal,
        ):
            if not self.kind:
                file.write(header(self.rows, kind))
                journal.write(head + "\n")
            file.write(content)
            journal.write(json.dumps(line) + "\n")
        self.kind, self.done = kind, done

    def _resume(self) -> None:
        try:
            head, *lines = self.journal.read_text().split("\n")[
                :-1
            ]  # Text after the last line break was cut short.
            about, kept, done = json.loads(head), [head], 0
            kind = about["shape"][1], np.dtype(about["dtype"])
            start, width = header(self.rows, kind), kind[0] * kind[1].itemsize
            with open(self.path, "rb+") as file:
                if file.read(len(start)) != start:
                    return
                for line in map(json.loads, lines):
                    content = file.read(line["rows"] * width)
                    if _crc32(head, content) != line["crc32"]:
                        break
                    kept.append(json.dumps(line))
                    done += len(content) // width
                file.truncate(len(start) + done * width)
        except (FileNotFoundError, ValueError, LookupError, TypeError, SyntaxError):
            return  # There is no header or no readable line: start anew.
        if done:
            self.kind, self.done = kind, done
            files.write_text(self.journal, "".join(line + "\n" for line in kept))


def _head(rows: int, kind: Kind) -> str:
    return json.dumps({"shape": (rows, kind[0]), "dtype": kind[1].str})


def _crc32(head: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(head.encode()))


def header(rows: int, kind: Kind) -> bytes:
    """The header of a `.npy` file of so many rows, which come after it."""
    stream = io.BytesIO()
    about = {
        "descr": np.lib.format.dtype_to_descr(kind[1]),
        "fortran_order": False,
        "shape": (rows, kind[0]),
    }
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()
