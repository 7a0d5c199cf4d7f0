"""dictionary_learning (MIT): a folder with `ae.pt`, a state dict, and `config.json`.

Top-k, BatchTopK, Matryoshka, JumpReLU, gated and plain SAEs have state dicts of their own. A Top-k SAE of this library
keeps `threshold` at -1; a threshold from 0 on makes the same tensors a BatchTopK SAE.
"""

from typing import Any

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder, Threshold, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space

CLASSES = {
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "threshold",
    "MatryoshkaBatchTopKSAE": "matryoshka",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
    "AutoEncoder": "relu",
}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the settings name a trainer's class, or the tensors are those of one of the classes."""
    names = checkpoint.tensors.keys()
    own = {"encoder.weight", "decoder.weight"} <= names and bool({"b_dec", "bias", "decoder_bias"} & names)
    return bool(_class_of(checkpoint)) or (own and "activation" not in checkpoint.config) or "group_sizes" in names


def _class_of(checkpoint: Checkpoint) -> str | None:
    trainer = checkpoint.config.get("trainer")
    return trainer.get("dict_class") if isinstance(trainer, dict) else None


def kind(checkpoint: Checkpoint) -> str:
    """Which of the library's SAEs it is.

    Raises:
        UserError: its class is none that can be imported.
    """
    if named := _class_of(checkpoint):
        foreign.one_of(named, CLASSES, f"{checkpoint.path}: dict_class")
        return CLASSES[named]
    names = checkpoint.tensors.keys()
    if "group_sizes" in names:
        return "matryoshka"
    if "r_mag" in names:
        return "gated"
    if {"W_enc", "threshold"} <= names:
        return "jumprelu"
    if "bias" in names:
        return "relu"
    (threshold,) = checkpoint.take("threshold")
    return "threshold" if float(threshold) >= 0 else "topk"


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    what = kind(checkpoint)
    space = options.space(Space(), checkpoint)
    if what in ("matryoshka", "jumprelu"):
        W_enc, b_enc, W_dec, b_dec, theta = checkpoint.take("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
        if what == "jumprelu":  # It does not subtract b_dec.
            b_enc = b_enc + b_dec @ W_enc
        theta = theta.expand(len(b_enc)).clone() if theta.ndim == 0 else theta
        return foreign.coder(W_enc, b_enc, W_dec, b_dec, Threshold(theta), _k(checkpoint, options, len(b_enc)), space)
    encoder, decoder = checkpoint.take("encoder.weight", "decoder.weight")
    if what == "gated":
        gate, magnitude, r_mag, b_dec = checkpoint.take("gate_bias", "mag_bias", "r_mag", "decoder_bias")
        W_enc, theta = encoder.T * r_mag.exp(), magnitude - r_mag.exp() * gate
        selection: Threshold | TopK = Threshold(theta)
        return foreign.coder(W_enc, magnitude, decoder.T, b_dec, selection, _k(checkpoint, options, len(gate)), space)
    (b_enc,) = checkpoint.take("encoder.bias")
    (b_dec,) = checkpoint.take("bias" if what == "relu" else "b_dec")
    k = _k(checkpoint, options, len(b_enc))
    theta = torch.zeros_like(b_enc)
    if what == "threshold":
        theta = theta + checkpoint.take("threshold")[0]
    selection = TopK(k) if what == "topk" else Threshold(theta)
    return foreign.coder(encoder.T, b_enc, decoder.T, b_dec, selection, k, space)


def _k(checkpoint: Checkpoint, options: Options, m: int) -> int:
    trainer: Any = checkpoint.config.get("trainer") or {}
    k = options.k or trainer.get("k") or checkpoint.tensors.get("k")
    if k is None and kind(checkpoint) == "topk":
        raise UserError(f"{checkpoint.path}: neither a tensor k nor the settings say how many latents are kept (--k)")
    return min(m, max(1, int(k))) if k is not None else 1


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    t, what = checkpoint.tensors, kind(checkpoint)
    if what in ("matryoshka", "jumprelu"):
        pre = (x if what == "jumprelu" else x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
        z = pre.relu() * (pre > t["threshold"])
        return z, z @ t["W_dec"] + t["b_dec"]
    decoder = t["decoder.weight"].T
    if what == "gated":
        pi = (x - t["decoder_bias"]) @ t["encoder.weight"].T
        z = (pi + t["gate_bias"] > 0) * (t["r_mag"].exp() * pi + t["mag_bias"]).relu()
        return z, z @ decoder + t["decoder_bias"]
    b_dec = t["bias" if what == "relu" else "b_dec"]
    z = ((x - b_dec) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    if what == "topk":
        values, places = z.topk(_k(checkpoint, options, z.shape[1]), dim=1)
        z = torch.zeros_like(z).scatter(1, places, values)
    elif what == "threshold":
        z = z * (z > t["threshold"])
    return z, z @ decoder + b_dec
