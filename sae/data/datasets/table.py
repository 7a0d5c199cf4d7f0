"""Embeddings without images: `root/{train,val,test}.csv`, one row an image.

Rows are in the order of the embeddings' rows. The column `image_id` is required;
`label`, `label_name`, `label_coarse`, `label_coarse_name` and `group` are optional.
"""

import itertools
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
# {column: its type}, of the columns that a file may have; the first one is required.
_TYPES = {
    column: "Int64" if column in ("label", "label_coarse") else "str"
    for column in COLUMNS
    if column not in ("path", "split")
}


class Options(options.Options):
    """The options of such a dataset."""

    root: str
    """The folder of train.csv, val.csv and test.csv, and of given embeddings."""


def load(spec: Options, _artifacts_root: str | Path | None) -> Dataset:
    """Read the tables of all splits; see `sae.data.datasets`.

    Raises:
        UserError: a table is missing or not right, they have other columns, or a class
            has other numbers in them.
    """
    root = indexing.root(spec.root)
    table_of_split = {split: _read_table(root / f"{split}.csv") for split in SPLITS}
    columns = {split: list(table.columns) for split, table in table_of_split.items()}
    if any(set(columns[split]) != set(columns["train"]) for split in SPLITS):
        raise UserError(
            f"table {root}: the files have different columns: {columns}; give all of "
            "them the same"
        )
    rows = pd.concat(table_of_split, names=["split"])
    rows = rows.reset_index("split").reset_index(drop=True)
    optional_columns = {
        column: rows[column].array
        for column in rows
        if column not in ("image_id", "split")
    }
    for column in ("label", "label_coarse"):
        _check_numbers_of_names(root, rows, column)
    if "label" in optional_columns:
        optional_columns["label"] = optional_columns["label"].astype("int64")
    index = indexing.frame(
        rows["image_id"], rows["image_id"], rows["split"], **optional_columns
    )
    return Dataset(index, grouped=not index["group"].is_unique)


def _check_numbers_of_names(root: Path, rows: pd.DataFrame, column: str) -> None:
    """Check that a class of one name has a number in common in all splits."""
    # Two classes may share a name, as two of ImageNet's do.
    name_column = f"{column}_name"
    if not {column, name_column} <= set(rows):
        return
    pairs = rows.dropna(subset=[column, name_column])
    pairs = pairs.drop_duplicates(["split", column, name_column])
    several = pairs.groupby(name_column)[column].transform("nunique") > 1
    for name, of_name in pairs[several].groupby(name_column):
        numbers_of_split = {
            split: set(in_split[column].tolist())
            for split, in_split in of_name.groupby("split", sort=False)
        }
        for first, second in itertools.combinations(numbers_of_split, 2):
            if numbers_of_split[first].isdisjoint(numbers_of_split[second]):
                raise UserError(
                    f"table {root}: {name_column} {name!r} has the {column} "
                    f"{sorted(numbers_of_split[first])} in {first}.csv and "
                    f"{sorted(numbers_of_split[second])} in {second}.csv: number the "
                    "classes of all splits together"
                )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = csv_tables.read_frame(path, _TYPES)
    except FileNotFoundError:
        raise UserError(
            f"table {path.parent}: no {path.name}, expected train.csv, val.csv and "
            "test.csv"
        ) from None
    except csv_tables.UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as a table: {reason}; labels are integers from 0 "
            "to 2^63 - 1"
        ) from None
    # pandas takes the first columns for row names if there are more fields than names.
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(
            f"{path}: its rows have more fields than its first line: quote fields that "
            "hold commas"
        )
    unknown = [column for column in table if column not in _TYPES]
    if unknown or "image_id" not in table:
        raise UserError(
            f"{path} has the columns {list(table)}, expected image_id and as needed "
            f"{list(_TYPES)[1:]}"
        )
    # Labels are there for all rows or, if the column is left out, for none.
    for column in ("image_id", "label", "group"):
        if column not in table:
            continue
        is_empty = table[column].isna()
        if is_empty.any():
            row = int(is_empty.to_numpy().argmax())
            raise UserError(
                f"{path}: {column} is empty in row {row + 1}: fill it, or leave out "
                "the column"
            )
    for column in table.select_dtypes("str"):
        has_spaces = (table[column] != table[column].str.strip()) & table[
            column
        ].notna()
        if has_spaces.any():
            row = int(has_spaces.to_numpy().argmax())
            raise UserError(
                f"{path}: {column} is {table[column][row]!r} in row {row + 1}, with "
                "spaces around it, which make it another text: remove them"
            )
    return table
