"""The store that keeps between jobs what a metric has computed."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sae.core import files
from sae.core.errors import UserError
from sae.scoring.subject import Curve

log = logging.getLogger(__name__)

Scalar = bool | int | float | str | None

# The columns of a store's file that hold values, of which a record fills one.
_VALUE_COLUMNS = {
    "flags": pa.bool_(),
    "integers": pa.int64(),
    "floats": pa.float64(),
    "texts": pa.string(),
}
_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "table": pa.string(),
        "name": pa.string(),
        "axis": pa.string(),
        **{name: pa.list_(value) for name, value in _VALUE_COLUMNS.items()},
    }
)
# Texts repeat, numbers hardly do: a dictionary of them would only take space.
_WRITER_OPTIONS = {
    "compression": "zstd",
    "use_dictionary": ["key", "table", "name", "axis", "texts.list.element"],
}
# Stores of earlier versions hold a row of scores as JSON.
_COLUMNS_OF_JSON = ["key", "row"]


@dataclass
class MetricScores:
    """Scores that one metric gave of one SAE on one split.

    Arrays are of the type that their values have together: booleans, integers of 64
    bits, floats of 64 bits or texts; of `pa.null()` where all values are None.

    Attributes:
        scalars: {column of metrics: its value}.
        curves: {curve: its points, in arrays}.
        latents: {column of latents: a value for each latent}.
    """

    scalars: dict[str, Scalar] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    latents: dict[str, pa.Array] = field(default_factory=dict)


class RowStore:
    """Rows that a metric gave, one for each SAE and split, in a file replaced whole.

    A row has a record in the file for each of its scalars, each axis of its curves and
    each column of latents, in the order in which the metric gave them. The columns of
    the file are

    - `key`, of the row,
    - `table`, the attribute of :class:`MetricScores` that the record belongs to
      (columns of latents stand under `of_judged` in older files, too),
    - `name`, of the scalar, the curve or the column of latents,
    - `axis`, x or y, of a curve,
    - `flags`, `integers`, `floats` and `texts`: lists of values. One of them is filled;
      a scalar is a list of one.

    A row of a metric that gave nothing has a record with a key alone. A file that was
    altered counts as empty, one that holds rows as JSON is read.

    Attributes:
        path: the file, named for the metric.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, MetricScores] = {}
        # The keys of the file; None if it must be written anew whatever its keys are.
        self._keys_in_file: set[str] | None = set()
        self._used_keys: set[str] = set()
        if path.exists():
            self._read_file()

    def _read_file(self) -> None:
        try:
            table = files.read_table(self.path)
        except UserError as error:
            log.warning("%s; its rows are computed again", error)
            return
        if table.column_names == _SCHEMA.names:
            self._rows = _read_rows(table)
            self._keys_in_file = set(self._rows)
        elif table.column_names == _COLUMNS_OF_JSON:
            self._rows = _read_rows_as_json(table)
            self._keys_in_file = None
        else:
            log.warning(
                "%s has the columns of another version; its rows are computed again",
                self.path,
            )

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def add(self, key: str, row: MetricScores) -> None:
        """Add the row of a key that the store lacks."""
        self._rows[key] = row

    def use(self, key: str) -> MetricScores:
        """Return the row of a key, and note that it is used."""
        self._used_keys.add(key)
        return self._rows[key]

    def write(self, prune: bool) -> None:
        """Replace the file, unless it holds just these rows.

        Args:
            prune: whether to drop rows that were not used.
        """
        rows = self._rows
        if prune:
            rows = {key: row for key, row in rows.items() if key in self._used_keys}
        # A key says what its row is.
        if rows.keys() != self._keys_in_file:
            records = [
                record
                for key, row in rows.items()
                for record in _list_records(key, row)
            ]
            table = pa.concat_tables(
                [_scalars_to_table(rows), _arrays_to_table(records)]
            )
            files.write_parquet(self.path, table, **_WRITER_OPTIONS)
            self._keys_in_file = set(rows)


class _Record(NamedTuple):
    """A record of a store's file that holds an axis of a curve or a column of latents.

    The attributes but `values` are columns of the file (:class:`RowStore`).
    """

    key: str
    table: str
    name: str
    axis: str | None
    values: pa.Array


def _list_records(key: str, row: MetricScores) -> Iterator[_Record]:
    """Yield the records of a row that hold arrays."""
    for name, points in row.curves.items():
        yield _Record(key, "curves", name, "x", points.x)
        yield _Record(key, "curves", name, "y", points.y)
    for name, values in row.latents.items():
        yield _Record(key, "latents", name, None, values)


def _scalars_to_table(rows: Mapping[str, MetricScores]) -> pa.Table:
    """Return records of the scalars; the key alone of a row that has none."""
    keys: list[str] = []
    names: list[str | None] = []
    values: list[Scalar] = []
    for key, row in rows.items():
        keys += [key] * max(len(row.scalars), 1)
        names += row.scalars or [None]
        values += row.scalars.values() or [None]

    columns: dict[str, list[Any]] = {
        "key": keys,
        "table": [None if name is None else "scalars" for name in names],
        "name": names,
        "axis": [None] * len(names),
    }
    value_columns = [_value_column(value) for value in values]
    for name in _VALUE_COLUMNS:
        columns[name] = [
            [value] if column == name else None
            for value, column in zip(values, value_columns, strict=True)
        ]
    return pa.table(columns, _SCHEMA)


def _value_column(value: Scalar) -> str | None:
    # A bool is an int, too.
    if isinstance(value, bool):
        return "flags"
    if isinstance(value, int):
        return "integers"
    if isinstance(value, float):
        return "floats"
    return None if value is None else "texts"


def _arrays_to_table(records: Sequence[_Record]) -> pa.Table:
    columns: dict[str, Any] = {
        "key": [record.key for record in records],
        "table": [record.table for record in records],
        "name": [record.name for record in records],
        "axis": [record.axis for record in records],
    }
    for column, value_type in _VALUE_COLUMNS.items():
        # Where all values are None they have no type, and lie among the texts.
        types = {value_type, pa.null()} if column == "texts" else {value_type}
        is_own = np.array([record.values.type in types for record in records], bool)
        own_arrays = [pa.array([], value_type)]
        lengths = np.zeros(len(records), np.int32)
        for place in np.flatnonzero(is_own).tolist():
            own_arrays.append(records[place].values.cast(value_type))
            lengths[place] = len(own_arrays[-1])
        columns[column] = pa.ListArray.from_arrays(
            np.concatenate([[0], lengths.cumsum()]).astype(np.int32),
            pa.concat_arrays(own_arrays),
            mask=pa.array(~is_own),
        )
    return pa.table(columns, _SCHEMA)


def _read_rows(table: pa.Table) -> dict[str, MetricScores]:
    has_array = pc.fill_null(pc.not_equal(table["table"], "scalars"), False)
    rows = _read_scalars(table.filter(pc.invert(has_array)))
    _read_arrays(table.filter(has_array), rows)
    return rows


def _read_scalars(table: pa.Table) -> dict[str, MetricScores]:
    values: list[Scalar] = [None] * len(table)
    for column in _VALUE_COLUMNS:
        column_values = pc.list_element(table[column], 0)
        places = np.flatnonzero(column_values.is_valid())
        for place, value in zip(
            places.tolist(), column_values.drop_null().to_pylist(), strict=True
        ):
            values[place] = value

    rows: dict[str, MetricScores] = {}
    keys, names = (table[column].to_pylist() for column in ("key", "name"))
    for key, name, value in zip(keys, names, values, strict=True):
        row = rows.get(key)
        if row is None:
            row = rows[key] = MetricScores()
        if name is not None:
            row.scalars[name] = value
    return rows


def _read_arrays(table: pa.Table, rows: Mapping[str, MetricScores]) -> None:
    """Add curves and columns of latents to rows."""
    values: list[pa.Array] = [None] * len(table)
    for column in _VALUE_COLUMNS:
        lists = table[column].combine_chunks()
        for place in np.flatnonzero(lists.is_valid()).tolist():
            array = lists[place].values
            is_typed = array.null_count < len(array)
            values[place] = array if is_typed else pa.nulls(len(array))

    places = (table[column].to_pylist() for column in ("key", "name", "axis"))
    for key, name, axis, array in zip(*places, values, strict=True):
        if axis == "x":
            # The record of y follows.
            x = array
        elif axis == "y":
            rows[key].curves[name] = Curve(x, array)
        else:
            rows[key].latents[name] = array


def _read_rows_as_json(table: pa.Table) -> dict[str, MetricScores]:
    rows = {}
    for key, text in zip(*(column.to_pylist() for column in table), strict=True):
        row = json.loads(text)
        checked = MetricScores(row["scalars"])
        try:
            for name, points in row["curves"].items():
                checked.curves[name] = Curve(
                    pa.array(points["x"]), pa.array(points["y"])
                )
            for name, values in (row["latents"] | row.get("of_judged", {})).items():
                checked.latents[name] = pa.array(values)
        except pa.ArrowException:
            # A list mixes numbers and texts, which a table cannot hold.
            continue
        rows[key] = checked
    return rows
