"""Read the tensors and settings of other libraries' checkpoints, without running code.

Tensors come from safetensors files, or from PyTorch's with `weights_only=True`. A file
that needs more to be opened, such as a pickled model, is refused: to open it is to run
it.

Nothing that a file says is trusted. An importer declares the settings that it reads, as
a :class:`CheckpointSettings`, and the axes of each tensor.
:meth:`Checkpoint.read_settings` and :meth:`Checkpoint.take_tensors` return what fits
this declaration, and raise a `UserError` for anything else.
"""

import os
import pickle
import re
import reprlib
import statistics
import zipfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sae.core import files
from sae.core.errors import UserError, in_one_line
from sae.core.options import describe_problems
from sae.models.coder import Coder, Threshold

TENSOR_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
SETTINGS_FILES = ("cfg.json", "config.json")
# The product of two such numbers is still finite in float32.
LARGEST_NUMBER = 1e18
# The tensors of a checkpoint may take so many times its file's size: a tied encoder and
# decoder take it twice.
MOST_SHARED = 4
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w./-]+)?")

Tensors = dict[str, Tensor]
Size = Annotated[int, Field(ge=1, lt=2**31)]
# What a size is multiplied with, or a size that is written as a float.
Factor = Annotated[float, Field(gt=0, lt=2**31)]
Number = Annotated[float, Field(gt=-LARGEST_NUMBER, lt=LARGEST_NUMBER)]
Norm = Literal["none", "unit_l2", "unit_l2_layernorm"]
# What inputs in float32 are multiplied with.
Scale = Annotated[float, Field(gt=1e-30, lt=1e30)]


class CheckpointSettings(BaseModel):
    """The settings that an importer reads, one field for each key.

    No value is converted to another type, and keys that are not declared are ignored.

    Attributes:
        PLACE: where the format keeps its settings, for error messages.
    """

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, allow_inf_nan=False
    )
    PLACE: ClassVar[str] = "cfg.json beside it"

    @classmethod
    def parse(cls, content: Any, source: Path | str) -> Self:
        """Check the content of a JSON file, and return it as settings.

        Args:
            content: what the JSON file holds.
            source: what error messages call the file.

        Raises:
            UserError: a key is missing, or a value is of another type or out of range.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(
                f"{source}: {describe_problems(error)}; others cannot be imported"
            ) from None


class CoderSettings(CheckpointSettings):
    """The settings of a coder that its tensors do not show.

    This project's exports state them in their files, and a user states them as
    :class:`Options`. None stands for a setting that is not stated.

    Attributes:
        k: the latents that are kept, or the budget of thresholds.
        input_norm: the norm of its inputs, as in `sae.models.coder.Coder`.
        input_scale: the scale of its inputs, as in `sae.models.coder.Coder`.
    """

    k: Size | None = None
    input_norm: Norm | None = None
    input_scale: Scale | None = None


@dataclass(frozen=True)
class Options:
    """Settings that a user states of a checkpoint, which may not state them itself.

    Attributes:
        k: the latents that are kept, or the budget of thresholds; None: as the
            checkpoint says.
        input_norm: the norm of its inputs; None: as the checkpoint says, else "none".
        input_scale: the scale of its inputs; None: as the checkpoint says, else 1.

    Raises:
        UserError: a value is of another type, or out of range.
    """

    k: int | None = None
    input_norm: str | None = None
    input_scale: float | None = None

    def __post_init__(self) -> None:
        plain_values = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(self).items()
        }
        CoderSettings.parse(plain_values, "import options")

    def completed_by(self, stated: CoderSettings) -> CoderSettings:
        """Return these options, with the stated input space where they leave it open.

        The stated k is left out: :func:`make_coder` takes a checkpoint's k by itself.
        """
        chosen: dict[str, Any] = {"k": self.k}
        if self.input_norm is not None:
            chosen["input_norm"] = self.input_norm
        if self.input_scale is not None:
            chosen["input_scale"] = self.input_scale
        return stated.model_copy(update=chosen)


@dataclass(frozen=True)
class CoderTensors:
    """The tensors of an SAE in this project's form, as in `sae.models.coder.Coder`.

    Attributes:
        W_enc: (d, m) the encoder.
        b_enc: (m,) its bias, for inputs from which `b_dec` is subtracted.
        W_dec: (m, d) the decoder.
        b_dec: (d,) its bias.
        theta: (m,) the thresholds; None for a Top-k SAE.
    """

    W_enc: Float[Tensor, "d m"]
    b_enc: Float[Tensor, " m"]
    W_dec: Float[Tensor, "m d"]
    b_dec: Float[Tensor, " d"]
    theta: Float[Tensor, " m"] | None = None

    def subtracting_b_dec(self) -> "CoderTensors":
        """Return those of the SAE whose encoder takes its inputs as they are."""
        return replace(self, b_enc=self.b_enc + self.b_dec @ self.W_enc)


SettingsModel = TypeVar("SettingsModel", bound=CheckpointSettings)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors and settings that a file or folder holds.

    Attributes:
        path: the file with the tensors.
        tensors: {name: tensor}; those of floats are float32.
        config: the content of the JSON file beside the tensors, or of the JSON in front
            of them; {} if there is none.
        settings_file: the file with the settings; None if there are none.
    """

    path: Path
    tensors: Tensors
    config: dict[str, Any]
    settings_file: Path | None

    def read_settings(self, model: type[SettingsModel]) -> SettingsModel:
        """Return the settings that an importer declares, from `config`.

        Raises:
            UserError: there are no settings and the importer needs some, or what
                :meth:`CheckpointSettings.parse` raises.
        """
        needs_some = any(field.is_required() for field in model.model_fields.values())
        if self.settings_file is None and needs_some:
            raise UserError(
                f"{self.path} has no {model.PLACE}, where its format keeps the "
                "settings: put it there, or name another format (--format)"
            )
        return model.parse(self.config, self.settings_file or self.path)

    def read_made_by(self) -> CoderSettings:
        """Return what `made_by.json` beside the tensors states.

        Some of this project's exports have such a file. Without it nothing is stated.
        """
        file = self.path.with_name("made_by.json")
        if not file.exists():
            return CoderSettings()
        return CoderSettings.parse(files.read_foreign_json(file), file)

    def take_tensors(
        self,
        declared_axes: Mapping[str, str],
        stated_d: Mapping[str, float | None] = {},
        stated_m: Mapping[str, float | None] = {},
    ) -> Tensors:
        """Return finite tensors whose sizes fit each other and the settings.

        The size of an axis is the one that most tensors and settings have. An error
        names the odd one out.

        Args:
            declared_axes: {name of a tensor: its axes}. "dm" stands for (d, m), "" for
                one number, and "m?" for (m,) or one number, which is then repeated.
            stated_d: {key of the settings: the d that it states}; None where the
                settings lack the key.
            stated_m: as `stated_d`, of m.

        Returns:
            {name: float32 tensor} in the order of `declared_axes`.

        Raises:
            UserError: a tensor is missing, does not hold floats, or does not fit. The
                message names the file and the tensor or key.
        """
        tensors: Tensors = {}
        expected_axes: dict[str, str] = {}
        for name, axes in declared_axes.items():
            tensor = self._float_tensor(name, axes)
            is_one_number = axes == "m?" and tensor.ndim == 0
            tensors[name] = tensor
            expected_axes[name] = "" if is_one_number else axes.strip("?")

        # (axis, key of the settings, the size that it states)
        stated_sizes = [
            (axis, key, size)
            for axis, stated in (("d", stated_d), ("m", stated_m))
            for key, size in stated.items()
            if size is not None
        ]
        sizes = _most_common_sizes(stated_sizes, tensors, expected_axes)

        # What has another size is the odd one out.
        for name, tensor in tensors.items():
            self._check_tensor(
                name, tensor, tuple(sizes[a] for a in expected_axes[name])
            )
        for axis, key, size in stated_sizes:
            if size != sizes[axis]:
                raise UserError(
                    f"{self.settings_file}: {key} is {size}, expected {sizes[axis]}, "
                    f"to fit {self.path}"
                )

        # One number for all latents becomes one for each.
        for name, axes in declared_axes.items():
            if axes == "m?":
                tensors[name] = tensors[name].expand(sizes["m"])
        return tensors

    def refuse_other_tensors(self, known: Collection[str]) -> None:
        """Refuse a tensor that a forward pass may use, and an import would lose.

        Args:
            known: names of the tensors that the format has. One of ones alone, which
                multiplies nothing, may be there besides.

        Raises:
            UserError: there is another one.
        """
        for name, tensor in self.tensors.items():
            if name not in known and not bool((tensor == 1).all()):
                raise UserError(
                    f"{self.path}: the tensor {name} is none that its format has in "
                    f"an SAE that can be imported; known: {list_names(known)}"
                )

    def _float_tensor(self, name: str, axes: str) -> Tensor:
        """Return a tensor by its name; without axes where it may be one number."""
        if name not in self.tensors:
            names = list_names(self.tensors)
            raise UserError(f"{self.path}: no tensor {name}; there are: {names}")
        tensor = self.tensors[name]
        if not tensor.is_floating_point():
            raise UserError(
                f"{self.path}: {name} is of {tensor.dtype}, expected floats, such as "
                "torch.float32"
            )
        if axes in ("", "m?") and tensor.numel() == 1:
            return tensor.reshape(())
        return tensor

    def _check_tensor(
        self, name: str, tensor: Tensor, expected_shape: tuple[Any, ...]
    ) -> None:
        shape = tuple(tensor.shape)
        if shape != expected_shape:
            # A size that is not known is a letter, which is shown without quotes.
            expected = str(expected_shape).replace("'", "")
            raise UserError(
                f"{self.path}: {name} is of shape {shape}, expected {expected}, to fit "
                "the others"
            )
        if not _is_within(tensor, torch.inf):
            raise UserError(
                f"{self.path}: {name} holds NaN, infinity or numbers beyond float32"
            )


def _is_within(tensor: Tensor, limit: float) -> bool:
    """Return whether all numbers lie between -limit and limit, which NaN does not."""
    low, high = torch.aminmax(tensor)
    return bool(-limit < low and high < limit)


def _most_common_sizes(
    stated_sizes: Iterable[tuple[str, str, float]],
    tensors: Mapping[str, Tensor],
    expected_axes: Mapping[str, str],
) -> dict[str, Any]:
    """Return the d and m that most settings and tensors have, or their letters."""
    sizes_met: dict[str, list[float]] = {"d": [], "m": []}
    for axis, _, stated_size in stated_sizes:
        sizes_met[axis].append(stated_size)
    for name, axes in expected_axes.items():
        shape = tensors[name].shape
        # Which of its axes a tensor of another rank lacks is not known.
        if len(shape) == len(axes):
            for axis, size in zip(axes, shape, strict=True):
                sizes_met[axis].append(size)

    most_common: dict[str, Any] = {}
    for axis, sizes in sizes_met.items():
        positive_sizes = [size for size in sizes if size]
        most_common[axis] = statistics.mode(positive_sizes or [axis])
    return most_common


def list_names(names: Iterable[str]) -> str:
    """Return the first twelve names, sorted, as text for an error message."""
    # By `repr`, since a name may hold a line break, and an error is one line.
    return ", ".join(repr(name)[1:-1] for name in sorted(names)[:12]) or "none"


def find_checkpoint(place: str) -> Path:
    """Return the local path of a checkpoint, which may be downloaded for it.

    Args:
        place: a local file or folder, or a repository of the Hugging Face hub,
            `owner/name[:folder]`.

    Raises:
        UserError: there is neither.
    """
    path = Path(place)
    # Not `path.exists()`, which raises where a name is too long.
    is_here = os.path.exists(path)
    if (is_here and not os.access(path, os.R_OK)) or _is_hidden(path):
        raise UserError(
            f"{place} is closed to this user: permission denied (`namei -l` shows "
            "where): make it readable, or copy it to where it is"
        )
    if is_here:
        return path
    if not REPOSITORY.fullmatch(place):
        raise UserError(
            f"{place} does not exist, and is no repository owner/name[:folder] of the "
            "Hugging Face hub"
        )

    repository, _, folder = place.partition(":")
    wanted_files = f"{folder}/*" if folder else "*"
    from huggingface_hub import snapshot_download  # Slow to import.

    try:
        snapshot = snapshot_download(repository, allow_patterns=[wanted_files])
    # Of the network, of the hub, or because there is no such repository.
    except Exception as error:
        raise UserError(
            f"{place} does not exist here, and the Hugging Face hub does not give it: "
            f"{in_one_line(error)}"
        ) from None
    path = Path(snapshot) / folder
    if not path.exists():
        raise UserError(f"the repository {repository} has no folder {folder}")
    return path


def _is_hidden(path: Path) -> bool:
    """Return whether a folder above a path is closed, so that nobody can say."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):  # Not there, or no name of a file.
        return False
    return False


def read_checkpoint(place: str) -> Checkpoint:
    """Read the tensors and settings of a checkpoint.

    Args:
        place: as in :func:`find_checkpoint`.

    Raises:
        UserError: the checkpoint is not there, holds several files of tensors or none,
            is cut short, would have to be run, or holds something else than dense
            tensors under names.
    """
    path = find_checkpoint(place)
    tensor_file = _only_tensor_file(path) if path.is_dir() else path
    tensors, header = _read_tensors(tensor_file)
    if header:
        return Checkpoint(tensor_file, tensors, header, settings_file=tensor_file)

    for name in SETTINGS_FILES:
        settings_file = tensor_file.with_name(name)
        if settings_file.exists():
            config = files.read_foreign_json(settings_file)
            return Checkpoint(tensor_file, tensors, config, settings_file)
    return Checkpoint(tensor_file, tensors, config={}, settings_file=None)


def _only_tensor_file(folder: Path) -> Path:
    tensor_files = sorted(
        file
        for file in folder.iterdir()
        # SAELens writes how often each latent fires into a file of its own.
        if file.suffix in TENSOR_SUFFIXES and file.name != "sparsity.safetensors"
    )
    if len(tensor_files) != 1:
        suffixes = ", ".join(TENSOR_SUFFIXES)
        names = ", ".join(file.name for file in tensor_files) or "none"
        raise UserError(
            f"{folder} must hold one file of tensors ({suffixes}); there are: {names}: "
            "name the file"
        )
    return tensor_files[0]


def _read_tensors(file: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read the tensors of a file, and the settings that stand in front of them."""
    try:
        files.regular(file)
        if file.suffix == ".safetensors":
            content, header = _read_safetensors(file)
        else:
            content, header = _read_pytorch_file(file)

        if isinstance(content.get("state_dict"), Mapping):
            content = content["state_dict"]
        _check_tensor_sizes(file, content)

        tensors: Tensors = {}
        for name, tensor in content.items():
            tensor = tensor.detach()
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        return tensors, header
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as tensors: {in_one_line(error)}"
        ) from None


def _read_safetensors(file: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    with safe_open(file, framework="pt") as opened:
        names = opened.keys()
        tensors = {name: opened.get_tensor(name) for name in names}
        header_text = (opened.metadata() or {}).get("sae", "{}")
    header: dict[str, Any] = {}
    # Other projects may use the key "sae" for something else than JSON.
    with suppress(UserError):
        header = files.read_foreign_json(file, header_text)
    return tensors, header


def _read_pytorch_file(file: Path) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    """Read what `torch.save` wrote, behind saev's line of JSON if there is one."""
    header: dict[str, Any] = {}
    with open(file, "rb") as stream:
        if stream.peek(1)[:1] == b"{":
            header = files.read_foreign_json(file, stream.readline())
        return _unpickle_weights(file, stream), header


def _unpickle_weights(file: Path, stream: BufferedReader) -> Mapping[Any, Any]:
    """Read what `torch.save` wrote from where a stream stands, without running it."""
    _check_not_compressed(file)
    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    # PyTorch's reader raises errors of any kind at bytes that are no checkpoint.
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise UserError(
                f"{file} holds a pickled object, which would have to be run to be "
                "opened. Where you trust it, write its tensors with the library that "
                f'made it: model = torch.load("{file.name}", weights_only=False); '
                'torch.save(model.state_dict(), "state_dict.pt")'
            ) from None
        reason = (
            f" ({in_one_line(error, 100)})" if isinstance(error, RuntimeError) else ""
        )
        raise UserError(
            f"{file} cannot be read as tensors: no file that torch.save wrote, or cut "
            f"short{reason}. Of other files, give .safetensors"
        ) from None
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise UserError(f"{file} holds {kind}, not a state dict of tensors")
    return content


def _check_not_compressed(file: Path) -> None:
    """Check that a file unpacks to no more than its size, as `torch.save` has it."""
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked_size = sum(member.file_size for member in archive.infolist())
    # The file is no zip, or a damaged one: PyTorch's reader says what it is.
    except Exception:
        return
    size = file.stat().st_size
    if unpacked_size > size:
        raise UserError(
            f"{file} is compressed: its {size:,} bytes unpack to {unpacked_size:,}, "
            "which are not read. Write it by torch.save alone"
        )


def _check_tensor_sizes(file: Path, content: Mapping[Any, Any]) -> None:
    """Check that the values are dense tensors, no larger than the file."""
    # A tensor that was expanded, or that many names share, is small in a file and large
    # once it is converted.
    total_bytes = 0
    for name, tensor in content.items():
        _check_dense(file, name, tensor)
        held_bytes = tensor.untyped_storage().nbytes()
        needed_bytes = tensor.numel() * tensor.element_size()
        total_bytes += needed_bytes
        if needed_bytes > held_bytes:
            raise UserError(
                f"{file}: {repr(name)[1:-1]} was expanded: its shape "
                f"{tuple(tensor.shape)} takes {needed_bytes:,} bytes, of which the "
                f"file holds {held_bytes:,}. Write it whole, by its method contiguous()"
            )
    file_bytes = file.stat().st_size
    if total_bytes > MOST_SHARED * file_bytes:
        raise UserError(
            f"{file}: its tensors share their numbers: they take {total_bytes:,} "
            f"bytes, and the file has {file_bytes:,}. Write those alone that the SAE "
            "needs"
        )


def _check_dense(file: Path, name: Any, tensor: Any) -> None:
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise UserError(
            f"{file} holds {type(tensor).__name__} under {reprlib.repr(name)}, not a "
            "state dict of tensors under names"
        )
    if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
        raise UserError(
            f"{file}: {repr(name)[1:-1]} is no dense tensor of numbers (it is on the "
            "device meta, nested or sparse): write it as one"
        )


def make_coder(
    checkpoint: Checkpoint,
    settings: CoderSettings,
    tensors: CoderTensors,
    checkpoint_k: float | None,
) -> Coder:
    """Make a coder of a checkpoint's tensors.

    Args:
        checkpoint: where the tensors come from, for error messages.
        settings: the input space, and a k that overrides the checkpoint's.
        tensors: what :meth:`Checkpoint.take_tensors` gave, or was made from that.
        checkpoint_k: the k that the checkpoint states. It is how many latents a Top-k
            SAE keeps. With thresholds it is the budget, and it is rounded. None: it
            states none.

    Raises:
        UserError: no k is known, k is not between 1 and m, or a number is too large to
            calculate with.
    """
    parameters = {
        "W_enc": tensors.W_enc,
        "b_enc": tensors.b_enc,
        "W_dec": tensors.W_dec,
        "b_dec": tensors.b_dec,
    }
    for name, parameter in parameters.items():
        _check_magnitude(checkpoint, name, parameter)
    if tensors.theta is not None:
        _check_magnitude(checkpoint, "the threshold", tensors.theta)

    m, d = tensors.W_dec.shape
    has_thresholds = tensors.theta is not None
    k = _choose_k(checkpoint, settings.k, checkpoint_k, has_thresholds)
    if not (1 <= k <= m and k == int(k)):
        raise UserError(
            f"{checkpoint.path}: k = {k:g}; it should be a whole number from 1 to its "
            f"{m} latents"
        )

    select = None
    if tensors.theta is not None:
        select = Threshold(tensors.theta.clone())
    coder = Coder(
        d,
        m,
        int(k),
        select,
        input_norm=settings.input_norm or "none",
        input_scale=settings.input_scale or 1.0,
    )
    coder.fill(parameters)
    return coder.requires_grad_(False)


def _choose_k(
    checkpoint: Checkpoint,
    overriding_k: int | None,
    checkpoint_k: float | None,
    has_thresholds: bool,
) -> float:
    """Return the k of a coder."""
    if overriding_k is not None:
        return overriding_k
    if has_thresholds:
        return max(1, round(checkpoint_k or 1))
    if checkpoint_k is None:
        no_file = ""
        if checkpoint.settings_file is None:
            no_file = f" (there is no {' or '.join(SETTINGS_FILES)} beside it)"
        raise UserError(
            f"{checkpoint.path} does not say how many latents are kept: give --k"
            f"{no_file}"
        )
    return checkpoint_k


def _check_magnitude(checkpoint: Checkpoint, name: str, tensor: Tensor) -> None:
    if not _is_within(tensor, LARGEST_NUMBER):
        raise UserError(
            f"{checkpoint.path}: {name} comes out as NaN or beyond {LARGEST_NUMBER:g}: "
            "numbers too large or small"
        )


def select_dense(
    activations: Float[Tensor, "samples m"],
    k: int,
    theta: Float[Tensor, " m"] | float | None,
) -> Float[Tensor, "samples m"]:
    """Set activations to 0 unless they are above the thresholds, or the k largest.

    Args:
        activations: (N, m).
        k: how many of each row are kept where there are no thresholds.
        theta: the thresholds, or one for all; None: keep the k largest of each row.
    """
    if theta is not None:
        return activations * (activations > theta)
    values, latents = activations.topk(k, dim=1)
    return torch.zeros_like(activations).scatter(1, latents, values)


def multiply_known(size: int | None, factor: float | None) -> float | None:
    """Multiply a size and a factor; None where one of them is not known."""
    if size is None or factor is None:
        return None
    return size * factor
