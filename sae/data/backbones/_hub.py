"""Weights files for the loaders, from the Hugging Face hub through its cache or from a local file or folder.

The cache is `$HF_HUB_CACHE`, else `$HF_HOME/hub`. The hub is not asked about a file that is in the cache. With
`HF_HUB_OFFLINE=1` the hub is never asked.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)
from safetensors import SafetensorError

from sae.core.errors import UserError, in_one_line

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".tar")
# open_clip and timm assert where another would raise.
_BROKEN: tuple[type[Exception], ...] = (
    RuntimeError,
    AssertionError,
    ValueError,
    KeyError,
    TypeError,
    OSError,
)
_BROKEN += (EOFError, pickle.UnpicklingError, SafetensorError)


class File(NamedTuple):
    """A file of the hub: its repo (`org/name`, or `org/name@revision`), its name there, and its local path."""

    repo: str
    name: str
    path: str


def fetch(repo: str, names: Sequence[str], instead: str) -> File:
    """The first of `names` that a repo of the hub has; it is downloaded if the cache lacks it.

    Args:
        instead: what to write in the config for a local copy; goes into the error message.

    Raises:
        UserError: it is not in the cache and cannot be downloaded; the message says what to fetch and where to put it.
    """
    source = repo
    repo, _, given = repo.partition("@")
    revision = given or None
    try:
        for name in names:
            path = try_to_load_from_cache(repo, name, revision=revision)
            if isinstance(path, str):
                return File(source, name, path)
        for name in names:
            try:
                return File(
                    source, name, hf_hub_download(repo, name, revision=revision)
                )
            except RemoteEntryNotFoundError:
                reason = "the repo has no such file"
    except LocalEntryNotFoundError:
        reason = (
            "HF_HUB_OFFLINE is set"
            if constants.is_offline_mode()
            else "the hub cannot be reached"
        )
    except (OSError, HFValidationError) as error:
        reason = in_one_line(error)
    others = (
        f" (or {', '.join(names[1:])}, where the repo lacks it)" if names[1:] else ""
    )
    option = f" --revision {revision}" if revision else ""
    raise UserError(
        f"{names[0]}{others} of {repo} is not in the Hugging Face cache and cannot be fetched ({reason}): on a machine "
        f"with internet run `hf download {repo} {names[0]}{option}`, then copy the folder "
        f"models--{repo.replace('/', '--')} of its cache (`cp -rL`: its links may lead out of it) into "
        f"{constants.HF_HUB_CACHE}, or {instead}. If it was fetched already, on another machine: HF_HOME must be a "
        "folder that both see"
    )


def weights_file(path: str | Path, preferred: Sequence[str]) -> str:
    """`path` if it is a weights file. If it is a folder: the first of `preferred` in it, else its only weights file.

    Raises:
        UserError: there is no weights file, or it is unclear which to take.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir() if p.suffix in _SUFFIXES)
        chosen = [name for name in preferred if name in found] or found[
            : len(found) == 1
        ]
        if not chosen:
            held, expected = ", ".join(found) or "no weights", " or ".join(preferred)
            raise UserError(
                f"folder {path} holds {held}; expected {expected}: name the weights file itself"
            )
        return str(path / chosen[0])
    if not path.is_file():
        raise UserError(
            f"weights {path}: the path does not exist; name a weights file, or a folder with one"
        )
    if path.suffix not in _SUFFIXES:
        raise UserError(
            f"weights {path}: expected a file of one of the types {', '.join(_SUFFIXES)}"
        )
    return str(path)


@contextmanager
def loading(file: str, model: str) -> Iterator[None]:
    """A context that turns what libraries raise on broken weights, or those of another model, into a UserError."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(
            f"weights {file} cannot be loaded into {model}: {in_one_line(error)}; name the model that they "
            "belong to, or fetch them anew if the file is broken"
        ) from None
