"""Walk a folder of images: which of the files in it, and below, are pictures."""

from collections.abc import Iterator
from pathlib import Path

from sae.core import files
from sae.core.errors import UserError
from sae.data import pictures
from sae.data.omissions import Omissions

# Folders that programs leave behind, besides hidden ones: unpacked archives of macOS,
# thumbnails of a Synology, and what Windows and Linux keep on a disk.
_OF_PROGRAMS = {
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
}


def is_picture(name: str) -> bool:
    """Say whether a file is a picture, by its ending."""
    return name.lower().endswith(pictures.ENDINGS)


def is_left_behind(name: str) -> bool:
    """Say whether a file or folder is hidden or a program's, not the user's."""
    return name.startswith(".") or name in _OF_PROGRAMS


def walk(
    place: Path, root: Path, omissions: Omissions
) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, each with its sorted files.

    Links to folders are followed. What is left behind is left out.

    Args:
        place: The folder.
        root: That of the images, to which notes are relative.
        omissions: Where it is noted what is left out.

    Raises:
        UserError: A folder cannot be read, or a link leads to a folder that it lies in.
    """
    for folder, subfolders, names in files.walk(place):
        left_behind = sorted(filter(is_left_behind, subfolders + names))
        for name in left_behind:
            path = Path(folder, name).relative_to(root).as_posix()
            omissions.add(
                "hidden files and folders, and those of programs,", path, expected=True
            )
        subfolders[:] = [name for name in subfolders if name not in left_behind]
        for subfolder in subfolders:
            _refuse_circle(Path(folder, subfolder))
        yield Path(folder), [name for name in sorted(names) if name not in left_behind]


def note_no_picture(path: str, omissions: Omissions) -> None:
    """Note that a file is left out, which is no picture."""
    omissions.add("files that are no picture by their ending", path)


def _refuse_circle(folder: Path) -> None:
    """Refuse a link to a folder that it lies in."""
    if not folder.is_symlink():
        return
    target = folder.resolve()
    if any(parent.resolve().is_relative_to(target) for parent in folder.parents):
        raise UserError(
            f"image folder: the link {str(folder)!r} leads to a folder that it lies "
            "in: remove it"
        )
