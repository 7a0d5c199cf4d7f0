"""The store that keeps between jobs what a metric has computed."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa

from sae.core import files
from sae.core.errors import UserError

log = logging.getLogger(__name__)


class RowStore:
    """Rows that a metric gave, one for each SAE and split, in a file replaced whole.

    Its columns are `key` and `row`, what the metric gave as JSON. A file that was
    altered counts as empty.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # {key: row as JSON}
        self._rows_in_file: dict[str, str] = {}
        if path.exists():
            try:
                for record in files.read_table(path).to_pylist():
                    self._rows_in_file[record["key"]] = record["row"]
            except UserError as error:
                log.warning("%s; its rows are computed again", error)
        self._rows = dict(self._rows_in_file)
        self._used_keys: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Add a row."""
        self._rows[key] = json.dumps(row)

    def use(self, key: str) -> dict[str, Any]:
        """Return the row of a key, and note that it is used."""
        self._used_keys.add(key)
        return json.loads(self._rows[key])

    def write(self, prune: bool) -> None:
        """Replace the file, unless it holds just these rows.

        Args:
            prune: whether to drop rows that were not used.
        """
        rows = self._rows
        if prune:
            rows = {key: row for key, row in rows.items() if key in self._used_keys}
        if rows != self._rows_in_file:
            table = pa.table({"key": list(rows.keys()), "row": list(rows.values())})
            files.write_parquet(self.path, table)
