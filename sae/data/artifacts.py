"""Read fetched artifacts: pinned files with a licence and a citation (`sae.data.fetch` brings them)."""

from pathlib import Path

from sae.core import files
from sae.core.errors import UserError


def path(root, name, file):
    """The path of one fetched file, its hash checked against the artifact's manifest.

    Raises:
        UserError: the manifest or the file is missing, or the content has another hash.
    """
    folder = Path(root) / name
    manifest = files.read_json(folder / "artifact.json", f"manifest of artifact {name}")
    if file not in manifest["files"]:
        raise UserError(f"artifact {name} has no file {file!r}; it has {', '.join(manifest['files'])}")
    if not is_present(folder / file, manifest["files"][file]):
        raise UserError(f"{folder / file} is missing; delete {folder / 'artifact.json'} and run again")
    return folder / file


def manifest(root, name):
    """What is recorded of a fetched artifact: version, licence, citation, homepage, hashes."""
    return files.read_json(Path(root) / name / "artifact.json", f"manifest of artifact {name}")


def names(spec):
    """The artifacts that a dataset's or backbone's specification refers to, in order."""
    named = spec.get("artifacts", [])
    return list(named.values()) if isinstance(named, dict) else list(named)


def is_present(target, digest):
    """Whether file `target` is there.

    Raises:
        UserError: it is there, with another SHA-256 than `digest`; the message shows both.
    """
    if not target.exists():
        return False
    found = files.sha256(target)
    if found != digest:
        raise UserError(f"{target} has SHA-256 {found}, expected {digest}; delete it and run again")
    return True
