"""Images read in place: a file, bytes of an uncompressed tar, or a row of parquet.

A location is a path relative to the dataset's root, in one of three forms:
`train/a.jpg` (a file), `train.tar@OFFSET+SIZE` (bytes of a tar) or
`train.parquet@GROUP:ROW` (a row of a row group). No file stays open between two reads,
so that forked DataLoader workers and several processes can read at once.

`sae.data.shard_images` lists the locations in tars and parquet files.
"""

import functools
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from sae.core import files
from sae.core.errors import UserError
from sae.data.parquet_images import read_images_of_group

_IN_TAR = re.compile(r"(?P<file>.+)@(?P<offset>\d+)\+(?P<size>\d+)", re.DOTALL)
_IN_PARQUET = re.compile(r"(?P<file>.+)@(?P<group>\d+):(?P<row>\d+)", re.DOTALL)


def read_image_bytes(
    root: str | Path, location: str, image_column: str = "image"
) -> bytes:
    """Return the bytes of one image.

    Args:
        root: the dataset's folder.
        location: where the image is in it.
        image_column: the column of a parquet file: bytes, or a struct with a field
            `bytes`.

    Raises:
        UserError: the archive is missing, damaged, or shorter than when it was indexed.
        OSError: a plain file cannot be read, or is none.
    """
    in_parquet = _IN_PARQUET.fullmatch(location)
    if in_parquet:
        path = _archive(root, in_parquet["file"])
        images = read_images_of_group(str(path), int(in_parquet["group"]), image_column)
        row = int(in_parquet["row"])
        if row >= len(images):
            raise UserError(
                f"{path} has no row {row} in its group {in_parquet['group']}: it is "
                "not the file that was indexed"
            )
        return images[row].as_py()
    in_tar = _IN_TAR.fullmatch(location)
    if in_tar:
        path = _archive(root, in_tar["file"])
        return _read_bytes(path, int(in_tar["offset"]), int(in_tar["size"]))
    return Path(files.regular(Path(root) / location)).read_bytes()


def _archive(root: str | Path, file: str) -> Path:
    path = Path(root) / file
    if not path.is_file():
        raise UserError(
            f"{path} is missing: put it back, or build the dataset's index again"
        )
    return path


def _read_bytes(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) != size:
        raise UserError(
            f"{path} ends before byte {offset + size}: it is not the file that was "
            "indexed"
        )
    return content


def read_tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the bytes of one member of an open tar; none if it is not a file."""
    file = archive.extractfile(member)
    return file.read() if file else b""


def open_image(root: str | Path, image_column: str, location: str) -> Image.Image:
    """Return the image at a location as Pillow opens it.

    Raises:
        UserError, OSError: as :func:`read_image_bytes`.
        PIL.UnidentifiedImageError: these bytes are no image.
    """
    return Image.open(io.BytesIO(read_image_bytes(root, location, image_column)))


def opener(
    root: str | Path, image_column: str = "image"
) -> Callable[[str], Image.Image]:
    """Return :func:`open_image` of one root, the function that `Dataset.open` holds.

    It can be pickled.
    """
    return functools.partial(open_image, root, image_column)
