"""Images in the rows of parquet files: where each lies, its label, and its bytes."""

import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from sae.core import files
from sae.core.errors import UserError, in_one_line
from sae.data.sample import OTHER_JSON, Sample

# What is read of other people's JSON; whatever else is in it does no harm.
_NAMES: TypeAdapter[list[str] | None] = TypeAdapter(list[str] | None)


def open_parquet(path: str | Path, columns: Iterable[str] = ()) -> pq.ParquetFile:
    """Open a parquet file that has the columns `columns`.

    Raises:
        UserError: it is not parquet, is cut off, or lacks a column.
    """
    try:
        file = pq.ParquetFile(files.regular(path))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    names = file.schema_arrow.names
    for column in columns:
        count = names.count(column)
        if count != 1:
            how_many = "several columns" if count else "no column"
            raise UserError(
                f"{path} has {how_many} {column!r}; it has {', '.join(names)}: set "
                "image_column or label_column"
            )
    return file


def _damaged(path: str | Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a whole parquet file ({in_one_line(error)}): copy or download "
        "it again"
    )


def parquet_samples(
    root: Path, file: str, image_column: str, label_column: str | None
) -> Iterator[Sample]:
    """Yield the images of a parquet file in order, without reading their bytes.

    The key of an image is the path that the column records, or else the row's number.

    Args:
        root: the folder that `file` is relative to.
        file: the file.
        image_column: bytes, or a struct with the field `bytes` and perhaps `path`.
        label_column: class numbers; None: the column `label`, if there is one.

    Raises:
        UserError: the file is damaged, or a column is missing or of another type.
    """
    path = root / file
    parquet = open_parquet(path, [image_column])
    schema = parquet.schema_arrow
    if not label_column:
        label_column = _default_label_column(path, schema.names)
    if label_column:
        open_parquet(path, [label_column])  # For its check.
    has_paths = _check_types(path, schema, image_column, label_column)

    columns = []
    if label_column:
        columns.append(label_column)
    if has_paths:
        columns.append(f"{image_column}.path")
    rows_before = 0
    for group in range(parquet.num_row_groups):
        row_count = parquet.metadata.row_group(group).num_rows
        labels = [None] * row_count
        image_paths = [None] * row_count
        try:
            table = parquet.read_row_group(group, columns=columns)
            if label_column:
                labels = table[label_column].to_pylist()
            if has_paths:
                image_paths = pc.struct_field(table[image_column], "path").to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from None
        for row in range(row_count):
            key = str(image_paths[row] or rows_before + row)
            yield Sample(key, f"{file}@{group}:{row}", labels[row])
        rows_before += row_count


def _default_label_column(path: Path, columns: list[str]) -> str | None:
    if "label" in columns:
        return "label"
    similar = [name for name in columns if name.lower() in ("label", "labels")]
    if similar:
        raise UserError(
            f"{path} has the columns {', '.join(columns)}: say by `label_column` which "
            f"one has the class numbers, {' or '.join(sorted(set(similar)))}"
        )
    return None


def _check_types(
    path: Path, schema: pa.Schema, image_column: str, label_column: str | None
) -> bool:
    """Return whether the column of images records their paths."""
    if label_column:
        label_type = schema.field(label_column).type
        if not pa.types.is_integer(label_type):
            raise UserError(
                f"{path}: column {label_column!r} is {label_type}, expected class "
                "numbers"
            )
    image_type = schema.field(image_column).type
    type_of_field = {"bytes": image_type}
    if pa.types.is_struct(image_type):
        type_of_field = {field.name: field.type for field in image_type}
    if not _holds_bytes(type_of_field.get("bytes", pa.null())):
        raise UserError(
            f"{path}: column {image_column!r} is {image_type}, expected binary, or a "
            "struct with binary `bytes`"
        )
    return "path" in type_of_field


def _holds_bytes(column_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(column_type):
        column_type = column_type.value_type
    return column_type in (
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    ) or pa.types.is_fixed_size_binary(column_type)


def recorded_class_names(path: Path, label_column: str) -> list[str] | None:
    """Return the class names that the hub's `datasets` recorded in a parquet file.

    Args:
        path: the file.
        label_column: the column that they are the classes of.

    Returns:
        None where the schema records none, or something else.
    """
    metadata = open_parquet(path).schema_arrow.metadata or {}
    text = metadata.get(b"huggingface", "{}")
    try:
        features = json.loads(text).get("info", {}).get("features", {})
        names = features.get(label_column, {}).get("names")
        return _NAMES.validate_python(names, strict=True)
    except OTHER_JSON:
        return None


# Rows are read in order, so that two groups are enough: one that ends and one that
# begins. A group of ImageNet's shards holds about 100 images, 11 MB.
@functools.lru_cache(maxsize=2)
def read_images_of_group(path: str, group: int, image_column: str) -> pa.Array:
    """Return the bytes of the images of one row group.

    Raises:
        UserError: the file is damaged.
    """
    try:
        # Without threads, because a forked worker does not have those of its parent.
        table = open_parquet(path, [image_column]).read_row_group(
            group, columns=[image_column], use_threads=False
        )
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    images = table[image_column].combine_chunks()
    return images.field("bytes") if pa.types.is_struct(images.type) else images
