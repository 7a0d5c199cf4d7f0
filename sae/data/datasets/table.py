"""Embeddings without images: `root/{train,val,test}.csv`, one row an image, in the order of the embeddings' rows.

The column `image_id` is required; `label`, `label_name`, `label_coarse`, `label_coarse_name` and `group` are optional.
"""

from pathlib import Path

import pandas as pd

from sae.core import options
from sae.core.errors import UserError
from sae.data import csv_tables, indexing
from sae.data.dataset import COLUMNS, Dataset
from sae.data.splits import SPLITS

VERSION = 1
HAS_IMAGES = False
# The index is made of these files: a change in one rebuilds it.
FILES = ["{root}/train.csv", "{root}/val.csv", "{root}/test.csv"]
_TYPES = {
    c: "Int64" if c in ("label", "label_coarse") else "str"
    for c in COLUMNS
    if c not in ("path", "split")
}


class Options(options.Options):
    """What may be written of such a dataset."""

    root: str


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """See `sae.data.dataset.load`."""
    root = indexing.root(spec.root)
    tables = {split: _read(root / f"{split}.csv") for split in SPLITS}
    columns = {split: list(table.columns) for split, table in tables.items()}
    if any(set(columns[split]) != set(columns["train"]) for split in SPLITS):
        raise UserError(
            f"table {root}: the files have different columns: {columns}; give all of them the same"
        )
    rows = (
        pd.concat(tables, names=["split"]).reset_index("split").reset_index(drop=True)
    )
    given = {
        column: rows[column].array
        for column in rows
        if column not in ("image_id", "split")
    }
    if "label" in given:
        given["label"] = given["label"].astype("int64")
    index = indexing.frame(rows["image_id"], rows["image_id"], rows["split"], **given)
    return Dataset(index, grouped=not index["group"].is_unique)


def _read(path: Path) -> pd.DataFrame:
    try:
        table = csv_tables.read_frame(path, _TYPES)
    except FileNotFoundError:
        raise UserError(
            f"table {path.parent}: no {path.name}, expected train.csv, val.csv and test.csv"
        ) from None
    except csv_tables.UNREADABLE as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a table: {said}; labels are integers from 0 to 2^63 - 1"
        ) from None
    if not isinstance(
        table.index, pd.RangeIndex
    ):  # pandas then takes the first columns for row names.
        raise UserError(
            f"{path}: its rows have more fields than its first line: quote fields that hold commas"
        )
    unknown = [column for column in table if column not in _TYPES]
    if unknown or "image_id" not in table:
        raise UserError(
            f"{path} has the columns {list(table)}, expected image_id and as needed {list(_TYPES)[1:]}"
        )
    # Labels are there for all rows or, if the column is left out, for none.
    for column in ("image_id", "label", "group"):
        if column in table and table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax())
            raise UserError(
                f"{path}: {column} is empty in row {row + 1}: fill it, or leave out the column"
            )
    return table
