"""Write a trained SAE to a safetensors file, with what made it, and load it again."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from sae.core import files, seals
from sae.core.arguments import file_path
from sae.core.errors import UserError, in_one_line
from sae.models.coder import Coder, Threshold, TopK
from sae.models.inputs import NORMS

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")


def save(coder: Coder, path: Path | str) -> None:
    """Write a coder to a safetensors file; the same coder gives the same bytes.

    Its tensors are `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d), `b_dec` (d,), and
    `theta` (m,) of a threshold coder. Its metadata are `coder.metadata` with `select`
    ('topk' or 'threshold'), `k`, `input_norm`, `input_scale` and `seal`. They lie under
    one key as sorted JSON, since the format writes several keys in random order.

    Raises:
        UserError: as :func:`check_savable`, or `path` is no path of a file that can be
            made.
    """
    check_savable(coder)
    path = file_path("path", path)
    tensors = coder.tensors()
    metadata = _all_metadata(coder) | {"seal": seals.BLANK}
    header = {"sae": json.dumps(metadata, sort_keys=True, allow_nan=False)}
    # Not by `save_file`: it closes the file to others, with whom a store may be shared.
    try:
        path.write_bytes(to_bytes(tensors, header))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): name a file in a folder "
            "that is there"
        ) from None
    seals.seal_file(path)


def _all_metadata(coder: Coder) -> dict[str, Any]:
    return coder.metadata | {
        "select": "threshold" if isinstance(coder.select, Threshold) else "topk",
        "k": coder.k,
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
    }


def check_coder(coder: Any) -> None:
    """Check that what a user passes as a coder is one that can be used.

    Raises:
        UserError: it is no coder, or its weights are not of float32.
    """
    if not isinstance(coder, Coder):
        raise UserError(
            f"coder is {type(coder).__name__}; give a sae.models.coder.Coder, which "
            "an Encoder has as its attribute coder"
        )
    for name, tensor in coder.state_dict().items():
        if tensor.dtype != torch.float32:
            raise UserError(
                f"{name} of the SAE is {tensor.dtype}, and SAEs work in float32 here: "
                "call coder.float() before"
            )


def check_savable(coder: Any) -> None:
    """Check that a file of a coder would be read as the same SAE.

    Raises:
        UserError: it is no coder; its selection is of another class or k than a file
            says; a tensor or setting is not right; or JSON cannot hold its metadata.
    """
    check_coder(coder)
    select = coder.select
    if type(select) not in (TopK, Threshold):
        raise UserError(
            f"the SAE selects by {type(select).__name__}, and a file holds TopK or "
            "Threshold: set coder.select to one of them"
        )
    if isinstance(select, TopK) and select.k != coder.k:
        raise UserError(
            f"the SAE has k = {coder.k} and select = TopK({select.k}), and a file has "
            "one k: set coder.k or coder.select"
        )

    metadata = _all_metadata(coder)
    for name, value in metadata.items():
        try:
            json.dumps({name: value}, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(
                f"{name!r} in the metadata of the SAE cannot be saved "
                f"({in_one_line(error)}): give texts, finite numbers, and lists and "
                "dicts of them"
            ) from None

    tensors = coder.tensors()
    try:
        _check_shapes(tensors, coder.d, coder.m)
        _check_settings(json.loads(json.dumps(metadata)), coder.m)
    except ValueError as error:
        raise UserError(f"the SAE cannot be saved: {error}") from None
    for name, tensor in tensors.items():
        # A latent with an infinite threshold never fires.
        is_broken = tensor.isnan() if name == "theta" else ~tensor.isfinite()
        if is_broken.any():
            raise UserError(
                f"the SAE cannot be saved: {name} holds NaN or an infinite number, as "
                "after a training that diverged"
            )


def load(path: Path | str) -> Coder:
    """Load an SAE that :func:`save` wrote, on the CPU, ready to encode.

    All that the file states is in its metadata.

    Raises:
        UserError: the file is missing, closed, altered, or holds no SAE.
    """
    path = file_path("the path of an SAE file", path)
    import_advice = (
        f"if another library made it, `python -m sae import {path} --out "
        "sae.safetensors` makes one of it"
    )
    _check_readable(path, import_advice)
    seals.read_sealed(
        path,
        "SAE file",
        "name a whole SAE file of this version of the project",
        f"{path} is not a whole SAE file of this project (sae.safetensors): "
        f"{import_advice}",
    )
    try:
        coder = _read_coder(path)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is not a whole SAE file of this project ({in_one_line(error)})"
        ) from None
    return coder.requires_grad_(False)


def _check_readable(path: Path, import_advice: str) -> None:
    try:
        if path.is_dir():
            raise UserError(
                f"{path} is a folder, not an SAE file: name the file in it; or "
                f"{import_advice}"
            )
        if path.exists():
            files.regular(path)  # A pipe would be waited for without end.
            path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"SAE file {path} cannot be read ({error.strerror or error}): name a file "
            "that can be"
        ) from None


def _read_coder(path: Path) -> Coder:
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["sae"])
        del metadata["seal"]
        tensors = {name: file.get_tensor(name) for name in TENSORS}
        if metadata["select"] == "threshold":
            tensors["theta"] = file.get_tensor("theta")
    input_norm = metadata["input_norm"]
    input_scale = metadata["input_scale"]

    # Before an SAE of this size is made: an empty (0, m) has no bytes in the file.
    d, m = tensors["W_enc"].shape
    _check_shapes(tensors, d, m)
    _check_settings(metadata, m)

    select: TopK | Threshold
    if metadata["select"] == "topk":
        select = TopK(metadata["k"])
    elif metadata["select"] == "threshold":
        select = Threshold(torch.zeros(m))
    else:
        raise ValueError(
            f"select is {metadata['select']!r}; it should be topk or threshold"
        )
    coder = Coder(
        d,
        m,
        metadata["k"],
        select,
        input_norm=input_norm,
        input_scale=input_scale,
        metadata=metadata,
    )
    coder.fill(tensors)
    return coder


def _check_shapes(tensors: dict[str, Tensor], d: int, m: int) -> None:
    shapes = {
        "W_enc": (d, m),
        "b_enc": (m,),
        "W_dec": (m, d),
        "b_dec": (d,),
        "theta": (m,),
    }
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or tensor.shape != shapes[name]:
            raise ValueError(f"{name} is of shape {tuple(tensor.shape)}")


def _check_settings(metadata: dict[str, Any], m: int) -> None:
    k = metadata["k"]
    if type(k) is not int or not 1 <= k <= m:
        raise ValueError(
            f"k = {k!r}; it should be a whole number from 1 to its {m} latents"
        )
    norm = metadata["input_norm"]
    if norm not in NORMS:
        raise ValueError(f"input_norm is {norm!r}; it should be {', '.join(NORMS)}")
    scale = metadata["input_scale"]
    if type(scale) not in (int, float) or not 0 < scale < math.inf:
        raise ValueError(f"input_scale is {scale!r}; it should be a number above 0")
