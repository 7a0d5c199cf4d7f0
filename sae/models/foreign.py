"""Checkpoints of other libraries: their tensors and settings, without running what they hold.

Tensors come from safetensors files, or from PyTorch's with `weights_only=True`. A file that needs more to be opened,
such as a pickled model, is refused: to open it is to run it.
"""

import json
import pickle
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold, TopK

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
CONFIGS = ("cfg.json", "config.json")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w./-]+)?")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a file or folder holds.

    Attributes:
        path: the file with the tensors.
        tensors: float32 where they are floats.
        config: of the JSON file beside them, or in front of them; {} if there is none.
    """

    path: Path
    tensors: Tensors
    config: dict[str, Any]

    def take(self, *names: str) -> list[torch.Tensor]:
        """Tensors by name.

        Raises:
            UserError: one is not there.
        """
        if missing := [name for name in names if name not in self.tensors]:
            there = ", ".join(sorted(self.tensors)) or "none"
            raise UserError(f"{self.path}: no tensor {missing[0]}; there are: {there}")
        return [self.tensors[name] for name in names]


def find(place: str) -> Path:
    """A local file or folder, or the local copy of a repository of the Hugging Face hub, `owner/name[:folder]`.

    Raises:
        UserError: there is neither.
    """
    path = Path(place)
    if path.exists():
        return path
    if not _REPOSITORY.fullmatch(place):
        raise UserError(
            f"{place} does not exist, and is no repository owner/name[:folder] of the Hugging Face hub either"
        )
    repository, _, folder = place.partition(":")
    from huggingface_hub import snapshot_download  # Slow to import.

    allowed = [f"{folder}/*" if folder else "*"]
    try:
        found = Path(snapshot_download(repository, allow_patterns=allowed)) / folder
    except Exception as error:  # Of the network, of the hub, or a repository that is not there.
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{place} does not exist here, and the Hugging Face hub does not give it: {said}") from None
    if not found.exists():
        raise UserError(f"the repository {repository} has no folder {folder}")
    return found


def read(place: str) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        UserError: it is not there, holds several files of tensors or none, is cut short, or would have to be run.
    """
    path = find(place)
    file = _tensor_file(path) if path.is_dir() else path
    tensors, header = _tensors(file)
    return Checkpoint(
        file, {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}, header or _config(file)
    )


def _tensor_file(folder: Path) -> Path:
    found = sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES and f.name != "sparsity.safetensors")
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise UserError(
            f"{folder} must hold one file of tensors ({', '.join(SUFFIXES)}); there are: {names}: name the file"
        )
    return found[0]


def _config(file: Path) -> dict[str, Any]:
    for name in CONFIGS:
        path = file.with_name(name)
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise UserError(f"{path} is no JSON: {error}") from None
            if not isinstance(content, dict):
                raise UserError(f"{path} holds {type(content).__name__}, not settings")
            return content
    return {}


def _tensors(file: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a file, and what stands in front of them."""
    header: dict[str, Any] = {}
    try:
        if file.suffix == ".safetensors":
            return load_file(file), _header(file)
        with open(file, "rb") as stream:
            if stream.read(1) == b"{":  # saev's: a line of JSON, then PyTorch's.
                stream.seek(0)
                header = json.loads(stream.readline())
            else:
                stream.seek(0)
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} holds a pickled object, which would have to be run to be opened. Where you trust it, write its "
            "tensors with the library that made it:\n"
            f'    model = torch.load("{file.name}", weights_only=False)\n'
            '    torch.save(model.state_dict(), "state_dict.pt")'
        ) from None
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} cannot be read as tensors: {' '.join(str(error).split())[:200]}") from None
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(t, torch.Tensor) for t in content.values()):
        raise UserError(f"{file} holds {type(content).__name__}, not a state dict of tensors")
    return dict(content), header


def _header(file: Path) -> dict[str, Any]:
    """What a safetensors file of this project says in front of its tensors; {} of any other."""
    with safe_open(file, framework="pt") as opened:
        try:
            said = json.loads((opened.metadata() or {}).get("sae", "{}"))
        except ValueError:
            return {}
    return said if isinstance(said, dict) else {}


@dataclass(frozen=True)
class Space:
    """The input space of a checkpoint: `input_norm`, `input_scale` as in `sae.models.coder.Coder`."""

    norm: str = "none"
    scale: float = 1.0


def coder(
    W_enc: torch.Tensor,
    b_enc: torch.Tensor,
    W_dec: torch.Tensor,
    b_dec: torch.Tensor,
    select: TopK | Threshold,
    k: int,
    space: Space,
) -> Coder:
    """A coder of given tensors: `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d), `b_dec` (d,).

    Raises:
        UserError: the shapes do not fit each other, or a number is not finite.
    """
    d, m = W_enc.shape if W_enc.ndim == 2 else (0, 0)
    shapes = {"W_enc": (d, m), "b_enc": (m,), "W_dec": (m, d), "b_dec": (d,)}
    given = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    for name, shape in shapes.items():
        if not d or tuple(given[name].shape) != shape:
            raise UserError(f"{name} is of shape {tuple(given[name].shape)}, expected {shape or '(d, m)'}")
        if not given[name].isfinite().all():
            raise UserError(f"{name} holds NaN or infinity")
    if isinstance(select, Threshold) and tuple(select.theta.shape) != (m,):
        raise UserError(f"there are {tuple(select.theta.shape)} thresholds for {m} latents")
    if not 1 <= k <= m:
        raise UserError(f"k = {k} is not between 1 and the {m} latents")
    found = Coder(d, m, k, select, input_norm=space.norm, input_scale=space.scale)
    with torch.no_grad():
        for name, value in given.items():
            getattr(found, name).copy_(value)
    return found.requires_grad_(False)


def one_of(value: Any, allowed: Collection[Any], what: str) -> None:
    """Refuse a setting that cannot be reduced to a linear encoder, Top-k or thresholds, and a linear decoder.

    Raises:
        UserError: the value is not among those allowed.
    """
    if value not in allowed:
        named = ", ".join(map(repr, allowed))
        raise UserError(f"{what} {value!r} cannot be imported; allowed: {named}")
