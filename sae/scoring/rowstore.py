"""What a metric has computed, kept between jobs; a row that was damaged is never believed."""

import json
import logging
from pathlib import Path
from typing import Any

from sae.core import files
from sae.scoring import rows

log = logging.getLogger(__name__)


class RowStore:
    """What a metric gave for each SAE and split, by key, in one file that is replaced whole.

    Columns: `key`; `row`, the result as JSON; `sha256`, of both. A row that does not fit its hash is left out on
    reading, and so are all rows of a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, str] = {}
        self._used: set[str] = set()
        self._in_file: dict[str, str] | None = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            stored = rows.read(self.path).to_pylist()
            self._rows = {r["key"]: r["row"] for r in stored if _hash(r["key"], r["row"]) == r["sha256"]}
        except Exception as error:  # Damaged bytes may raise anything in the reader.
            log.debug("%s: %s", self.path, error)
            stored = None
        self._in_file = dict(self._rows)
        if stored is None or len(self._rows) < len(stored):
            self._in_file = None
            log.warning("%s is damaged; what it lost is computed again", self.path)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Add a row."""
        self._rows[key] = json.dumps(row)

    def use(self, key: str) -> dict[str, Any]:
        """The row of a key."""
        self._used.add(key)
        return json.loads(self._rows[key])

    def write(self, prune: bool = True) -> None:
        """Replace the file, unless it holds just this; with `prune` rows that were not used are dropped."""
        kept = {key: row for key, row in self._rows.items() if key in self._used or not prune}
        if kept != self._in_file:
            content = [{"key": key, "row": row, "sha256": _hash(key, row)} for key, row in kept.items()]
            rows.write(rows.table(content, ("key", "row", "sha256")), self.path)


def _hash(key: str, row: str) -> str:
    return files.sha256_text(f"{key} {row}")
