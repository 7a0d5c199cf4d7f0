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
_CHUNK = 1 << 20  # bytes that are looked through at once
# What tarfile raises on what is no tar.
_NO_TAR = (tarfile.TarError, ValueError, OverflowError)


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
        omissions: gets the links, and what lies behind the end of the tar.

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
                _note_what_follows(file, archive.offset + _BLOCK, end, omissions)
        except _NO_TAR as error:
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


def _note_what_follows(
    file: IO[bytes], start: int, end: int, omissions: Omissions
) -> None:
    """Note the members of tars that were joined to the end of another one."""
    position = _first_nonzero_byte(file, start, end)
    if position is None:
        return

    # A tar is made of whole blocks, counted from where it begins.
    file.seek(start + (position - start) // _BLOCK * _BLOCK)
    has_members = False
    try:
        with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
            for member in iter(archive.next, None):
                archive.members.clear()  # type: ignore[attr-defined]
                if member.offset_data >= end:
                    break
                if not member.isdir():
                    has_members = True
                    omissions.add(
                        "members behind the end of the first of several joined tars",
                        member.name,
                    )
    except _NO_TAR:
        pass  # What is no tar has no members.
    if not has_members:
        omissions.add("files' bytes behind the end of their tar", str(file.name))


def _first_nonzero_byte(file: IO[bytes], start: int, end: int) -> int | None:
    position = start
    while position < end:
        file.seek(position)
        chunk = file.read(min(_CHUNK, end - position))
        zeros = len(chunk) - len(chunk.lstrip(b"\0"))
        position += zeros
        if not chunk or zeros < len(chunk):
            break
    return position if position < end else None
