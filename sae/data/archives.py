"""Images read in place: from an uncompressed tar or a parquet file, without unpacking.

A location is a path relative to the dataset's root, in one of three forms: `train/a.jpg` (a file),
`train.tar@OFFSET+SIZE` (bytes of a tar) or `train.parquet@GROUP:ROW` (a row of a row group). Nothing stays open between
two reads, so that forked DataLoader workers and several processes can read at once.
"""

import functools
import io
import json
import operator
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sae.core.errors import UserError

_BLOCK = 512  # a tar's header, and the unit of its padding
_LOCATION = re.compile(r"(?P<file>.+)@(?P<first>\d+)(?P<kind>[+:])(?P<second>\d+)", re.DOTALL)
_IMAGES = {"jpg", "jpeg", "png", "webp"}


def tar_members(path, start=0, end=None):
    """Yield (name, offset, size) of the regular files in a tar, in order; offsets in bytes from the file's start.

    Args:
        start, end: where the tar lies in the file, for a tar inside a tar.

    Raises:
        UserError: not an uncompressed tar, or one that is cut off or damaged.
    """
    end = Path(path).stat().st_size if end is None else end
    with open(path, "rb") as file:
        file.seek(start)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # tarfile keeps every header, about 1 KB each
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError(f"member {member.name} is cut off")
                    if member.isreg():
                        yield member.name, member.offset_data, member.size
                # tarfile takes a header that it cannot read for the end; the true end is a block of zeros.
                file.seek(archive.offset)
                if archive.offset + _BLOCK > end or any(file.read(_BLOCK)):
                    raise tarfile.ReadError(f"no end-of-archive mark at byte {archive.offset}")
        except tarfile.TarError as error:
            raise UserError(
                f"{path} is not a whole, uncompressed tar ({error}; {end - start:,} bytes): copy or download it again"
            ) from None


def parquet_file(path, columns=()):
    """Open a parquet file that has the columns `columns`.

    Raises:
        UserError: it is not parquet, is cut off, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not a whole parquet file ({error}): copy or download it again") from None
    missing = [c for c in columns if c not in file.schema_arrow.names]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}: "
            f"name the columns in the config (`image`, `label`)"
        )
    return file


@dataclass(frozen=True)
class Samples:
    """The N images of some shards, in the shards' order.

    Attributes:
        keys: (N) names: the WebDataset key, or for parquet the image's own path, or where that is null its row number.
        places: (N) `shard/row`, unique, the shard without its ending.
        locations: (N) where the image's bytes are.
        labels: (N) integers, or None where there are none.
        label_names: the class names that a parquet schema records, or None.
    """

    keys: list
    places: list
    locations: list
    labels: list | None
    label_names: list | None


def samples(root, files, image="image", label=None):
    """List the images of WebDataset tars (`key.jpg` with `key.cls`, or `key.json` with `label`) or of parquet files.

    Args:
        files: paths relative to `root`.
        image, label: the columns of a parquet file; `label` None: the column `label`, if there is one.

    Raises:
        UserError: a shard is damaged, a label is not an integer, or only some images have one.
    """
    keys, places, locations, labels, names = [], [], [], [], None
    for file in files:
        if file.endswith(".parquet"):
            found, names = _parquet_samples(root, file, image, label)
        elif file.endswith(".tar"):
            found = _tar_samples(root, file)
        else:
            raise UserError(f"{root / file} is neither .tar nor .parquet: shards are one or the other")
        shard = file.rpartition(".")[0]
        for row, (key, location, number) in enumerate(found):
            keys.append(key)
            places.append(f"{shard}/{row}")
            locations.append(location)
            labels.append(number)
    negative = next((row for row, number in enumerate(labels) if number is not None and number < 0), None)
    if negative is not None:
        raise UserError(
            f"image {keys[negative]} ({root / places[negative]}) has the label {labels[negative]}, expected 0 or "
            f"more; -1 often means that a split has no labels: use one that has, or leave them out of all"
        )
    if names is not None and (too_large := [n for n in labels if n is not None and n >= len(names)]):
        raise UserError(f"{root}: label {too_large[0]} is beyond the {len(names)} class names that {files[-1]} records")
    unlabelled = labels.count(None)
    if 0 < unlabelled < len(labels):
        first = labels.index(None)
        raise UserError(
            f"image {keys[first]} ({root / places[first]}) has no label, and {len(labels) - unlabelled:,} others have "
            f"one: label all of them or none"
        )
    return Samples(keys, places, locations, None if unlabelled else labels, names)


def _tar_samples(root, file):
    path = root / file
    # Labels are read here, a few bytes each; the images' bytes are left alone.
    with open(path, "rb") as content:
        for key, parts in _by_key(path):
            image = next((ending for ending in parts if ending in _IMAGES), None)
            if image:
                offset, size = parts[image]
                yield key, f"{file}@{offset}+{size}", _tar_label(content, parts, f"{path}: {key}")


def _by_key(path):
    # WebDataset: members of one sample follow each other; the ending starts at the first dot of the base name.
    key, parts = None, {}
    for name, offset, size in tar_members(path):
        folder, slash, base = name.removeprefix("./").rpartition("/")
        stem, _, ending = base.partition(".")
        if folder + slash + stem != key:
            yield key, parts
            key, parts = folder + slash + stem, {}
        parts[ending.lower()] = (offset, size)
    yield key, parts


def _tar_label(content, parts, what):
    ending = next((ending for ending in ("cls", "json") if ending in parts), None)
    if ending is None:
        return None
    offset, size = parts[ending]
    content.seek(offset)
    text = content.read(size)
    try:
        number = int(text) if ending == "cls" else json.loads(text).get("label")
        return number if number is None else operator.index(number)
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{what}.{ending} holds {text[:40]!r}, expected a class number") from None


def _parquet_samples(root, file, image, label):
    import pyarrow as pa
    import pyarrow.compute as pc

    parquet = parquet_file(root / file, [image, *([label] if label else [])])
    schema = parquet.schema_arrow
    label = label or ("label" if "label" in schema.names else None)
    if label and not pa.types.is_integer(schema.field(label).type):
        raise UserError(f"{root / file}: column {label!r} is {schema.field(label).type}, expected class numbers")
    kind = schema.field(image).type
    has_path = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    columns = ([label] if label else []) + ([f"{image}.path"] if has_path else [])
    recorded = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))

    def rows():
        before = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            table = parquet.read_row_group(group, columns=columns)  # never the images' bytes
            numbers = table[label].to_pylist() if label else [None] * count
            paths = pc.struct_field(table[image], "path").to_pylist() if has_path else [None] * count
            for row in range(count):
                yield paths[row] or str(before + row), f"{file}@{group}:{row}", numbers[row]
            before += count

    return rows(), recorded.get("info", {}).get("features", {}).get(label, {}).get("names")


def read(root, location, image="image"):
    """The bytes of one image.

    Args:
        image: the column of a parquet file: bytes, or a struct with a field `bytes`.

    Raises:
        UserError: the archive is gone, or shorter than when it was indexed.
        OSError: as `open`, for a plain file.
    """
    match = _LOCATION.fullmatch(location)
    if not match:
        return (Path(root) / location).read_bytes()
    path, first, second = Path(root) / match["file"], int(match["first"]), int(match["second"])
    if not path.is_file():
        raise UserError(f"{path} is missing: put it back, or build the dataset's index again")
    if match["kind"] == ":":
        return _row_group(str(path), first, image)[second].as_py()
    with open(path, "rb") as file:
        file.seek(first)
        content = file.read(second)
    if len(content) != second:
        raise UserError(f"{path} ends before byte {first + second}: it is not the file that was indexed")
    return content


# Rows are read in order, so that the last groups are enough: one that ends, one that begins. A group of ImageNet's
# shards is about 100 images, 11 MB.
@functools.lru_cache(maxsize=2)
def _row_group(path, group, image):
    import pyarrow as pa

    # No threads: a forked worker has none of its parent's.
    table = parquet_file(path, [image]).read_row_group(group, columns=[image], use_threads=False)
    column = table[image].combine_chunks()
    return column.field("bytes") if pa.types.is_struct(column.type) else column


def open_image(root, image, location):
    """The image at a location as PIL RGB; see :func:`read`."""
    with Image.open(io.BytesIO(read(root, location, image))) as picture:
        return picture.convert("RGB")


def opener(root, image="image"):
    """:func:`open_image` of one root, as `Dataset.open` wants it; can be pickled."""
    return functools.partial(open_image, root, image)
