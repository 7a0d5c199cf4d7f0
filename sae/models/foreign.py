"""Checkpoints of other libraries: their tensors and settings, without running what they hold.

Tensors come from safetensors files, or from PyTorch's with `weights_only=True`. A file that needs more to be opened,
such as a pickled model, is refused: to open it is to run it.

Nothing that a file says is trusted. An importer declares the settings that it reads, a :class:`Settings`, and the axes
of each tensor; :meth:`Checkpoint.settings` and :meth:`Checkpoint.take` give what fits them, and each other.
"""

import os
import pickle
import re
import reprlib
import statistics
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sae.core import files
from sae.core.errors import UserError, brief
from sae.core.options import told
from sae.models.coder import Coder, Threshold

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
CONFIGS = ("cfg.json", "config.json")
LARGEST = 1e18  # The product of two such numbers is still finite in float32.
# The tensors of a checkpoint may take so many times its file's size: a tied encoder and
# decoder take it twice.
MOST_SHARED = 4
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w./-]+)?")
Tensors = dict[str, Tensor]
Size = Annotated[int, Field(ge=1, lt=2**31)]
Factor = Annotated[float, Field(gt=0, lt=2**31)]  # Of a size, or a size as a float.
Number = Annotated[float, Field(gt=-LARGEST, lt=LARGEST)]
Norm = Literal["none", "unit_l2", "unit_l2_layernorm"]
Scale = Annotated[float, Field(gt=1e-30, lt=1e30)]  # A factor of numbers in float32.


class Settings(BaseModel):
    """The settings that an importer reads, by key: nothing is converted between types, other keys are ignored."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, allow_inf_nan=False
    )
    PLACE: ClassVar[str] = "cfg.json beside it"

    @classmethod
    def of(cls, content: Any, where: Path | str) -> Self:
        """The settings of some JSON.

        Raises:
            UserError: a key is missing, or a value of another type or beyond its range; `where` names the source.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(
                f"{where}: {told(error)}; others cannot be imported"
            ) from None


class Stated(Settings):
    """What this project's exports say of themselves, and users of a checkpoint.

    Attributes:
        k: latents that are kept, or the budget of thresholds.
        input_norm, input_scale: the space of its inputs, as in `sae.models.coder.Coder`.
    """

    k: Size | None = None
    input_norm: Norm | None = None
    input_scale: Scale | None = None


@dataclass(frozen=True)
class Options:
    """What a checkpoint may leave open.

    Attributes:
        k: latents that are kept, or the budget of thresholds; None: as the checkpoint says.
        input_norm, input_scale: the space of its inputs; None: as the checkpoint says, else raw embeddings.

    Raises:
        UserError: a value is of another type, or beyond its range.
    """

    k: int | None = None
    input_norm: str | None = None
    input_scale: float | None = None

    def __post_init__(self) -> None:
        own = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(self).items()
        }
        Stated.of(own, "import options")

    def over(self, found: Stated) -> Stated:
        """These options, and the input space that the checkpoint names where they are None."""
        own = {name: value for name, value in vars(self).items() if value is not None}
        return found.model_copy(update={"k": None} | own)


Model = TypeVar("Model", bound=Settings)


@dataclass(frozen=True)
class Checkpoint:
    """What a file or folder holds.

    Attributes:
        path: the file with the tensors.
        tensors: float32 where they are floats.
        config: of the JSON file beside them, or in front of them; {} if there is none.
        said_in: the file with the settings; None if there is none.
    """

    path: Path
    tensors: Tensors
    config: dict[str, Any]
    said_in: Path | None

    def settings(self, model: type[Model]) -> Model:
        """The settings that an importer reads.

        Raises:
            UserError: there are none, and some are needed; or as :meth:`Settings.of`.
        """
        if self.said_in is None and any(
            field.is_required() for field in model.model_fields.values()
        ):
            where = f"{model.PLACE}, where its format keeps the settings"
            raise UserError(
                f"{self.path} has no {where}: put it there, or name another format (--format)"
            )
        return model.of(self.config, self.said_in or self.path)

    def made_by(self) -> Stated:
        """What `made_by.json` beside it says, which this project's exports have."""
        file = self.path.with_name("made_by.json")
        return (
            Stated.of(files.read_foreign_json(file), file)
            if file.exists()
            else Stated()
        )

    def take(
        self,
        shapes: Mapping[str, str],
        d: Mapping[str, float | None] = {},
        m: Mapping[str, float | None] = {},
    ) -> Tensors:
        """Tensors by name, finite, of sizes that fit each other and the settings. Blame is put on the odd one out.

        Args:
            shapes: a tensor's name -> its axes: 'dm' for (d, m), '' for one number, 'm?' for (m,) or one number, which
                is then repeated.
            d, m: keys of the settings that state this size -> what they say; None where a key is not there.

        Raises:
            UserError: one is not there, does not hold floats, or does not fit; it names the file and the tensor or key.
        """
        found = {name: self._floats(name, axes) for name, axes in shapes.items()}
        axes_of = {
            n: "" if axes == "m?" and found[n].ndim == 0 else axes.strip("?")
            for n, axes in shapes.items()
        }
        said = [
            (k, axis, n)
            for axis, keys in (("d", d), ("m", m))
            for k, n in keys.items()
            if n is not None
        ]
        sizes = _agreed(
            [
                *((axis, size) for _, axis, size in said),
                *((axes_of[n], *found[n].shape) for n in shapes),
            ]
        )
        for name, axes in axes_of.items():
            needed = tuple(sizes[axis] for axis in axes)
            if (shape := tuple(found[name].shape)) != needed:
                text = str(needed).replace("'", "")
                raise UserError(
                    f"{self.path}: {name} is of shape {shape}, expected {text}, to fit the others"
                )
            if not _within(found[name], torch.inf):
                raise UserError(
                    f"{self.path}: {name} holds NaN, infinity or numbers beyond float32"
                )
        for key, axis, size in said:
            if size != sizes[axis]:
                raise UserError(
                    f"{self.said_in}: {key} is {size}, expected {sizes[axis]}, to fit {self.path}"
                )
        return {
            n: t.expand(sizes["m"]) if shapes[n] == "m?" else t
            for n, t in found.items()
        }

    def _floats(self, name: str, axes: str) -> Tensor:
        if name not in self.tensors:
            raise UserError(
                f"{self.path}: no tensor {name}; there are: {listed(self.tensors)}"
            )
        tensor = self.tensors[name]
        if not tensor.is_floating_point():
            raise UserError(
                f"{self.path}: {name} is of {tensor.dtype}, expected floats, such as torch.float32"
            )
        return (
            tensor.reshape(()) if axes in ("", "m?") and tensor.numel() == 1 else tensor
        )


def _within(tensor: Tensor, limit: float) -> bool:
    low, high = torch.aminmax(tensor)
    return bool(-limit < low and high < limit)  # NaN is not.


def _agreed(parts: list[tuple]) -> dict[str, Any]:
    """What most of these (axes, *sizes) say d and m are, the first where it is a draw; the letter where none does."""
    whole = [
        zip(axes, sizes, strict=True)
        for axes, *sizes in parts
        if len(axes) == len(sizes)
    ]
    seen = [(axis, size) for part in whole for axis, size in part if size]
    return {
        axis: statistics.mode([size for a, size in seen if a == axis] or [axis])
        for axis in "dm"
    }


def listed(names: Iterable[str]) -> str:
    """Names in a line."""
    return ", ".join(repr(name)[1:-1] for name in sorted(names)[:12]) or "none"


def find(place: str) -> Path:
    """A local file or folder, or the local copy of a repository of the Hugging Face hub, `owner/name[:folder]`.

    Raises:
        UserError: there is neither.
    """
    path = Path(place)
    if os.path.exists(path):  # A name that is too long is none, too.
        return path
    if not REPOSITORY.fullmatch(place):
        raise UserError(
            f"{place} does not exist, and is no repository owner/name[:folder] of the Hugging Face hub"
        )
    repository, _, folder = place.partition(":")
    from huggingface_hub import snapshot_download  # Slow to import.

    try:
        found = (
            Path(
                snapshot_download(
                    repository, allow_patterns=[f"{folder}/*" if folder else "*"]
                )
            )
            / folder
        )
    except (
        Exception
    ) as error:  # Of the network, of the hub, or a repository that is not there.
        said = "does not exist here, and the Hugging Face hub does not give it"
        raise UserError(f"{place} {said}: {brief(error)}") from None
    if not found.exists():
        raise UserError(f"the repository {repository} has no folder {folder}")
    return found


def read(place: str) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        UserError: it is not there, holds several files of tensors or none, is cut short, would have to be run, or
            holds other tensors than dense ones under names.
    """
    path = find(place)
    file = _tensor_file(path) if path.is_dir() else path
    tensors, config = _tensors(file)
    if config:
        return Checkpoint(file, tensors, config, file)
    said_in = next(
        (f for name in CONFIGS if (f := file.with_name(name)).exists()), None
    )
    return Checkpoint(
        file, tensors, files.read_foreign_json(said_in) if said_in else {}, said_in
    )


def _tensor_file(folder: Path) -> Path:
    found = sorted(
        f
        for f in folder.iterdir()
        if f.suffix in SUFFIXES and f.name != "sparsity.safetensors"
    )
    if len(found) != 1:
        said = f"({', '.join(SUFFIXES)}); there are: {', '.join(f.name for f in found) or 'none'}"
        raise UserError(f"{folder} must hold one file of tensors {said}: name the file")
    return found[0]


def _tensors(file: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a file, and the settings that stand in front of them."""
    header: dict[str, Any] = {}
    try:
        files.regular(file)
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                content: Any = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                own = (opened.metadata() or {}).get("sae", "{}")
            with suppress(UserError):  # Other projects may use the key.
                header = files.read_foreign_json(file, own)
        else:
            with open(file, "rb") as stream:
                if (
                    stream.peek(1)[:1] == b"{"
                ):  # saev's: a line of JSON, then PyTorch's.
                    header = files.read_foreign_json(file, stream.readline())
                content = _unpickled(file, stream)
        if isinstance(content, Mapping) and isinstance(
            content.get("state_dict"), Mapping
        ):
            content = content["state_dict"]
        _check_memory(file, content)
        tensors = {name: tensor.detach() for name, tensor in content.items()}
        return {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }, header
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as tensors: {brief(error)}") from None


def _unpickled(file: Path, stream: Any) -> Mapping:
    _check_packed(file)
    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # Of PyTorch's reader alone: at bytes that are no checkpoint it raises of any kind.
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise UserError(
                f"{file} holds a pickled object, which would have to be run to be opened. Where you trust it, write "
                f'its tensors with the library that made it: model = torch.load("{file.name}", weights_only=False); '
                'torch.save(model.state_dict(), "state_dict.pt")'
            ) from None
        said = f" ({brief(error, 100)})" if isinstance(error, RuntimeError) else ""
        said = f"no file that torch.save wrote, or cut short{said}. Of other files, give .safetensors"
        raise UserError(f"{file} cannot be read as tensors: {said}") from None
    if not isinstance(content, Mapping):
        raise UserError(
            f"{file} holds {type(content).__name__}, not a state dict of tensors"
        )
    return content


def _check_packed(file: Path) -> None:
    """Check that a file unpacks to no more than its size: torch.save compresses nothing.

    Raises:
        UserError: it unpacks to more.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception:  # No zip, or a damaged one: PyTorch's reader says what it is.
        return
    size = file.stat().st_size
    if unpacked > size:
        raise UserError(
            f"{file} is compressed: its {size:,} bytes unpack to {unpacked:,}, which "
            "are not read. Write it by torch.save alone"
        )


def _check_memory(file: Path, content: Mapping) -> None:
    """Check that values are dense tensors under names, and as large as the file.

    A tensor that was expanded, or that many names share, is small in a file and large
    once it is converted.

    Raises:
        UserError: they are something else, or larger.
    """
    total = 0
    for name, tensor in content.items():
        _check_dense(file, name, tensor)
        held = tensor.untyped_storage().nbytes()
        needed = tensor.numel() * tensor.element_size()
        total += needed
        if needed > held:
            raise UserError(
                f"{file}: {repr(name)[1:-1]} was expanded: its shape "
                f"{tuple(tensor.shape)} takes {needed:,} bytes, of which the file "
                f"holds {held:,}. Write it whole, by its method contiguous()"
            )
    size = file.stat().st_size
    if total > MOST_SHARED * size:
        raise UserError(
            f"{file}: its tensors share their numbers: they take {total:,} bytes, and "
            f"the file has {size:,}. Write those alone that the SAE needs"
        )


def _check_dense(file: Path, name: Any, tensor: Any) -> None:
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        found = f"{type(tensor).__name__} under {reprlib.repr(name)}"
        raise UserError(
            f"{file} holds {found}, not a state dict of tensors under names"
        )
    if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
        form = "on the device meta, nested or sparse"
        raise UserError(
            f"{file}: {repr(name)[1:-1]} is no dense tensor of numbers (it is {form}): write it as one"
        )


def coder(
    checkpoint: Checkpoint,
    given: Stated,
    tensors: Sequence[Tensor],
    k: float | None,
    theta: Tensor | None = None,
) -> Coder:
    """A coder of tensors that :meth:`Checkpoint.take` gave, or that were made from them.

    Args:
        given: its input space, and a k that overrides the checkpoint's.
        tensors: `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d), `b_dec` (d,).
        k: what the checkpoint says: latents that a Top-k SAE keeps, or the budget of thresholds, where any number
            will do.
        theta: (m,) the thresholds; None for a Top-k SAE.

    Raises:
        UserError: no k is known, it is not between 1 and m, or a number is too large to calculate with.
    """
    parts = dict(zip(("W_enc", "b_enc", "W_dec", "b_dec"), tensors, strict=True))
    for name, value in (
        parts if theta is None else parts | {"the threshold": theta}
    ).items():
        if not _within(value, LARGEST):
            said = f"comes out as NaN or beyond {LARGEST:g}: numbers too large or small"
            raise UserError(f"{checkpoint.path}: {name} {said}")
    m, d = parts["W_dec"].shape
    if theta is not None and given.k is None:
        k = max(1, round(k or 1))
    k = given.k or k
    if k is None:
        beside = (
            ""
            if checkpoint.said_in
            else f" (there is no {' or '.join(CONFIGS)} beside it)"
        )
        raise UserError(
            f"{checkpoint.path} does not say how many latents are kept: give --k{beside}"
        )
    if not (1 <= k <= m and k == int(k)):
        raise UserError(
            f"{checkpoint.path}: k = {k:g}; it should be a whole number from 1 to its {m} latents"
        )
    select = None if theta is None else Threshold(theta.clone())
    norm, scale = given.input_norm or "none", given.input_scale or 1.0
    found = Coder(d, m, int(k), select, input_norm=norm, input_scale=scale)
    found.fill(parts)
    return found.requires_grad_(False)


def kept(a: Tensor, k: int, theta: Tensor | float | None) -> Tensor:
    """Of activations (N, m) what is above the thresholds, or the k largest of each row without any; else 0."""
    if theta is not None:
        return a * (a > theta)
    values, places = a.topk(k, dim=1)
    return torch.zeros_like(a).scatter(1, places, values)


def times(size: int | None, factor: float | None) -> float | None:
    """The product; None where one of them is not known."""
    return None if size is None or factor is None else size * factor
