"""What a row of scores is called, and tables of rows as parquet files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sae.core import files
from sae.core.errors import UserError

CELL = ["dataset", "backbone", "k"]
KEY = [*CELL, "method", "trial", "seed", "split"]


def columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names in `rows`, in the order in which they first come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def table(rows: list[dict[str, Any]], first: Iterable[str] = KEY) -> pa.Table:
    """Rows as a table with the columns `first` and then all others; what a row lacks is null, and integers stay so."""
    names = list(dict.fromkeys([*first, *columns(rows)]))
    return pa.table({name: pa.array([row.get(name) for row in rows], from_pandas=False) for name in names})


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """All rows of several tables; a column that one lacks is null there."""
    return pa.concat_tables(list(tables), promote_options="permissive").combine_chunks()


def write(what: pa.Table, path: Path) -> None:
    """Write a table; the same content gives the same bytes."""
    with files.atomic_file(path) as temporary:
        pq.write_table(what, temporary, write_page_checksum=True)


def read(path: Path) -> pa.Table:
    """Read a table that :func:`write` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise UserError(f"table {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no whole parquet file ({error}); delete it and run again") from None
