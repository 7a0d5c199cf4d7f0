"""dictionary_learning (MIT): a folder with `ae.pt`, a state dict, and `config.json`.

Top-k, BatchTopK, Matryoshka, JumpReLU, gated and plain SAEs have state dicts of their own. A Top-k SAE of this library
keeps `threshold` at -1; a threshold from 0 on makes the same tensors a BatchTopK SAE.
"""

from typing import Literal

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Size, Stated, Tensors

Kind = Literal[
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
    "GatedAutoEncoder",
    "AutoEncoder",
]
_LINEAR = {"encoder.weight": "md", "decoder.weight": "dm"}
_TOPK = _LINEAR | {"encoder.bias": "m", "b_dec": "d"}
_JUMP = {"W_enc": "dm", "b_enc": "m", "W_dec": "md", "b_dec": "d", "threshold": "m?"}
SHAPES: dict[Kind, dict[str, str]] = {
    "AutoEncoderTopK": _TOPK,
    "BatchTopKSAE": _TOPK | {"threshold": "m?"},
    "MatryoshkaBatchTopKSAE": _JUMP,
    "JumpReluAutoEncoder": _JUMP,
    "GatedAutoEncoder": _LINEAR | {"gate_bias": "m", "mag_bias": "m", "r_mag": "m", "decoder_bias": "d"},
    "AutoEncoder": _LINEAR | {"encoder.bias": "m", "bias": "d"},
}


class Trainer(foreign.Settings):
    """What made it."""

    dict_class: Kind | None = None
    activation_dim: Size | None = None
    dict_size: Size | None = None
    group_sizes: list[Size] | None = None
    k: Size | None = None


class Settings(foreign.Settings):
    """Of config.json; `made_by` is in this project's exports."""

    trainer: Trainer = Trainer()
    made_by: Stated = Stated()


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the settings name a trainer's class, or the tensors are those of one of the classes."""
    names, trainer = checkpoint.tensors.keys(), checkpoint.config.get("trainer")
    own = _LINEAR.keys() <= names and bool({"b_dec", "bias", "decoder_bias"} & names)
    named = isinstance(trainer, dict) and "dict_class" in trainer
    return named or (own and "activation" not in checkpoint.config) or "group_sizes" in names


def _kind(checkpoint: Checkpoint) -> Kind:
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
    return "BatchTopKSAE" if float(checkpoint.take({"threshold": ""})["threshold"]) >= 0 else "AutoEncoderTopK"


def _parts(checkpoint: Checkpoint) -> tuple[Settings, Kind, Tensors]:
    c = checkpoint.settings(Settings)
    kind = c.trainer.dict_class or _kind(checkpoint)
    d, m = {"trainer.activation_dim": c.trainer.activation_dim}, {"trainer.dict_size": c.trainer.dict_size}
    m |= {"the sum of trainer.group_sizes": sum(c.trainer.group_sizes or []) or None}
    if (held := checkpoint.tensors.get("group_sizes")) is not None:
        m |= {"the sum of the tensor group_sizes": int(held.sum())}
    return c, kind, checkpoint.take(SHAPES[kind], d, m)


def _k(checkpoint: Checkpoint, said: int | None, options: Options) -> int | None:
    """What the settings or the tensor k say."""
    if "k" not in checkpoint.tensors:
        return said
    held = Stated.of({"k": checkpoint.tensors["k"].tolist()}, checkpoint.path).k
    if options.k is None and said not in (None, held):
        raise UserError(f"{checkpoint.said_in}: trainer.k is {said}, its tensor k is {held}: say which (--k)")
    return held


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    c, kind, t = _parts(checkpoint)
    if "W_enc" in t:
        W_enc, b_enc, W_dec, b_dec, theta = t.values()
        if kind == "JumpReluAutoEncoder":  # It does not subtract b_dec.
            b_enc = b_enc + b_dec @ W_enc
    elif kind == "GatedAutoEncoder":
        encoder, decoder, gate, b_enc, r_mag, b_dec = t.values()
        W_enc, W_dec, theta = encoder.T * r_mag.exp(), decoder.T, b_enc - r_mag.exp() * gate
    else:
        encoder, decoder, b_enc, b_dec, *thresholds = t.values()
        W_enc, W_dec, theta = encoder.T, decoder.T, thresholds[0] if thresholds else torch.zeros_like(b_enc)
    tensors = (W_enc, b_enc, W_dec, b_dec)
    given, k = options.over(c.made_by), _k(checkpoint, c.trainer.k, options)
    return foreign.coder(checkpoint, given, tensors, k, None if kind == "AutoEncoderTopK" else theta)


def forward(checkpoint: Checkpoint, k: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    _, kind, t = _parts(checkpoint)
    if "W_enc" in t:
        pre = (x if kind == "JumpReluAutoEncoder" else x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
        z = pre.relu() * (pre > t["threshold"])
        return z, z @ t["W_dec"] + t["b_dec"]
    decoder = t["decoder.weight"].T
    if kind == "GatedAutoEncoder":
        pi = (x - t["decoder_bias"]) @ t["encoder.weight"].T
        z = (pi + t["gate_bias"] > 0) * (t["r_mag"].exp() * pi + t["mag_bias"]).relu()
        return z, z @ decoder + t["decoder_bias"]
    b_dec = t["bias" if kind == "AutoEncoder" else "b_dec"]
    z = ((x - b_dec) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    if kind == "AutoEncoderTopK":
        values, places = z.topk(k, dim=1)
        z = torch.zeros_like(z).scatter(1, places, values)
    elif kind == "BatchTopKSAE":
        z = z * (z > t["threshold"])
    return z, z @ decoder + b_dec
