"""SAELens (MIT), version 6: a folder with `sae_weights.safetensors` and `cfg.json`.

BatchTopK and Matryoshka SAEs are saved as JumpReLU by the library. Gated ones are exact as JumpReLU too: the gate is a
threshold of the magnitude's pre-activation.
"""

from typing import Literal

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder

SHAPES = {"W_enc": "dm", "W_dec": "md", "b_dec": "d"}
TENSORS = set(SHAPES)
MORE = {
    "gated": {"r_mag": "m", "b_mag": "m", "b_gate": "m"},
    "jumprelu": {"b_enc": "m", "threshold": "m"},
}


class Settings(foreign.Settings):
    """Of cfg.json; its metadata hold the input space in this project's exports."""

    architecture: Literal["topk", "jumprelu", "standard", "gated"]
    d_in: foreign.Size | None = None
    d_sae: foreign.Size | None = None
    k: foreign.Factor | None = None
    apply_b_dec_to_input: bool = True
    rescale_acts_by_decoder_norm: bool = False
    normalize_activations: Literal["none", "constant_norm_rescale", "layer_norm"] = (
        "none"
    )
    reshape_activations: Literal["none"] = "none"
    metadata: foreign.Stated = foreign.Stated()


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether settings and tensors have SAELens' names."""
    return "architecture" in checkpoint.config and checkpoint.tensors.keys() >= TENSORS


def _parts(checkpoint: foreign.Checkpoint) -> tuple[Settings, foreign.Tensors]:
    c = checkpoint.settings(Settings)
    return c, checkpoint.take(
        SHAPES | MORE.get(c.architecture, {"b_enc": "m"}),
        {"d_in": c.d_in},
        {"d_sae": c.d_sae},
    )


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The same SAE as a coder."""
    c, t = _parts(checkpoint)
    W_enc, W_dec, b_dec = (t[name] for name in SHAPES)
    theta = (
        None
        if c.architecture == "topk"
        else t.get("threshold", torch.zeros(len(W_dec)))
    )
    if c.architecture == "gated":
        # pi + b_gate > 0 where pi e^r + b_mag > b_mag - e^r b_gate.
        b_enc, theta = t["b_mag"], t["b_mag"] - t["r_mag"].exp() * t["b_gate"]
        W_enc = W_enc * t["r_mag"].exp()
    else:
        b_enc = t["b_enc"]
    if not c.apply_b_dec_to_input:
        b_enc = b_enc + b_dec @ W_enc
    if c.rescale_acts_by_decoder_norm:
        if theta is not None:
            said = f"rescale_acts_by_decoder_norm with architecture {c.architecture!r} cannot be imported"
            raise UserError(f"{checkpoint.said_in}: {said}; allowed: 'topk'")
        norm = W_dec.norm(dim=1)
        W_enc, b_enc, W_dec = W_enc * norm, b_enc * norm, W_dec / norm[:, None]
    given = _space(checkpoint, c, options, len(b_dec))
    if c.normalize_activations == "layer_norm":
        # It divides by the unbiased deviation: its inputs are s times ours.
        s = ((len(b_dec) - 1) / len(b_dec)) ** 0.5
        W_enc, W_dec, b_dec = s * W_enc, W_dec / s, b_dec / s
    return foreign.coder(
        checkpoint, given, (W_enc, b_enc, W_dec, b_dec), c.k or c.metadata.k, theta
    )


def _space(
    checkpoint: foreign.Checkpoint, c: Settings, options: foreign.Options, d: int
) -> foreign.Stated:
    """The input space, and a k that the options name."""
    norm = c.normalize_activations
    if norm == "none":
        return options.over(c.metadata)
    if named := [
        name
        for name in ("input_norm", "input_scale")
        if getattr(options, name) is not None
    ]:
        raise UserError(
            f"{checkpoint.path} normalises its inputs itself ({norm}): leave {' and '.join(named)} out"
        )
    if norm == "layer_norm":
        return foreign.Stated(k=options.k, input_norm="unit_l2_layernorm")
    return foreign.Stated(k=options.k, input_norm="unit_l2", input_scale=d**0.5)


def normalises(checkpoint: foreign.Checkpoint) -> bool:
    """Whether the SAE takes embeddings as they come, and normalises them itself."""
    return checkpoint.settings(Settings).normalize_activations != "none"


def forward(
    checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in SAELens' own steps; `x` are raw embeddings where it normalises itself."""
    c, t = _parts(checkpoint)
    shift: torch.Tensor | float = 0.0
    scale: torch.Tensor | float = 1.0
    if c.normalize_activations == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[1] ** 0.5
    elif c.normalize_activations == "layer_norm":
        shift = x.mean(dim=-1, keepdim=True)
        scale = (x - shift).std(dim=-1, keepdim=True) + 1e-5
    inputs = (x - shift) / scale - t["b_dec"] * c.apply_b_dec_to_input
    norm = t["W_dec"].norm(dim=1) if c.rescale_acts_by_decoder_norm else torch.ones(())
    if c.architecture == "gated":
        pre = inputs @ t["W_enc"]
        z = (pre + t["b_gate"] > 0) * (pre * t["r_mag"].exp() + t["b_mag"]).relu()
    else:
        pre = (inputs @ t["W_enc"] + t["b_enc"]) * norm
        z = foreign.kept(
            pre, k, None if c.architecture == "topk" else t.get("threshold", 0.0)
        ).relu()
    return z, ((z / norm) @ t["W_dec"] + t["b_dec"]) * scale + shift
