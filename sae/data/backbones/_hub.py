"""Weights files, for the loaders: from the Hugging Face hub through its cache, or from a local file or folder.

The cache is `$HF_HUB_CACHE`, else `$HF_HOME/hub`. A file in it is taken as it is, without asking the hub; with
`HF_HUB_OFFLINE=1` the hub is never asked.
"""

import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors import SafetensorError

from sae.core.errors import UserError

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".tar")
# open_clip and timm assert where another would raise.
_BROKEN = (RuntimeError, AssertionError, ValueError, KeyError, TypeError, OSError, EOFError)
_BROKEN += (pickle.UnpicklingError, SafetensorError)


class File(NamedTuple):
    """A file of the hub: its repo (`org/name`, or `org/name@revision`), its name there, and its local path."""

    repo: str
    name: str
    path: str


def fetch(repo, names, instead):
    """The first of `names` that a repo of the hub has, as a :class:`File`: from the cache, else downloaded into it.

    Raises:
        UserError: it is neither in the cache nor to be had; the message says what to fetch and where to put it, or
            `instead`, what to write in the config for a local copy.
    """
    source = repo
    repo, _, revision = repo.partition("@")
    revision = revision or None
    try:
        for name in names:
            path = try_to_load_from_cache(repo, name, revision=revision)
            if isinstance(path, str):
                return File(source, name, path)
        for name in names:
            try:
                return File(source, name, hf_hub_download(repo, name, revision=revision))
            except RemoteEntryNotFoundError:
                reason = "the repo has no such file"
    except LocalEntryNotFoundError:
        reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the hub cannot be reached"
    except (OSError, HFValidationError) as error:
        reason = _brief(error)
    others = f" (or {', '.join(names[1:])}, where the repo lacks it)" if names[1:] else ""
    option = f" --revision {revision}" if revision else ""
    raise UserError(
        f"{names[0]}{others} of {repo} is not in the Hugging Face cache and cannot be fetched ({reason}): on a machine "
        f"with internet run `hf download {repo} {names[0]}{option}`, then copy the folder "
        f"models--{repo.replace('/', '--')} of its cache (`cp -rL`: its links may lead out of it) into "
        f"{constants.HF_HUB_CACHE}, or {instead}. If it was fetched already, on another machine: HF_HOME must be a "
        "folder that both see"
    )


def weights_file(path, preferred):
    """The weights file that `path` is or, if it is a folder, holds: the first of `preferred`, else the only one.

    Raises:
        UserError: there is none, or no telling which.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(p.name for p in path.iterdir() if p.suffix in _SUFFIXES)
        chosen = [name for name in preferred if name in found] or found[: len(found) == 1]
        if not chosen:
            raise UserError(
                f"folder {path} holds {', '.join(found) or 'no weights'}; expected {' or '.join(preferred)}: name the "
                "weights file itself"
            )
        return str(path / chosen[0])
    if not path.is_file():
        raise UserError(f"weights {path}: the path does not exist; name a weights file, or a folder with one")
    if path.suffix not in _SUFFIXES:
        raise UserError(f"weights {path}: expected a file of one of the types {', '.join(_SUFFIXES)}")
    return str(path)


@contextmanager
def loading(file, model):
    """Turn what a library raises on weights that are broken or another model's into a UserError."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(
            f"weights {file} cannot be loaded into {model}: {_brief(error)}; name the model that they belong to, or "
            "fetch them anew if the file is broken"
        ) from None


def _brief(error):
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."
