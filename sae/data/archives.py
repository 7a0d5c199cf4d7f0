"""Images read in place: from an uncompressed tar or a parquet file, without unpacking.

A location is a path relative to the dataset's root, in one of three forms: `train/a.jpg` (a file),
`train.tar@OFFSET+SIZE` (bytes of a tar) or `train.parquet@GROUP:ROW` (a row of a row group). No file stays open between
two reads, so that forked DataLoader workers and several processes can read at once.
"""

import contextlib
import functools
import io
import itertools
import json
import operator
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from pydantic import TypeAdapter

from sae.core import files
from sae.core.errors import UserError, in_one_line
from sae.data.omissions import Omissions

_BLOCK = 512  # a tar's header, and the unit of its padding
_LOCATION = re.compile(
    r"(?P<file>.+)@(?P<first>\d+)(?P<kind>[+:])(?P<second>\d+)", re.DOTALL
)
_IMAGES = {"jpg", "jpeg", "png", "webp"}
_CHUNK = 1 << 20  # bytes that are looked through at once
_LABELS = range(2**63)
# What is read of other people's JSON; whatever else is in it does no harm.
_LABEL: TypeAdapter[int | None] = TypeAdapter(int | None)
_NAMES: TypeAdapter[list[str] | None] = TypeAdapter(list[str] | None)
_JOINED = "members behind the end of the first of several joined tars"
# What JSON raises that is none, or that holds other things than are read of it.
_OTHER_JSON = (ValueError, RecursionError, AttributeError)
# (key, location, label) of each image of a shard.
_Found = Iterator[tuple[str, str, int | None]]


def _opened(path: str | Path) -> IO[bytes]:
    try:
        return open(files.regular(path), "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def tar_members(
    path: str | Path,
    start: int = 0,
    end: int | None = None,
    omissions: Omissions | None = None,
) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset, size) of the regular files in a tar, in order; offsets in bytes from the file's start.

    Args:
        start, end: the bytes of the file that are the tar, for a tar inside a tar.
        omissions: gets the links, and what lies behind the end of the tar.

    Raises:
        UserError: it is no uncompressed tar, or it is cut off, damaged or closed.
    """
    end = Path(path).stat().st_size if end is None else end
    omissions = Omissions() if omissions is None else omissions
    with _opened(path) as file:
        file.seek(start)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps every header, 1 KB each
                    # tarfile would go back to an earlier member, and round and round.
                    if member.size < 0 or member.issparse():
                        raise tarfile.ReadError(
                            f"member {member.name} has the size {member.size}, or holes"
                        )
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError(f"member {member.name} is cut off")
                    if member.isreg():
                        yield member.name, member.offset_data, member.size
                    elif not member.isdir():
                        kind = (
                            "links" if member.islnk() or member.issym() else "devices"
                        )
                        omissions.add(f"members that are {kind}", member.name)
                # tarfile stops without an error at a header that it cannot read; the true end is a block of zeros.
                file.seek(archive.offset)
                if archive.offset + _BLOCK > end or any(file.read(_BLOCK)):
                    raise tarfile.ReadError(
                        f"no end-of-archive mark at byte {archive.offset}"
                    )
                _note_what_follows(file, archive.offset + _BLOCK, end, omissions)
        except (tarfile.TarError, ValueError, OverflowError) as error:
            said = f"({error}; {end - start:,} bytes): copy or download it again"
            raise UserError(f"{path} is not a whole, uncompressed tar {said}") from None


def _note_what_follows(
    file: IO[bytes], start: int, end: int, omissions: Omissions
) -> None:
    """Note the members of tars that were joined to the end of another one.

    Args:
        start: where the zeros begin that fill up the first tar.
    """
    position = start
    while position < end:
        file.seek(position)
        chunk = file.read(min(_CHUNK, end - position))
        zeros = len(chunk) - len(chunk.lstrip(b"\0"))
        position += zeros
        if not chunk or zeros < len(chunk):
            break
    if position >= end:
        return

    # A tar is made of whole blocks, counted from where it begins.
    file.seek(start + (position - start) // _BLOCK * _BLOCK)
    has_members = False
    try:
        with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                if member.offset_data >= end:
                    break
                if not member.isdir():
                    has_members = True
                    omissions.add(_JOINED, member.name)
    except (tarfile.TarError, ValueError, OverflowError):
        pass  # What is no tar has no members.
    if not has_members:
        omissions.add("files' bytes behind the end of their tar", str(file.name))


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of one member of an open tar; none if the member is not a file."""
    file = archive.extractfile(member)
    return file.read() if file else b""


def parquet_file(path: str | Path, columns: Iterable[str] = ()) -> pq.ParquetFile:
    """Open a parquet file that has the columns `columns`.

    Raises:
        UserError: it is not parquet, is cut off, or lacks a column.
    """
    try:
        file = pq.ParquetFile(files.regular(path))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    names = file.schema_arrow.names
    wrong = [c for c in columns if names.count(c) != 1]
    if wrong:
        found = "several columns" if wrong[0] in names else "no column"
        raise UserError(
            f"{path} has {found} {wrong[0]!r}; it has {', '.join(names)}: set image_column or label_column"
        )
    return file


def _damaged(path: str | Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is not a whole parquet file ({in_one_line(error)}): copy or download "
        "it again"
    )


@dataclass(frozen=True)
class Samples:
    """The N images of some shards, in the shards' order.

    Attributes:
        keys: N names: the WebDataset key; for parquet the image's own path, or its row number where that is null.
        places: N texts `shard/row`, unique; the shard without its ending.
        locations: N texts that say where the image's bytes are, as :func:`read` takes them.
        labels: N integers, or None where there are none.
        label_names: the class names that a parquet schema records, or None.
    """

    keys: list[str]
    places: list[str]
    locations: list[str]
    labels: list[int] | None
    label_names: list[str] | None


def samples(
    root: Path, files: Sequence[str], image: str = "image", label: str | None = None
) -> Samples:
    """List the images of WebDataset tars (`key.jpg` with `key.cls`, or `key.json` with `label`) or of parquet files.

    Args:
        files: paths relative to `root`, all of one kind.
        image, label: the columns of a parquet file; `label` None: the column `label`, if there is one.

    Raises:
        UserError: there is no image, a shard is damaged, a label is no class number, only some images have one, or two
            files record other class names.
    """
    keys, places, locations = [], [], []
    labels: list[Any] = []
    omissions = Omissions()
    of_parquet = files[0].endswith(".parquet")
    for file in files:
        found = (
            _parquet_samples(root, file, image, label)
            if of_parquet
            else _tar_samples(root, file, omissions)
        )
        shard = file.rpartition(".")[0]
        for row, (key, location, number) in enumerate(found):
            keys.append(key)
            places.append(f"{shard}/{row}")
            locations.append(location)
            labels.append(number)
    recorded = (
        {file: _class_names(root / file, label or "label") for file in files}
        if of_parquet
        else {}
    )
    names = agreed(root, recorded)
    if not keys:
        raise UserError(
            f"{root}: there is no image in {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}"
            + "".join(f"; left out: {line}" for line in omissions.lines())
        )
    omissions.tell(f"shards {root}")
    wrong = next(
        (
            row
            for row, number in enumerate(labels)
            if number is not None and number not in _LABELS
        ),
        None,
    )
    if wrong is not None:
        said = f"image {keys[wrong]} ({root / places[wrong]}) has the label {str(labels[wrong])[:40]}"
        advice = "-1 often means that a split has no labels: use one that has, or leave them out of all"
        raise UserError(f"{said}, expected 0 to 2^63 - 1; {advice}")
    if names is not None and (
        too_large := [n for n in labels if n is not None and n >= len(names)]
    ):
        raise UserError(
            f"{root}: label {too_large[0]} is beyond the {len(names)} class names that its files record"
        )
    unlabelled = labels.count(None)
    if 0 < unlabelled < len(labels):
        first = labels.index(None)
        others = (
            f"{len(labels) - unlabelled:,} others have one: label all of them or none"
        )
        raise UserError(
            f"image {keys[first]} ({root / places[first]}) has no label, and {others}"
        )
    return Samples(keys, places, locations, None if unlabelled else labels, names)


def agreed(root: Path, recorded: Mapping[str, list[str] | None]) -> list[str] | None:
    """The class names that several files or splits record; None where none does.

    Raises:
        UserError: two record other ones, so that one number would be two classes.
    """
    known = [(place, names) for place, names in recorded.items() if names is not None]
    for place, names in known[1:]:
        if names != known[0][1]:
            pairs = enumerate(itertools.zip_longest(known[0][1], names))
            number, (one, other) = next(
                (number, pair) for number, pair in pairs if pair[0] != pair[1]
            )
            said = (
                f"class {number} is {one!r} in {known[0][0]} and {other!r} in {place}"
            )
            raise UserError(
                f"{root}: {said}: write all with one list of class names, in one order"
            )
    return known[0][1] if known else None


def _tar_samples(root: Path, file: str, omissions: Omissions) -> _Found:
    path = root / file
    keys_with_image = set()
    # {key: the ending of an image that its second dot hides}
    hidden_images: dict[str, str] = {}
    # Only labels are read here, a few bytes each.
    with _opened(path) as content:
        # WebDataset: members of one sample follow each other.
        for key, members in itertools.groupby(
            _keyed(path, omissions), operator.itemgetter(0)
        ):
            places: dict[str, tuple[int, int]] = {}
            for _, ending, place in members:
                if ending in places:
                    reason = "members whose key and ending come twice in a row"
                    omissions.add(reason, f"{file}: {key}.{ending}")
                places[ending] = place

            images = [ending for ending in places if ending in _IMAGES]
            views = [
                ending
                for ending in places
                if ending not in _IMAGES and ending.rpartition(".")[2] in _IMAGES
            ]
            for ending in images[1:]:
                reason = "images beside another one of their key"
                omissions.add(reason, f"{file}: {key}.{ending}")
            for ending in views:
                reason = "images of two endings, as masks have,"
                omissions.add(reason, f"{file}: {key}.{ending}")
            if images:
                offset, size = places[images[0]]
                keys_with_image.add(key)
                label = _tar_label(content, places, file, key, path, omissions)
                yield key, f"{file}@{offset}+{size}", label
            elif views:
                hidden_images.setdefault(key, views[0])
            else:
                known = ", ".join(sorted(_IMAGES))
                reason = f"keys without an image ({known})"
                omissions.add(reason, f"{file}: {key}.{next(iter(places))}")
    # Beside an image such a member is a mask, or another view.
    if key := next((key for key in hidden_images if key not in keys_with_image), ""):
        ending = hidden_images[key]
        said = (
            f"{key}.{ending} has the ending {ending!r}, since an ending starts at the "
            "first dot"
        )
        raise UserError(
            f"{path}: {said}, and {key} has no other image: rename it with one dot"
        )


def _keyed(
    path: Path, omissions: Omissions
) -> Iterator[tuple[str, str, tuple[int, int]]]:
    for name, offset, size in tar_members(path, omissions=omissions):
        folder, slash, base = name.removeprefix("./").rpartition("/")
        # The ending starts at the first dot of the base name.
        stem, _, ending = base.partition(".")
        if stem:
            yield folder + slash + stem, ending.lower(), (offset, size)
        else:
            # As what macOS writes beside each file: no sample for WebDataset either.
            omissions.add("hidden members", f"{path.name}: {name}")


def _tar_label(
    content: IO[bytes],
    places: dict[str, tuple[int, int]],
    file: str,
    key: str,
    path: Path,
    omissions: Omissions,
) -> int | None:
    """Read the class number of a sample from its `cls`, or else from its `json`.

    Args:
        content: the open tar.
        places: {ending: (offset, size)} of the sample's members.
        file, path: the tar, relative to the root and from the working directory.
        omissions: gets the label of a `json` that the `cls` contradicts.
    """
    if "cls" not in places and "json" not in places:
        return None
    texts = {}
    for ending in ("cls", "json"):
        if ending in places:
            offset, size = places[ending]
            content.seek(offset)
            texts[ending] = content.read(size)
    try:
        if "cls" not in texts:
            return _json_label(texts["json"])
        number = int(texts["cls"])
    except _OTHER_JSON:
        ending = next(iter(texts))
        expected = "a class number" + (" as `label`" if ending == "json" else "")
        raise UserError(
            f"{path}: {key}.{ending} holds {texts[ending][:40]!r}, expected {expected}"
        ) from None

    # Whatever else a `json` says beside a `cls` is for others to read.
    with contextlib.suppress(*_OTHER_JSON):
        other = _json_label(texts.get("json", b"{}"))
        if other is not None and other != number:
            reason = "labels of a json that the cls contradicts"
            example = f"{file}: {key}.json has {other}, {key}.cls {number}"
            omissions.add(reason, example)
    return number


def _json_label(text: bytes) -> int | None:
    """The `label` of a sample's JSON, None where it has none."""
    return _LABEL.validate_python(json.loads(text).get("label"), strict=True)


def _parquet_samples(root: Path, file: str, image: str, label: str | None) -> _Found:
    parquet = parquet_file(root / file, [image, *([label] if label else [])])
    schema, before = parquet.schema_arrow, 0
    label = label or ("label" if "label" in schema.names else None)
    if label and not pa.types.is_integer(schema.field(label).type):
        raise UserError(
            f"{root / file}: column {label!r} is {schema.field(label).type}, expected class numbers"
        )
    kind = schema.field(image).type
    fields = (
        {field.name: field.type for field in kind}
        if pa.types.is_struct(kind)
        else {"bytes": kind}
    )
    if not _holds_bytes(fields.get("bytes", pa.null())):
        raise UserError(
            f"{root / file}: column {image!r} is {kind}, expected binary, or a struct with binary `bytes`"
        )
    has_path = "path" in fields
    columns = ([label] if label else []) + ([f"{image}.path"] if has_path else [])
    for group in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        try:
            table = parquet.read_row_group(
                group, columns=columns
            )  # never the images' bytes
            numbers = table[label].to_pylist() if label else [None] * count
            paths = (
                pc.struct_field(table[image], "path").to_pylist()
                if has_path
                else [None] * count
            )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(root / file, error) from None
        for row in range(count):
            yield str(paths[row] or before + row), f"{file}@{group}:{row}", numbers[row]
        before += count


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in (
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
    ) or pa.types.is_fixed_size_binary(kind)


def _class_names(path: Path, label: str) -> list[str] | None:
    """The class names that the hub's `datasets` recorded for the column `label` of a parquet file; None of others."""
    text = (parquet_file(path).schema_arrow.metadata or {}).get(b"huggingface", "{}")
    try:
        features = json.loads(text).get("info", {}).get("features", {})
        return _NAMES.validate_python(features.get(label, {}).get("names"), strict=True)
    except _OTHER_JSON:
        return None


def read(root: str | Path, location: str, image: str = "image") -> bytes:
    """The bytes of one image.

    Args:
        image: the column of a parquet file: bytes, or a struct with a field `bytes`.

    Raises:
        UserError: the archive is missing, damaged, or shorter than when it was indexed.
        OSError: a plain file cannot be read, or is none.
    """
    match = _LOCATION.fullmatch(location)
    if not match:
        return Path(files.regular(Path(root) / location)).read_bytes()
    path, first, second = (
        Path(root) / match["file"],
        int(match["first"]),
        int(match["second"]),
    )
    if not path.is_file():
        raise UserError(
            f"{path} is missing: put it back, or build the dataset's index again"
        )
    if match["kind"] == ":":
        return _row_group(str(path), first, image)[second].as_py()
    with open(path, "rb") as file:
        file.seek(first)
        content = file.read(second)
    if len(content) != second:
        raise UserError(
            f"{path} ends before byte {first + second}: it is not the file that was indexed"
        )
    return content


# Rows are read in order, so that two groups are enough: one that ends and one that begins. A group of ImageNet's
# shards holds about 100 images, 11 MB.
@functools.lru_cache(maxsize=2)
def _row_group(path: str, group: int, image: str) -> pa.Array:
    try:
        # Without threads, because a forked worker does not have those of its parent.
        table = parquet_file(path, [image]).read_row_group(
            group, columns=[image], use_threads=False
        )
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    column = table[image].combine_chunks()
    return column.field("bytes") if pa.types.is_struct(column.type) else column


def open_image(root: str | Path, image: str, location: str) -> Image.Image:
    """The image at a location as Pillow opens it; see :func:`read`."""
    return Image.open(io.BytesIO(read(root, location, image)))


def opener(root: str | Path, image: str = "image") -> Callable[[str], Image.Image]:
    """:func:`open_image` of one root: the function that `Dataset.open` holds. It can be pickled."""
    return functools.partial(open_image, root, image)
