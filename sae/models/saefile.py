"""A trained SAE as a safetensors file: the tensors, and what made them."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from sae.core import seals
from sae.core.errors import UserError, brief
from sae.models.coder import Coder, Threshold, TopK

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")


def save(coder: Coder, path: Path) -> None:
    """Write a coder to a safetensors file; the same coder gives the same bytes.

    Tensors: `W_enc` (d, m), `b_enc` (m,), `W_dec` (m, d), `b_dec` (d,), and `theta` (m,) of a threshold coder.
    Metadata: `coder.metadata` with `select` ('topk' or 'threshold'), `k`, `input_norm` and `input_scale`. They lie
    under one key as sorted JSON, since the format writes several keys in random order; `seal` is among them.
    """
    tensors = coder.tensors()
    metadata = coder.metadata | {
        "select": "threshold" if "theta" in tensors else "topk",
        "k": coder.k,
    }
    metadata |= {
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
        "seal": seals.BLANK,
    }
    header = {"sae": json.dumps(metadata, sort_keys=True, allow_nan=False)}
    # Not by `save_file`, which closes the file to others, with whom a store may be shared.
    path.write_bytes(to_bytes(tensors, header))
    seals.seal(path)


def load(path: Path | str) -> Coder:
    """Load an SAE that :func:`save` wrote, on the CPU, ready to encode; all that the file says is in its metadata.

    Raises:
        UserError: the file is missing, altered, or holds no SAE.
    """
    theirs = f"if another library made it, `python -m sae import {path} --out sae.safetensors` makes one of it"
    if Path(path).is_dir():
        raise UserError(
            f"{path} is a folder, not an SAE file: name the file in it; or {theirs}"
        )
    no_sae = (
        f"{path} is not a whole SAE file of this project (sae.safetensors): {theirs}"
    )
    seals.read(
        path, "SAE file", "name a whole SAE file of this version of the project", no_sae
    )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["sae"])
            del metadata["seal"]
            tensors = {name: file.get_tensor(name) for name in TENSORS}
            if metadata["select"] == "threshold":
                tensors["theta"] = file.get_tensor("theta")
        norms = {name: metadata[name] for name in ("input_norm", "input_scale")}
        d, m = tensors["W_enc"].shape
        selections: dict[str, TopK | Threshold] = {
            "topk": TopK(metadata["k"]),
            "threshold": Threshold(torch.zeros(m)),
        }
        coder = Coder(
            d,
            m,
            metadata["k"],
            selections[metadata["select"]],
            **norms,
            metadata=metadata,
        )
        coder.fill(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} is not a whole SAE file of this project ({brief(error)})"
        ) from None
    return coder.requires_grad_(False)
