"""Write tars, and files as they lie once they have been fetched."""

import io
import os
import tarfile
from pathlib import Path

from sae.core import files


def tar(*members: tuple[str | bytes, bytes], mode: str = "w") -> bytes:
    """Return a tar of (name, content), names as bytes where they are no text."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(os.fsdecode(name))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write_artifact(folder: Path, contents: dict[str, bytes]) -> None:
    """Write an artifact of {file name: content} into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    hashes = {name: files.sha256(folder / name) for name in contents}
    about = {"name": folder.name, "files": hashes}
    files.write_json(folder / "artifact.json", about)
