"""SAELens (MIT), version 6: a folder with `sae_weights.safetensors` and `cfg.json`.

BatchTopK and Matryoshka SAEs are saved as JumpReLU by the library. Gated ones are exact as JumpReLU too: the gate is a
threshold of the magnitude's pre-activation.
"""

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder, Threshold, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space

ARCHITECTURES = ("topk", "jumprelu", "standard", "gated")


def fits(checkpoint: Checkpoint) -> bool:
    """Whether settings and tensors have SAELens' names."""
    return "architecture" in checkpoint.config and {"W_enc", "W_dec", "b_dec"} <= checkpoint.tensors.keys()


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    c = checkpoint.config
    foreign.one_of(c.get("architecture"), ARCHITECTURES, f"{checkpoint.path}: architecture")
    foreign.one_of(c.get("reshape_activations", "none"), ("none",), f"{checkpoint.path}: reshape_activations")
    W_enc, W_dec, b_dec = checkpoint.take("W_enc", "W_dec", "b_dec")
    if c["architecture"] == "gated":
        r_mag, b_mag, b_gate = checkpoint.take("r_mag", "b_mag", "b_gate")
        # pi + b_gate > 0 where pi e^r + b_mag > b_mag - e^r b_gate.
        b_enc, theta = b_mag, b_mag - r_mag.exp() * b_gate
        W_enc = W_enc * r_mag.exp()
    else:
        (b_enc,) = checkpoint.take("b_enc")
        theta = checkpoint.take("threshold")[0] if c["architecture"] == "jumprelu" else torch.zeros_like(b_enc)
    if not c.get("apply_b_dec_to_input", True):
        b_enc = b_enc + b_dec @ W_enc
    if c.get("rescale_acts_by_decoder_norm"):
        foreign.one_of(
            c["architecture"], ("topk",), f"{checkpoint.path}: rescale_acts_by_decoder_norm with architecture"
        )
        norm = W_dec.norm(dim=1)
        W_enc, b_enc, W_dec = W_enc * norm, b_enc * norm, W_dec / norm[:, None]
    space, b_enc, W_enc, W_dec, b_dec = _space(checkpoint, options, b_enc, W_enc, W_dec, b_dec)
    if c["architecture"] == "topk":
        k = options.k or c.get("k")
        if not isinstance(k, int):
            raise UserError(f"{checkpoint.path}: cfg.json has no k; give one (--k)")
        return foreign.coder(W_enc, b_enc, W_dec, b_dec, TopK(k), k, space)
    return foreign.coder(W_enc, b_enc, W_dec, b_dec, Threshold(theta), options.k or _k(c, len(b_enc)), space)


def _k(config: dict, m: int) -> int:
    """The budget of a threshold coder, as far as it is known."""
    k = config.get("k") or config.get("metadata", {}).get("k")
    return round(k) if isinstance(k, int | float) and 1 <= k <= m else 1


def _space(
    checkpoint: Checkpoint,
    options: Options,
    b_enc: torch.Tensor,
    W_enc: torch.Tensor,
    W_dec: torch.Tensor,
    b_dec: torch.Tensor,
) -> tuple[Space, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The input space, and the tensors in it."""
    c, d = checkpoint.config, len(b_dec)
    norm = c.get("normalize_activations", "none")
    foreign.one_of(norm, ("none", "constant_norm_rescale", "layer_norm"), f"{checkpoint.path}: normalize_activations")
    given = {"input_norm": options.input_norm, "input_scale": options.input_scale}
    if norm != "none" and (named := [name for name, value in given.items() if value is not None]):
        raise UserError(f"{checkpoint.path} normalises its inputs itself ({norm}): leave {' and '.join(named)} out")
    if norm == "constant_norm_rescale":
        return Space("unit_l2", d**0.5), b_enc, W_enc, W_dec, b_dec
    if norm == "layer_norm":
        # It divides by the unbiased deviation: its inputs are s times ours.
        s = ((d - 1) / d) ** 0.5
        return Space("unit_l2_layernorm", 1.0), b_enc, s * W_enc, W_dec / s, b_dec / s
    about = c.get("metadata", {})
    space = Space(about.get("input_norm", "none"), float(about.get("input_scale", 1.0)))
    return options.space(space, checkpoint), b_enc, W_enc, W_dec, b_dec


def normalises(checkpoint: Checkpoint) -> bool:
    """Whether the SAE takes embeddings as they come, and normalises them itself."""
    return checkpoint.config.get("normalize_activations", "none") != "none"


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in SAELens' own steps; `x` are raw embeddings where it normalises itself."""
    c, t = checkpoint.config, checkpoint.tensors
    shift: torch.Tensor | float = 0.0
    scale: torch.Tensor | float = 1.0
    if c.get("normalize_activations") == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[1] ** 0.5
    elif c.get("normalize_activations") == "layer_norm":
        shift = x.mean(dim=-1, keepdim=True)
        scale = (x - shift).std(dim=-1, keepdim=True) + 1e-5
    inputs = (x - shift) / scale
    inputs = inputs - t["b_dec"] if c.get("apply_b_dec_to_input", True) else inputs
    norm = t["W_dec"].norm(dim=1) if c.get("rescale_acts_by_decoder_norm") else 1.0
    if c["architecture"] == "gated":
        pre = inputs @ t["W_enc"]
        z = (pre + t["b_gate"] > 0) * (pre * t["r_mag"].exp() + t["b_mag"]).relu()
    else:
        pre = (inputs @ t["W_enc"] + t["b_enc"]) * norm
        if c["architecture"] == "topk":
            values, places = pre.topk(options.k or c["k"], dim=1)
            z = torch.zeros_like(pre).scatter(1, places, values.relu())
        else:
            theta = t["threshold"] if c["architecture"] == "jumprelu" else 0.0
            z = pre.relu() * (pre > theta)
    decoded = (z / norm) @ t["W_dec"] if c.get("rescale_acts_by_decoder_norm") else z @ t["W_dec"]
    return z, (decoded + t["b_dec"]) * scale + shift
