"""Files that are either whole or absent: each is written under a temporary name, then renamed.

What a later step reads is sealed (`sae.core.seals`), or a sealed file beside it holds its SHA-256.
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
    """Yield a temporary path beside `path`; rename it onto `path` on success, remove it on failure.

    The bytes reach the disk before the rename, so that a crash leaves the old file or the new one, never half of one.

    Raises:
        OSError: as :func:`writing`.
    """
    with _scratch(path) as temporary:
        yield temporary
        if not temporary.is_symlink():
            _sync(temporary)
        os.replace(temporary, path)


@contextmanager
def refusing_unwritable(path: str | Path) -> Iterator[None]:
    """Say in one line that `path` cannot be written.

    Raises:
        UserError: the block raised an `OSError`. One of a full or closed disk goes on
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
    with _scratch(path) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def atomic_directory(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; on success bring its files to the disk and rename it to `path`.

    If `path` exists by then (another process made the same content first), the temporary directory is removed; or, with
    `replace`, what was there goes as a whole.
    """
    path = Path(path)
    with scratch_directory(path) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if replace and path.exists():
            with _scratch(path.with_name(f"{path.name}.old")) as old:
                os.rename(path, old)
                os.rename(temporary, path)
            return
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise


@contextmanager
def _scratch(path: str | Path) -> Iterator[Path]:
    """Yield a new name beside `path` with this process's id; what stands there in the end is removed.

    So is what dead processes of this machine left.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if is_left_over(left):
                _remove(left)
        temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")
        try:
            yield temporary
        finally:
            _remove(temporary)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is made if needed. A file system without locks gives none.

    Args:
        waiting: called once if another process holds the lock, before this one waits for it.
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
        yield


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Wrap the writing of `path`: a full or closed disk raises an OSError that names `path`.

    Libraries name no file or only the temporary one, and some raise exceptions of their own.

    Raises:
        OSError: the disk is full, its quota used up, read-only, or closed to this user.
    """
    try:
        yield
    except Exception as error:
        code = faults.disk_error(error)
        # The error of a copy has the target in `filename2`.
        named = getattr(error, "filename2", None) or getattr(error, "filename", None)
        if code is None or (
            named is not None and f"/.{Path(path).name}." not in str(named)
        ):
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def link_or_copy(
    source: Path, target: Path, link: Callable[[Path, Path], Any] = os.link
) -> None:
    """Make folder `target` hold the files of folder `source`: by hard links, which take no space, or by copies.

    Args:
        link: makes a file of another one; where it fails, the file is copied.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if not file.is_file() or (
            (target / file.name).exists() and file.samefile(target / file.name)
        ):
            continue
        with atomic_file(target / file.name) as temporary:
            try:
                link(file, temporary)
            except OSError:
                shutil.copyfile(file, temporary)


def _sync(file: Path) -> None:
    # Opened for reading, since a linked file may be another user's. Windows syncs only files opened for writing.
    with open(file, "r+b" if os.name == "nt" else "rb") as opened:
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_left_over(path: Path) -> bool:
    """Whether `path` is a temporary file or folder that a dead process of this machine left."""
    temporary = re.fullmatch(rf"\..+\.{re.escape(_host())}-(\d+)\.tmp", path.name)
    return temporary is not None and not is_alive(int(temporary[1]))


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def is_alive(pid: int) -> bool:
    """Whether a process of this machine exists; on Windows, where the signal 0 is Ctrl-C, each passes for alive."""
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
    """JSON in one canonical form: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write a sealed JSON file, indented and with sorted keys; beside those of `content` it has the key `seal`."""
    with atomic_file(path) as temporary:
        text = json.dumps(
            content | {"seal": seals.BLANK}, indent=2, sort_keys=True, allow_nan=False
        )
        temporary.write_text(text + "\n", encoding="utf-8")
        seals.seal(temporary)


def read_json(
    path: str | Path, what: str = "file", advice: str = seals.ADVICE
) -> dict[str, Any]:
    """The content that :func:`write_json` wrote, its seal checked.

    Args:
        what: what error messages call the file.
        advice: how they end.

    Raises:
        UserError: the file is missing or was altered.
    """
    content = json.loads(seals.read(path, what, advice))
    del content["seal"]
    return content


def regular(path: str | Path) -> str | Path:
    """The path of a file, or of a link to one.

    Raises:
        OSError: it is something else, or is not there. A pipe, say, would be waited for without end.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(f"{path} is a folder, pipe, socket or device, not a file")
    return path


def read_foreign_json(
    path: str | Path, text: str | bytes | None = None
) -> dict[str, Any]:
    """The settings in a JSON file that others wrote, or in a text of it.

    Raises:
        UserError: it cannot be read, is not JSON, or holds no mapping.
    """
    try:
        content = json.loads(
            Path(regular(path)).read_text(encoding="utf-8") if text is None else text
        )
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as settings in JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, not settings")
    return content


def read_array(path: Path) -> "np.ndarray":
    """The numbers in a file of `numpy.save`, as a memory map.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    import numpy as np

    if not path.is_file():
        raise UserError(f"{path} is no file")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # Of NumPy's reader alone: at bytes that are no array it raises of many kinds.
        if isinstance(error, ValueError) and "Python objects in dtype" in str(error):
            raise UserError(
                f"{path} holds Python objects, expected numbers: save it as floats"
            ) from None
        said = "cut short, or not written by numpy.save"
        raise UserError(
            f"{path} cannot be read as an array: {error if isinstance(error, OSError) else said}"
        ) from None
    if not isinstance(found, np.ndarray):
        raise UserError(
            f"{path} holds several arrays; write one alone, with numpy.save"
        )
    if found.dtype.kind not in "fiu":
        raise UserError(f"{path} holds an array of {found.dtype}, expected numbers")
    return found


def write_parquet(
    path: str | Path, table: "pa.Table | pd.DataFrame", **how: Any
) -> None:
    """Write a sealed parquet file; the same table gives the same bytes. The index of a data frame is left out.

    Args:
        how: options of `pyarrow.parquet.ParquetWriter`.
    """
    import pyarrow as pa  # Imported here because the step `fetch` does not need it.
    import pyarrow.parquet as pq

    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    with atomic_file(path) as temporary:
        with pq.ParquetWriter(temporary, table.schema, **how) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"seal": seals.BLANK})
        seals.seal(temporary)


def read_table(path: str | Path) -> "pa.Table":
    """The table that :func:`write_parquet` wrote; its seal is checked.

    Raises:
        UserError: the file is missing or was altered.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(seals.read(path, "table")))


def read_parquet(path: str | Path) -> "pd.DataFrame":
    """As :func:`read_table`, as a data frame."""
    return read_table(path).to_pandas()


def write_sums(path: str | Path, made: Iterable[Path]) -> None:
    """Write the SHA-256 of files beside `path`, or below, that cannot hold a seal, as a sealed JSON file."""
    write_json(
        path,
        {file.relative_to(Path(path).parent).as_posix(): sha256(file) for file in made},
    )


def check_sums(path: str | Path) -> None:
    """Check the files that :func:`write_sums` listed.

    Raises:
        UserError: the list or one of the files is missing or was altered.
    """
    for name, digest in read_json(path, "list of sums").items():
        check_sum(Path(path).parent / name, digest, path)


def check_sum(
    file: Path,
    digest: str,
    source: str | Path,
    advice: str = "delete both and run again",
) -> None:
    """Check a file whose SHA-256 the sealed file `source` holds.

    Raises:
        UserError: the file is missing or was altered.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing, {source} lists it; {advice}")
    found = sha256(file)
    if found != digest:
        raise UserError(
            f"{file} was altered or cut short: SHA-256 {found}, {source} says {digest}; {advice}"
        )


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """The SHA-256 of a string's UTF-8 bytes, as hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
