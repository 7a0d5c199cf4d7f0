"""Uncompressed tars, read in place: where their members lie, without unpacking."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from sae.core import files
from sae.core.errors import UserError
from sae.data.omissions import Omissions

# A tar's header, and the unit of its padding, in bytes.
_BLOCK = 512


class TarMember(NamedTuple):
    """A regular file in a tar.

    Attributes:
        name: its path in the tar.
        offset: the byte of the tar's file at which its content starts.
        size: in bytes.
    """

    name: str
    offset: int
    size: int


def tar_members(
    path: str | Path,
    start: int = 0,
    end: int | None = None,
    omissions: Omissions | None = None,
) -> Iterator[TarMember]:
    """Yield the regular files in a tar, in order.

    Args:
        path: the file.
        start: the byte of the file at which the tar starts, for a tar inside a tar.
        end: the byte behind it; None: the end of the file.
        omissions: gets the links.

    Raises:
        UserError: it is no uncompressed tar, or it is cut off, damaged or closed.
    """
    end = Path(path).stat().st_size if end is None else end
    omissions = Omissions() if omissions is None else omissions
    with open_tar_file(path) as file:
        file.seek(start)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in iter(archive.next, None):
                    # Else tarfile keeps every header, 1 KB each.
                    archive.members.clear()  # type: ignore[attr-defined]
                    # tarfile would go back to an earlier member, and round and round.
                    if member.size < 0 or member.issparse():
                        raise tarfile.ReadError(
                            f"member {member.name} has the size {member.size}, or holes"
                        )
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError(f"member {member.name} is cut off")
                    if member.isreg():
                        yield TarMember(member.name, member.offset_data, member.size)
                    elif not member.isdir():
                        is_link = member.islnk() or member.issym()
                        kind = "links" if is_link else "devices"
                        omissions.add(f"members that are {kind}", member.name)
                # tarfile stops without an error at a header that it cannot read; the
                # true end is a block of zeros.
                file.seek(archive.offset)
                if archive.offset + _BLOCK > end or any(file.read(_BLOCK)):
                    raise tarfile.ReadError(
                        f"no end-of-archive mark at byte {archive.offset}"
                    )
        # What tarfile raises on what is no tar.
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path} is not a whole, uncompressed tar ({error}; {end - start:,} "
                "bytes): copy or download it again"
            ) from None


def open_tar_file(path: str | Path) -> IO[bytes]:
    """Open the file of a tar.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return open(files.regular(path), "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
