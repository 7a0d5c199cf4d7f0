"""dictionary_learning (MIT): a folder with `ae.pt`, a state dict, and `config.json`.

Top-k, BatchTopK, Matryoshka, JumpReLU, gated and plain SAEs have state dicts of their own. A Top-k SAE of this library
keeps `threshold` at -1; a threshold from 0 on makes the same tensors a BatchTopK SAE.
"""

from typing import Annotated

import torch

from sae.core.errors import UserError
from sae.core.options import like
from sae.models import foreign
from sae.models.coder import Coder

_LINEAR = {"encoder.weight": "md", "decoder.weight": "dm"}
_TOPK = _LINEAR | {"encoder.bias": "m", "b_dec": "d"}
_JUMP = {"W_enc": "dm", "b_enc": "m", "W_dec": "md", "b_dec": "d", "threshold": "m?"}
SHAPES = {
    "AutoEncoderTopK": _TOPK,
    "BatchTopKSAE": _TOPK | {"threshold": "m?"},
    "MatryoshkaBatchTopKSAE": _JUMP,
    "JumpReluAutoEncoder": _JUMP,
    "GatedAutoEncoder": _LINEAR
    | {"gate_bias": "m", "mag_bias": "m", "r_mag": "m", "decoder_bias": "d"},
    "AutoEncoder": _LINEAR | {"encoder.bias": "m", "bias": "d"},
}
OURS = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
OURS |= {"bias": "b_dec", "decoder_bias": "b_dec", "mag_bias": "b_enc"}


class Trainer(foreign.Settings):
    """What made it."""

    dict_class: (
        Annotated[str, like("|".join(SHAPES), f"allowed: {', '.join(SHAPES)}")] | None
    ) = None
    activation_dim: foreign.Size | None = None
    dict_size: foreign.Size | None = None
    group_sizes: list[foreign.Size] | None = None
    k: foreign.Size | None = None


class Settings(foreign.Settings):
    """Of config.json; `made_by` is in this project's exports."""

    trainer: Trainer = Trainer()
    made_by: foreign.Stated = foreign.Stated()


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether the settings name a trainer's class, or the tensors are those of one of the classes."""
    names, trainer = checkpoint.tensors.keys(), checkpoint.config.get("trainer")
    own = _LINEAR.keys() <= names and bool({"b_dec", "bias", "decoder_bias"} & names)
    named = isinstance(trainer, dict) and "dict_class" in trainer
    return (
        named
        or (own and "activation" not in checkpoint.config)
        or "group_sizes" in names
    )


def _kind(checkpoint: foreign.Checkpoint) -> str:
    """Which of the library's SAEs it is, by its tensors."""
    names = checkpoint.tensors.keys()
    if "group_sizes" in names:
        return "MatryoshkaBatchTopKSAE"
    if "r_mag" in names:
        return "GatedAutoEncoder"
    if {"W_enc", "threshold"} <= names:
        return "JumpReluAutoEncoder"
    if "bias" in names:
        return "AutoEncoder"
    return (
        "BatchTopKSAE"
        if float(checkpoint.take({"threshold": ""})["threshold"]) >= 0
        else "AutoEncoderTopK"
    )


def _parts(checkpoint: foreign.Checkpoint) -> tuple[Settings, str, foreign.Tensors]:
    """The settings, which of the library's SAEs it is, and its tensors by the names of this project."""
    c = checkpoint.settings(Settings)
    kind = c.trainer.dict_class or _kind(checkpoint)
    d, m = (
        {"trainer.activation_dim": c.trainer.activation_dim},
        {"trainer.dict_size": c.trainer.dict_size},
    )
    m |= {"the sum of trainer.group_sizes": sum(c.trainer.group_sizes or []) or None}
    taken = checkpoint.take(SHAPES[kind], d, m)
    return (
        c,
        kind,
        {OURS.get(n, n): t.T if n.endswith(".weight") else t for n, t in taken.items()},
    )


def _k(
    checkpoint: foreign.Checkpoint, said: int | None, options: foreign.Options
) -> int | None:
    """What the settings or the tensor k say."""
    if "k" not in checkpoint.tensors:
        return said
    held = foreign.Stated.of({"k": checkpoint.tensors["k"].tolist()}, checkpoint.path).k
    if options.k is None and said not in (None, held):
        raise UserError(
            f"{checkpoint.said_in}: trainer.k is {said}, its tensor k is {held}: say which (--k)"
        )
    return held


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The same SAE as a coder."""
    c, kind, t = _parts(checkpoint)
    W_enc, b_enc, W_dec, b_dec, theta = (
        t["W_enc"],
        t["b_enc"],
        t["W_dec"],
        t["b_dec"],
        t.get("threshold"),
    )
    if kind == "JumpReluAutoEncoder":  # It does not subtract b_dec.
        b_enc = b_enc + b_dec @ W_enc
    elif kind == "GatedAutoEncoder":
        W_enc, theta = (
            W_enc * t["r_mag"].exp(),
            b_enc - t["r_mag"].exp() * t["gate_bias"],
        )
    elif kind == "AutoEncoder":
        theta = torch.zeros_like(b_enc)
    k = _k(checkpoint, c.trainer.k, options)
    return foreign.coder(
        checkpoint, options.over(c.made_by), (W_enc, b_enc, W_dec, b_dec), k, theta
    )


def forward(
    checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    _, kind, t = _parts(checkpoint)
    pre = (x if kind == "JumpReluAutoEncoder" else x - t["b_dec"]) @ t["W_enc"]
    if kind == "GatedAutoEncoder":
        z = (pre + t["gate_bias"] > 0) * (t["r_mag"].exp() * pre + t["b_enc"]).relu()
    else:
        z = (pre + t["b_enc"]).relu()
        z = z if kind == "AutoEncoder" else foreign.kept(z, k, t.get("threshold"))
    return z, z @ t["W_dec"] + t["b_dec"]
