"""What a metric has computed, kept between jobs."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa

from sae.core import files
from sae.core.errors import UserError

log = logging.getLogger(__name__)


class RowStore:
    """What a metric gave for each SAE and split, by key, in one file that is replaced whole.

    Columns: `key`; `row`, the result as JSON. A file that was altered counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._used, self._in_file = path, set[str](), dict[str, str]()
        if path.exists():
            try:
                self._in_file = {
                    row["key"]: row["row"] for row in files.read_table(path).to_pylist()
                }
            except UserError as error:
                log.warning("%s; its rows are computed again", error)
        self._rows = dict(self._in_file)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Add a row."""
        self._rows[key] = json.dumps(row)

    def use(self, key: str) -> dict[str, Any]:
        """The row of a key."""
        self._used.add(key)
        return json.loads(self._rows[key])

    def write(self, prune: bool) -> None:
        """Replace the file, unless it holds just this; with `prune` rows that were not used are dropped."""
        kept = {
            key: row
            for key, row in self._rows.items()
            if key in self._used or not prune
        }
        if kept != self._in_file:
            files.write_parquet(
                self.path, pa.table({"key": [*kept], "row": [*kept.values()]})
            )
