"""Read fetched artifacts: pinned files with a licence and a citation.

`sae.data.fetch` fetches them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sae.core import files
from sae.core.errors import UserError


def path(root: str | Path | None, name: str, file: str) -> Path:
    """Return the path of one fetched file, checked against the artifact's manifest.

    Args:
        root: the folder of fetched artifacts.
        name: the artifact's.
        file: the file's name in it.

    Raises:
        UserError: the manifest or the file is missing, or the content has another hash.
    """
    folder = _folder(root, name)
    hashes = manifest(root, name)["files"]
    if file not in hashes:
        raise UserError(
            f"artifact {name} has no file {file!r}; it has {', '.join(hashes)}"
        )
    files.check_sum(folder / file, hashes[file], folder / "artifact.json")
    return folder / file


def only_file(root: str | Path | None, name: str) -> Path:
    """Return the :func:`path` of the one file that an artifact has."""
    (file,) = manifest(root, name)["files"]
    return path(root, name, file)


def manifest(root: str | Path | None, name: str) -> dict[str, Any]:
    """Return the record of a fetched artifact.

    It holds version, licence, citation, homepage and hashes.
    """
    return files.read_json(
        _folder(root, name) / "artifact.json", f"manifest of artifact {name}"
    )


def manifests(root: str | Path | None, names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the :func:`manifest` of each artifact of some names."""
    return [manifest(root, name) for name in names]


def list_names(written: Mapping[str, str] | Iterable[str]) -> list[str]:
    """Return the artifacts that a dataset or backbone names, in order.

    Args:
        written: its option `artifacts`: names, or {what an artifact is: its name}, such
            as {google: emoji_google}.
    """
    return list(written.values()) if isinstance(written, Mapping) else list(written)


def _folder(root: str | Path | None, name: str) -> Path:
    if root is None:
        raise UserError(
            f"artifact {name} is needed: name the folder of fetched artifacts"
        )
    return Path(root) / name
