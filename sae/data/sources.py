"""Sources of the embeddings of a dataset: a backbone makes them, or they are given.

Both kinds are an `EmbeddingSource`, which checks every batch before it is stored.
"""

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from sae.core import arguments, files
from sae.core.errors import UserError
from sae.data import backbone_entries, pictures
from sae.data import dataset as datasets
from sae.data.backbone import Backbone
from sae.data.extraction import Extraction
from sae.data.forward import embed_images

progress = logging.getLogger("sae.progress")


class EmbeddingSource(ABC):
    """The embeddings of a dataset, split by split, in the order of its index.

    Args:
        extraction: the dataset and the backbone.
    """

    def __init__(self, extraction: Extraction) -> None:
        self.extraction = extraction

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of what decides an embedding beside the key of the folder.

        That is the weights, or the given files.
        """

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return what a split's manifest says of this source alone."""

    @abstractmethod
    def _unchecked_batches(
        self, split: str, first_row: int, end_row: int
    ) -> Iterator[Float[np.ndarray, "n d"]]:
        """Yield what :meth:`batches` checks."""

    def files_by_split(self) -> dict[str, Path]:
        """Return {split: file} of embeddings that lie in files."""
        return {}

    def batches(
        self, split: str, first_row: int, end_row: int
    ) -> Iterator[Float[np.ndarray, "n d"]]:
        """Yield embeddings (n, d) in the type in which they are stored.

        A warning says how many are zero as a whole, as those of lost images often are.

        Args:
            split: of the dataset.
            first_row: the first row of the split that is embedded.
            end_row: the row behind the last one.

        Raises:
            UserError: an image cannot be read, or what :meth:`check` raises.
        """
        row = first_row
        zero_rows: list[int] = []
        for batch in self._unchecked_batches(split, first_row, end_row):
            checked = self.check(batch, split, row)
            zero_rows += (row + np.flatnonzero(~checked.any(axis=1))).tolist()
            yield checked
            row += len(batch)
        if zero_rows:
            progress.warning(
                "%s: %d of %d %s embeddings are all zero, such as row %d (from 0): leave "
                "out images that were not embedded",
                self.extraction.title,
                len(zero_rows),
                row - first_row,
                split,
                zero_rows[0],
            )

    def check(
        self, batch: np.ndarray, split: str, first_row: int
    ) -> Float[np.ndarray, "n d"]:
        """Return a batch in the type in which it is stored.

        Args:
            batch: what the backbone or a file gave.
            split: of the dataset.
            first_row: the row of the split that the batch begins with.

        Raises:
            UserError: it does not have two dimensions, or holds no real numbers, or
                values that are not finite or too small as that type.
        """
        title = self.extraction.title
        if batch.ndim != 2 or batch.dtype.kind != "f":
            raise UserError(
                f"{title}: the backbone gave {batch.dtype} of shape {batch.shape}, not "
                "floats (n, d)"
            )
        backbone = self.extraction.backbone
        dtype: Any = np.float32
        if "dtype" in backbone.model_fields_set:
            dtype = backbone.spec["dtype"]
        elif batch.dtype == np.float16:
            dtype = np.float16  # Given embeddings stay so.
        stored = batch.astype(dtype)

        is_finite = np.isfinite(stored).all(axis=1)
        bad_row: int | None
        if not is_finite.all():
            bad_row = int(is_finite.argmin())
            fault = f"holds NaN or values not finite as {stored.dtype}"
        else:
            bad_row = arguments.first_faint_row(batch, stored.dtype)
            fault = (
                f"is too small for {stored.dtype}, which keeps few of its digits: "
                "multiply all embeddings by one number, or store them as float32"
            )
        if bad_row is None:
            return stored
        row = first_row + bad_row
        file = self.files_by_split().get(split, split)
        image_id = self.extraction.rows[split]["image_id"][row]
        raise UserError(f"{title}: row {row} (from 0) of {file}, {image_id!r}, {fault}")


class MadeEmbeddings(EmbeddingSource):
    """Embeddings that a backbone makes of images. It is loaded when it is needed."""

    @functools.cached_property
    def _backbone(self) -> Backbone:
        extraction = self.extraction
        try:
            return backbone_entries.load(
                extraction.backbone,
                extraction.job.artifacts_root,
                extraction.image_size,
            )
        except UserError as error:
            raise UserError(
                f"config key backbones.{extraction.job.name}: {error}"
            ) from None

    def fingerprint(self) -> str:
        """Return the hash of the backbone and its weights; this loads it."""
        return backbone_entries.fingerprint(
            self.extraction.backbone,
            self._backbone,
            self.extraction.job.artifacts_root,
        )

    def provenance(self) -> dict[str, Any]:
        """Return the preprocessing; this loads the backbone."""
        return {"preprocessing": str(self._backbone.transform)}

    def _unchecked_batches(
        self, split: str, first_row: int, end_row: int
    ) -> Iterator[Float[np.ndarray, "n d"]]:
        extraction = self.extraction
        job = extraction.job
        rows = extraction.rows[split][first_row:end_row]
        yield from embed_images(
            self._backbone,
            datasets.reader_of(extraction.dataset, job.artifacts_root),
            rows["path"].tolist(),
            batch_size=extraction.batch_size,
            device=job.device,
            workers=job.workers,
            precision=extraction.precision,
            digests=rows["pixels"].to_numpy(),
        )


class GivenEmbeddings(EmbeddingSource):
    """Embeddings that were made elsewhere, or that a formula gives, without images."""

    def files_by_split(self) -> dict[str, Path]:
        """Return {split: file}; none where no file holds them.

        Raises:
            UserError: a file does not exist.
        """
        extraction = self.extraction
        return extraction.backbone.entry_module.files(
            extraction.dataset.own_options, extraction.backbone.own_options
        )

    def fingerprint(self) -> str:
        """Return the hash of the files and of the backbone's entry."""
        hash_of_split = {
            split: files.sha256(file) for split, file in self.files_by_split().items()
        }
        return backbone_entries.fingerprint_of_weights(
            self.extraction.backbone, hash_of_split
        )

    def provenance(self) -> dict[str, Any]:
        """Return the preprocessing, none, and the rows that lie in several splits.

        Raises:
            UserError: there are such rows, and the dataset's entry does not allow them;
                or what :meth:`check` raises.
        """
        return {"preprocessing": "none", "duplicates": self._duplicates()}

    def _duplicates(self) -> list[dict[str, list[str]]]:
        extraction = self.extraction
        digests = []
        tables = []
        for split, rows in extraction.rows.items():
            tables.append(rows.assign(split=split))
            for batch in self.batches(split, 0, len(rows)):
                digests += [pictures.digest_bytes(row.tobytes()) for row in batch]
        return datasets.duplicates(
            extraction.title,
            "embeddings",
            pd.concat(tables, ignore_index=True),
            pd.Series(digests),
            extraction.dataset,
        )

    def _unchecked_batches(
        self, split: str, first_row: int, end_row: int
    ) -> Iterator[Float[np.ndarray, "n d"]]:
        extraction = self.extraction
        embeddings = extraction.backbone.entry_module.embeddings(
            extraction.dataset.own_options, extraction.backbone.own_options, split
        )
        row_count = len(extraction.rows[split])
        if len(embeddings) != row_count:
            raise UserError(
                f"{extraction.title}: {len(embeddings)} embeddings of {split} for "
                f"{row_count} rows"
            )
        for start in range(first_row, end_row, extraction.batch_size):
            yield embeddings[start : min(start + extraction.batch_size, end_row)]


def open_source(extraction: Extraction) -> EmbeddingSource:
    """Return where the embeddings of a dataset come from, by its backbone's loader."""
    if extraction.backbone.reads_images:
        return MadeEmbeddings(extraction)
    return GivenEmbeddings(extraction)
