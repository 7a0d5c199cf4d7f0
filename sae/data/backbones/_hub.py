"""Weights files for the loaders, from the Hugging Face hub or from a local place.

The hub's files go through its cache, `$HF_HUB_CACHE`, else `$HF_HOME/hub`. The hub is
not asked about a file that is in the cache. With `HF_HUB_OFFLINE=1` the hub is never
asked.
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

_NAME_A_COPY = "name a local copy in the backbone's entry as `checkpoint: PATH`"
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".tar")
# What libraries raise on broken weights. open_clip and timm assert where another would
# raise.
_BROKEN: tuple[type[Exception], ...] = (
    RuntimeError,
    AssertionError,
    ValueError,
    KeyError,
    TypeError,
    OSError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)


class File(NamedTuple):
    """A file of the hub.

    Attributes:
        repo: `org/name`, or `org/name@revision`.
        name: the file's name there.
        path: where it is on this machine.
    """

    repo: str
    name: str
    path: str


def fetch(repo: str, names: Sequence[str], instead: str = _NAME_A_COPY) -> File:
    """Return the first of some files that a repo of the hub has.

    It is downloaded if the cache lacks it.

    Args:
        repo: `org/name`, or `org/name@revision`.
        names: of the files.
        instead: what to write in the config for a local copy; goes into the error
            message.

    Raises:
        UserError: it is not in the cache and cannot be downloaded; the message says
            what to fetch and where to put it.
    """
    repo_id, _, revision_text = repo.partition("@")
    revision = revision_text or None
    try:
        for name in names:
            path = try_to_load_from_cache(repo_id, name, revision=revision)
            if isinstance(path, str):
                return File(repo, name, path)
        for name in names:
            try:
                path = hf_hub_download(repo_id, name, revision=revision)
                return File(repo, name, path)
            except RemoteEntryNotFoundError:
                reason = "the repo has no such file"
    except LocalEntryNotFoundError:
        reason = "the hub cannot be reached"
        if constants.is_offline_mode():
            reason = "HF_HUB_OFFLINE is set"
    except (OSError, HFValidationError) as error:
        reason = in_one_line(error)

    alternatives = ""
    if names[1:]:
        alternatives = f" (or {', '.join(names[1:])}, where the repo lacks it)"
    option = f" --revision {revision}" if revision else ""
    raise UserError(
        f"{names[0]}{alternatives} of {repo_id} is not in the Hugging Face cache and "
        f"cannot be fetched ({reason}): on a machine with internet run `hf download "
        f"{repo_id} {names[0]}{option}`, then copy the folder "
        f"models--{repo_id.replace('/', '--')} of its cache (`cp -rL`: its links may "
        f"lead out of it) into {constants.HF_HUB_CACHE}, or {instead}. If it was "
        "fetched already, on another machine: HF_HOME must be a folder that both see"
    )


def weights_file(path: str | Path, preferred: Sequence[str]) -> str:
    """Return a weights file at a local path.

    Args:
        path: a weights file, or a folder.
        preferred: the names that are looked for in a folder. If it has none of them,
            its only weights file is taken.

    Raises:
        UserError: there is no weights file, or it is unclear which to take.
    """
    path = Path(path)
    if path.is_dir():
        return str(path / _weights_in_folder(path, preferred))
    if not path.is_file():
        raise UserError(
            f"weights {path}: the path does not exist; name a weights file, or a "
            "folder with one"
        )
    if path.suffix not in _SUFFIXES:
        raise UserError(
            f"weights {path}: expected a file of one of the types "
            f"{', '.join(_SUFFIXES)}"
        )
    return str(path)


def _weights_in_folder(folder: Path, preferred: Sequence[str]) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix in _SUFFIXES)
    for name in preferred:
        if name in names:
            return name
    if len(names) != 1:
        raise UserError(
            f"folder {folder} holds {', '.join(names) or 'no weights'}; expected "
            f"{' or '.join(preferred)}: name the weights file itself"
        )
    return names[0]


@contextmanager
def loading(file: str, model: str) -> Iterator[None]:
    """Turn what libraries raise on broken weights into a UserError.

    They raise it on those of another model too.

    Args:
        file: the weights, for the message.
        model: the model that they are loaded into, for the message.
    """
    try:
        yield
    except _BROKEN as error:
        raise UserError(
            f"weights {file} cannot be loaded into {model}: {in_one_line(error)}; name "
            "the model that they belong to, or fetch them anew if the file is broken"
        ) from None
