"""Files that are either whole or absent.

Each is written under a temporary name, then renamed. What a later step reads is sealed
(`sae.core.seals`), or a sealed file beside it holds its SHA-256.
"""

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.core import faults, seals
from sae.core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which becomes `path` on success.

    The bytes reach the disk before the rename, so that a crash leaves the old file or
    the new one, never half of one. On failure the temporary file is removed.

    Raises:
        OSError: As :func:`writing`.
        UserError: As :func:`check_replaceable`.
    """
    # A link may be replaced by another one, as a store's are.
    if not os.path.islink(path):
        check_replaceable(path)
    with _temporary_path(path) as temporary:
        yield temporary
        if not temporary.is_symlink():
            check_replaceable(path)
            _sync(temporary)
        os.replace(temporary, path)


def check_replaceable(path: str | Path) -> None:
    """Check that what is written to `path` replaces a file, or nothing.

    Raises:
        UserError: There is something else. Of a link, what it leads to would keep its
            old content; a device or pipe would become a file.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # Nothing is there, or what writes it says why not.
        return
    if not stat.S_ISREG(mode):
        kind = "a folder, pipe, socket or device"
        if stat.S_ISLNK(mode):
            kind = f"a link to {os.readlink(path)}"
        raise UserError(
            f"{path} is {kind}, which would be replaced by a file: name a file to write"
        )


@contextmanager
def refusing_unwritable(path: str | Path) -> Iterator[None]:
    """Say in one line that `path` cannot be written.

    Raises:
        UserError: The block raised an `OSError`. One of a full or closed disk goes on
            as it is, since `sae.core.faults` explains it.
    """
    try:
        yield
    except OSError as error:
        if faults.disk_error(error):
            raise
        raise UserError(
            f"{path} cannot be written ({error}); name another place"
        ) from None


@contextmanager
def scratch_directory(path: str | Path) -> Iterator[Path]:
    """Yield a new temporary directory beside `path`; it is removed afterwards."""
    with _temporary_path(path) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def atomic_directory(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path`, which becomes `path` on success.

    Its files reach the disk before the rename. On failure the directory is removed.

    Args:
        path: The directory.
        replace: What happens if `path` exists by then. By default another process made
            the same content first, and the temporary directory is removed; with
            `replace`, what was there goes as a whole.

    Raises:
        UserError: `path` would be replaced and is no folder, or is a link to one.
    """
    path = Path(path)
    if replace and os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise UserError(
            f"{path} is a link or no folder, and would be replaced: name a folder"
        )
    with scratch_directory(path) as temporary:
        yield temporary
        sync_below(temporary)
        if replace and path.exists():
            with _temporary_path(path.with_name(f"{path.name}.old")) as old:
                os.rename(path, old)
                os.rename(temporary, path)
            return
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise


@contextmanager
def _temporary_path(path: str | Path) -> Iterator[Path]:
    """Yield a new name beside `path`, and remove what dead processes left there."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for other_temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if is_left_over(other_temporary):
                _remove(other_temporary)
        temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")
        try:
            yield temporary
        finally:
            _remove(temporary)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is made if needed, during the block.

    A file system without locks gives none, and the block runs all the same.

    Args:
        path: The file.
        waiting: Called once if another process holds the lock, before this one waits
            for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except (OSError, ImportError):  # ImportError: Windows.
            pass
        # The lock ends when the file is closed.
        yield


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Let an error about a full or closed disk name `path`, which the block writes.

    Libraries name no file or only the temporary one, and some raise exceptions of their
    own.

    Raises:
        OSError: The disk is full, its quota used up, read-only, or closed to this user.
    """
    try:
        yield
    except Exception as error:
        code = faults.disk_error(error)
        if code is None:
            raise
        # The error of a copy has the target in `filename2`.
        error_path = getattr(error, "filename2", None)
        if not error_path:
            error_path = getattr(error, "filename", None)
        # An error about another file names that file already.
        is_temporary = f"/.{Path(path).name}." in str(error_path)
        if error_path is not None and not is_temporary:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def link_or_copy(
    source: Path, target: Path, link: Callable[[Path, Path], Any] = os.link
) -> None:
    """Make a folder hold the files of another one, without the folders in it.

    Args:
        source: The folder that has the files.
        target: The folder that gets them; made if needed.
        link: Makes a file of another one, by default as a hard link, which takes no
            space. Where it fails, the file is copied.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not file.is_file():
            continue
        target_file = target / file.name
        if target_file.exists() and file.samefile(target_file):
            continue
        with atomic_file(target_file) as temporary:
            try:
                link(file, temporary)
            except OSError:
                shutil.copyfile(file, temporary)


def sync_below(folder: Path) -> None:
    """Let the bytes of all files in a folder, and below, reach the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            _sync(file)


def _sync(file: Path) -> None:
    # Opened for reading, since a linked file may be another user's. Windows syncs only
    # files that are opened for writing.
    mode = "r+b" if os.name == "nt" else "rb"
    with open(file, mode) as opened:
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_left_over(path: Path) -> bool:
    """Say whether a dead process of this machine left a temporary file or folder."""
    host = re.escape(_host())
    temporary_name = re.fullmatch(rf"\..+\.{host}-(\d+)\.tmp", path.name)
    if temporary_name is None:
        return False
    return not is_alive(int(temporary_name[1]))


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def is_alive(pid: int) -> bool:
    """Say whether a process of this machine exists.

    On Windows, where the signal 0 is Ctrl-C, each passes for alive.
    """
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def dumps(value: Any) -> str:
    """Return JSON in one canonical form: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write a sealed JSON file, indented and with sorted keys.

    Args:
        path: The file.
        content: What it holds. The file has the key `seal` besides.
    """
    sealed_content = {**content, "seal": seals.BLANK}
    text = json.dumps(sealed_content, indent=2, sort_keys=True, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
        seals.seal_file(temporary)


def read_json(
    path: str | Path, what: str = "file", advice: str = seals.ADVICE
) -> dict[str, Any]:
    """Return the content that :func:`write_json` wrote, after a check of the seal.

    Args:
        path: The file.
        what: What error messages call the file.
        advice: How error messages end.

    Raises:
        UserError: The file is missing, was altered, or holds no JSON object.
    """
    sealed_content = seals.read_sealed(path, what, advice)
    try:
        content = json.loads(sealed_content)
        del content["seal"]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{what} {path} is no JSON object with a seal; {advice}"
        ) from None
    return content


def walk(folder: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what `os.walk` does; no folder is left out without a word.

    Links to folders are followed.

    Raises:
        UserError: A folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"the folder {error.filename} cannot be read ({error.strerror}): make it "
            "readable, or move it elsewhere"
        ) from error

    return os.walk(folder, onerror=refuse, followlinks=True)


def regular(path: str | Path) -> str | Path:
    """Return a path if it is that of a file, or of a link to one.

    Raises:
        OSError: It is something else, or is not there. A pipe, say, would be waited for
            without end.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(f"{path} is a folder, pipe, socket or device, not a file")
    return path


def read_foreign_json(
    path: str | Path, text: str | bytes | None = None
) -> dict[str, Any]:
    """Return the settings in a JSON file that others wrote, which has no seal.

    Args:
        path: The file.
        text: What the file holds, if it was read already.

    Raises:
        UserError: The file cannot be read, is not JSON, or holds no mapping.
    """
    try:
        if text is None:
            text = Path(regular(path)).read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as settings in JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, not settings")
    return content


def read_array(path: Path) -> "np.ndarray":
    """Return the numbers in a file of `numpy.save`, as a memory map.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    import numpy as np

    if not path.is_file():
        raise UserError(f"{path} is no file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # At bytes that are no array NumPy's reader raises of many kinds.
        if isinstance(error, ValueError) and "Python objects in dtype" in str(error):
            raise UserError(
                f"{path} holds Python objects, expected numbers: save it as floats"
            ) from None
        reason: object = "cut short, or not written by numpy.save"
        if isinstance(error, OSError):
            reason = error
        raise UserError(f"{path} cannot be read as an array: {reason}") from None

    if not isinstance(array, np.ndarray):
        raise UserError(
            f"{path} holds several arrays; write one alone, with numpy.save"
        )
    # Floats, signed and unsigned integers.
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path} holds an array of {array.dtype}, expected numbers")
    return array


def write_parquet(
    path: str | Path, table: "pa.Table | pd.DataFrame", **writer_options: Any
) -> None:
    """Write a sealed parquet file; the same table gives the same bytes.

    Args:
        path: The file.
        table: What it holds. The index of a data frame is left out.
        writer_options: Options of `pyarrow.parquet.ParquetWriter`.
    """
    # Imported here because the step `fetch` does not need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, table.schema, **writer_options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"seal": seals.BLANK})
        seals.seal_file(temporary)


def read_table(path: str | Path) -> "pa.Table":
    """Return the table that :func:`write_parquet` wrote, after a check of the seal.

    Raises:
        UserError: The file is missing or was altered.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.BufferReader(seals.read_sealed(path, "table"))
    # A pool's thread that is alive at the end aborts the process (apache/arrow#34314).
    table = pq.ParquetFile(content).read(use_threads=False)
    metadata = dict(table.schema.metadata or {})
    metadata.pop(b"seal", None)
    return table.replace_schema_metadata(metadata or None)


def read_parquet(path: str | Path) -> "pd.DataFrame":
    """Return the data frame that :func:`write_parquet` wrote; its seal is checked.

    Raises:
        UserError: The file is missing or was altered.
    """
    return read_table(path).to_pandas(use_threads=False)


def write_sums(path: str | Path, hashed_files: Iterable[Path]) -> None:
    """Write the SHA-256 of files that cannot hold a seal, as a sealed JSON file.

    Args:
        path: The JSON file.
        hashed_files: The files, in the folder of `path` or below.
    """
    folder = Path(path).parent
    sums = {file.relative_to(folder).as_posix(): sha256(file) for file in hashed_files}
    write_json(path, sums)


def check_sums(path: str | Path) -> None:
    """Check the files that :func:`write_sums` listed.

    Raises:
        UserError: The list or one of the files is missing or was altered.
    """
    for name, digest in read_json(path, "list of sums").items():
        check_sum(Path(path).parent / name, digest, path)


def check_sum(
    file: Path,
    digest: str,
    source: str | Path,
    advice: str = "delete both and run again",
) -> None:
    """Check a file whose SHA-256 another file holds.

    Args:
        file: The file.
        digest: The SHA-256 that it should have.
        source: The sealed file that says so.
        advice: How error messages end.

    Raises:
        UserError: The file is missing or was altered.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing, {source} lists it; {advice}")
    actual_digest = sha256(file)
    if actual_digest != digest:
        raise UserError(
            f"{file} was altered or cut short: SHA-256 {actual_digest}, {source} says "
            f"{digest}; {advice}"
        )


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a string's UTF-8 bytes, as hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
