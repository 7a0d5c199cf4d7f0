"""One shard of the work on an extraction: which rows it embeds, and what it has done.

Each split is cut into batches, the splits' batches are laid end to end, and each shard
gets a share of them, as equal as can be, in a row. Until all shards are done its
embeddings lie in `{shard}-of-{shards}/` of the extraction's folder, a
`sae.data.parts.PartialArray` for each split. Beside them `provenance.json` says what
made them.
"""

import functools
import logging
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sae.core import files
from sae.data.extraction import Extraction
from sae.data.parts import PartialArray
from sae.data.splits import SPLITS

progress = logging.getLogger("sae.progress")


@dataclass(frozen=True)
class Shard:
    """One shard of an extraction.

    Attributes:
        extraction: the whole work.
        number: of this shard, from 0.
    """

    extraction: Extraction
    number: int

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.extraction.folder / f"{self.number}-of-{self._count}"

    @property
    def title(self) -> str:
        """The name by which messages call it."""
        if self._count == 1:
            return self.extraction.title
        return f"{self.extraction.title}, shard {self.number} of {self._count}"

    @property
    def _count(self) -> int:
        return self.extraction.job.shards

    @property
    def provenance_file(self) -> Path:
        """The record of what makes its embeddings; it is there once work has begun."""
        return self.folder / "provenance.json"

    def lock(self) -> AbstractContextManager[None]:
        """Return a context in which no other process works on this shard.

        Two processes would write into the same file.
        """
        say_that_it_waits = functools.partial(
            progress.info, "%s: waits for another process that embeds it", self.title
        )
        lock_file = self.extraction.folder / "locks" / f"{self.number}.of.{self._count}"
        return files.locked(lock_file, say_that_it_waits)

    def open_parts(self) -> dict[str, PartialArray]:
        """Open this shard's part of each split, {split: part}.

        Its folder is made if need be. Whole batches of an earlier process are kept, and
        what follows them is cut off (`sae.data.parts`).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        batch_size = self.extraction.batch_size
        rows_of_split = self.extraction.rows
        # (split, first row) of each batch of the whole work.
        batches = [
            (split, row)
            for split in SPLITS
            for row in range(0, len(rows_of_split[split]), batch_size)
        ]
        start = len(batches) * self.number // self._count
        end = len(batches) * (self.number + 1) // self._count

        parts = {}
        for split, rows in rows_of_split.items():
            # Where this shard has no batch of the split, its part is empty.
            first_row = len(rows)
            row_count = 0
            batch_starts = [row for name, row in batches[start:end] if name == split]
            if batch_starts:
                first_row = batch_starts[0]
                end_row = min(batch_starts[-1] + batch_size, len(rows))
                row_count = end_row - first_row
            file = self.folder / f"{split}.npy"
            parts[split] = PartialArray(file, row_count, first_row)
        return parts

    def is_complete(self) -> bool:
        """Say whether all rows of this shard are embedded."""
        if not self.provenance_file.exists():
            return False
        return all(part.complete for part in self.open_parts().values())

    def delete(self) -> None:
        """Delete all that this shard has done, if anything."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
