"""Files that a command writes where its user says, among the user's own.

One rule holds for every `--out`: a command replaces only files that it wrote, leaves
all else in place, and refuses where one of its names is taken by something that it did
not write, or that was changed since. Beside its files lies a list of them with their
SHA-256: COMMAND.sums.json in a folder, FILE.sums.json beside a file alone.

Whenever a process is killed, what lies under a name of the list was written by the
command. A file without which the others are nothing, such as index.html, goes first and
comes last, so that half of them is not taken for the whole. A file alone is replaced in
one step: it is the old one or the new one, and for that moment the list has both.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from sae.core import files
from sae.core.errors import UserError

_ADVICE = "move it away, or name another place to write"


def check_folder(out: Path, command: str, names: Iterable[str]) -> None:
    """Check a folder that a command is to write into, before any work.

    Args:
        out: The folder, which need not exist.
        command: The name of the command, which its list of files has.
        names: Files that it will write, relative to the folder; not all need be known.

    Raises:
        UserError: It is a link or no folder, cannot be written, or a name is taken.
    """
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir()):
        raise UserError(f"{out} is a link or no folder: name a folder to write")
    _own_files(out, _list_of(command), names)
    place = out / command if out.is_dir() else out
    with files.refusing_unwritable(out), files.scratch_directory(place):
        pass


def check_file(out: Path) -> None:
    """Check that a file is not there, or was written by the command that replaces it.

    Raises:
        UserError: It is another file, or was changed since.
    """
    _own_files(out.parent, _list_of(out.name), [out.name])


@contextmanager
def replacing_folder(out: Path, command: str, last: str) -> Iterator[Path]:
    """Yield a temporary folder, whose files come into `out` on success.

    What the command wrote there before goes; all else stays.

    Args:
        out: The folder.
        command: The name of the command, which its list of files has.
        last: The file without which the others are nothing.

    Raises:
        UserError: As :func:`check_folder`, of all files.
    """
    place = out / last if out.is_dir() else out
    with files.scratch_directory(place) as made:
        yield made
        _put_in_place(made, out, _list_of(command), last)


@contextmanager
def replacing_file(out: Path) -> Iterator[Path]:
    """Yield a temporary path, whose file becomes `out` on success.

    Raises:
        UserError: As :func:`check_file`.
    """
    with files.scratch_directory(out) as made:
        yield made / out.name
        _put_in_place(made, out.parent, _list_of(out.name), out.name)


def _list_of(name: str) -> str:
    return f"{name}.sums.json"


def _put_in_place(made: Path, folder: Path, list_name: str, last: str) -> None:
    made_files = sorted(path for path in made.rglob("*") if path.is_file())
    names = [path.relative_to(made).as_posix() for path in made_files]
    files.write_sums(made / list_name, made_files)
    files.sync_below(made)
    if not os.path.lexists(folder):
        os.rename(made, folder)
        return

    own_names = _own_files(folder, list_name, names)
    if own_names == names == [last]:
        old_or_new = [files.sha256(place / last) for place in (folder, made)]
        files.write_json(folder / list_name, {last: " ".join(old_or_new)})
        os.replace(made / last, folder / last)
        os.replace(made / list_name, folder / list_name)
        return
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    # The list of before is true until all of its files are gone.
    for name in sorted(own_names, key=lambda name: name != last):
        (folder / name).unlink()
    for name in [list_name, *sorted(names, key=lambda name: name == last)]:
        os.replace(made / name, folder / name)
    _remove_emptied(folder, own_names)


def _own_files(folder: Path, list_name: str, names: Iterable[str]) -> list[str]:
    """Return the names of files in a folder that its list has; refuse all others.

    Args:
        folder: The folder.
        list_name: The file in it that lists what was written.
        names: What is to be written.
    """
    list_file = folder / list_name
    sums = {}
    if os.path.lexists(list_file):
        sums = files.read_json(list_file, "list of files", _ADVICE)
    own_names = []
    for name in sorted({*sums, *names}):
        path = folder / name
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts:
            raise UserError(
                f"{list_file} lists {name!r}, outside its folder: {_ADVICE}"
            )
        for depth in range(1, len(parts)):
            _refuse_no_folder(folder.joinpath(*parts[:depth]))
        if not os.path.lexists(path):
            continue
        if name not in sums:
            raise UserError(
                f"{path} was not written by this command (no {list_name} beside it "
                f"lists it): {_ADVICE}"
            )
        is_file = stat.S_ISREG(path.lstat().st_mode)
        if not is_file or files.sha256(path) not in sums[name].split():
            raise UserError(
                f"{path} was changed since this command wrote it: {_ADVICE}"
            )
        own_names.append(name)
    return own_names


def _refuse_no_folder(path: Path) -> None:
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise UserError(
            f"{path} is a link or no folder, and files are to be written into it: "
            f"{_ADVICE}"
        )


def _remove_emptied(folder: Path, names: Iterable[str]) -> None:
    """Remove the folders that held some files and hold nothing any more."""
    parents = {parent for name in names for parent in PurePosixPath(name).parents}
    for parent in sorted(parents - {PurePosixPath()}, reverse=True):
        with suppress(OSError):  # Something is in it.
            (folder / parent).rmdir()
