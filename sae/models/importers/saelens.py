"""SAELens (MIT), version 6: a folder with `sae_weights.safetensors` and `cfg.json`.

BatchTopK and Matryoshka SAEs are saved as JumpReLU by the library. Gated ones are exact
as JumpReLU too: the gate is a threshold of the magnitude's pre-activation.
"""

from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from sae.core.errors import UserError
from sae.models import checkpoints
from sae.models.coder import Coder

COMMON_AXES = {"W_enc": "dm", "W_dec": "md", "b_dec": "d"}
TENSORS = set(COMMON_AXES)
# What each architecture has beside these; one that is not here has b_enc alone.
MORE_AXES = {
    "gated": {"r_mag": "m", "b_mag": "m", "b_gate": "m"},
    "jumprelu": {"b_enc": "m", "threshold": "m"},
}


class SaelensConfig(checkpoints.CheckpointSettings):
    """The settings in cfg.json; `metadata` of this project's exports has more.

    Keys that say how an SAE was trained are passed over. Those of earlier versions that
    change what it gives are declared, so that other values than the usual are refused.
    """

    architecture: Literal["topk", "jumprelu", "standard", "gated"]
    d_in: checkpoints.Size | None = None
    d_sae: checkpoints.Size | None = None
    k: checkpoints.Factor | None = None
    apply_b_dec_to_input: bool = True
    rescale_acts_by_decoder_norm: bool = False
    normalize_activations: Literal["none", "constant_norm_rescale", "layer_norm"] = (
        "none"
    )
    reshape_activations: Literal["none"] = "none"
    metadata: checkpoints.CoderSettings = checkpoints.CoderSettings()
    # Before version 6.
    activation_fn: Literal["relu", "topk"] | None = None
    activation_fn_str: Literal["relu", "topk"] | None = None
    finetuning_scaling_factor: Literal[False] | None = None
    is_transcoder: Literal[False] | None = None
    activation_fn_kwargs: dict[str, Any] | None = None
    # Of transcoders, which give other activations than they read.
    d_out: None = None
    hook_name_out: None = None

    @model_validator(mode="after")
    def _activation_of_the_architecture(self) -> Self:
        """Refuse a Top-k SAE that calls itself a standard one, or has two k."""
        earlier_k = (self.activation_fn_kwargs or {}).get("k")
        if self.k is not None and earlier_k not in (None, self.k):
            raise ValueError(
                f"k is {self.k:g} and activation_fn_kwargs.k {earlier_k}: leave one out"
            )
        for name in ("activation_fn", "activation_fn_str"):
            function = getattr(self, name)
            if function == "topk" and self.architecture != "topk":
                raise ValueError(
                    f"{name} is 'topk' with architecture {self.architecture!r}: write "
                    "'topk' as its architecture, and its k as k"
                )
        return self


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether settings and tensors have SAELens' names."""
    return "architecture" in checkpoint.config and checkpoint.tensors.keys() >= TENSORS


def _take_tensors(
    checkpoint: checkpoints.Checkpoint, config: SaelensConfig
) -> checkpoints.Tensors:
    known = TENSORS.union({"b_enc"}, *MORE_AXES.values())
    checkpoint.refuse_other_tensors(known)
    more_axes = MORE_AXES.get(config.architecture, {"b_enc": "m"})
    return checkpoint.take_tensors(
        COMMON_AXES | more_axes, {"d_in": config.d_in}, {"d_sae": config.d_sae}
    )


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder.

    Raises:
        UserError: decoder norms rescale its activations before a threshold, or as
            :func:`checkpoints.make_coder`.
    """
    config = checkpoint.read_settings(SaelensConfig)
    t = _take_tensors(checkpoint, config)
    W_enc = t["W_enc"]
    W_dec = t["W_dec"]
    b_dec = t["b_dec"]

    theta = None
    if config.architecture == "gated":
        # pi + b_gate > 0 where pi e^r + b_mag > b_mag - e^r b_gate.
        b_enc = t["b_mag"]
        theta = t["b_mag"] - t["r_mag"].exp() * t["b_gate"]
        W_enc = W_enc * t["r_mag"].exp()
    else:
        b_enc = t["b_enc"]
        if config.architecture != "topk":
            theta = t.get("threshold", torch.zeros(len(W_dec)))

    if not config.apply_b_dec_to_input:
        # A coder subtracts b_dec from its inputs.
        b_enc = b_enc + b_dec @ W_enc
    if config.rescale_acts_by_decoder_norm:
        if theta is not None:
            raise UserError(
                f"{checkpoint.settings_file}: rescale_acts_by_decoder_norm with "
                f"architecture {config.architecture!r} cannot be imported; allowed: "
                "'topk'"
            )
        norm = W_dec.norm(dim=1)
        W_enc = W_enc * norm
        b_enc = b_enc * norm
        W_dec = W_dec / norm[:, None]

    d = len(b_dec)
    settings = _coder_settings(checkpoint, config, options, d)
    if config.normalize_activations == "layer_norm":
        # SAELens divides by the unbiased deviation: its inputs are `ratio` times ours.
        ratio = ((d - 1) / d) ** 0.5
        W_enc = ratio * W_enc
        W_dec = W_dec / ratio
        b_dec = b_dec / ratio
    tensors = checkpoints.CoderTensors(W_enc, b_enc, W_dec, b_dec, theta)
    checkpoint_k = config.k or config.metadata.k
    return checkpoints.make_coder(checkpoint, settings, tensors, checkpoint_k)


def _coder_settings(
    checkpoint: checkpoints.Checkpoint,
    config: SaelensConfig,
    options: checkpoints.Options,
    d: int,
) -> checkpoints.CoderSettings:
    normalisation = config.normalize_activations
    if normalisation == "none":
        return options.completed_by(config.metadata)

    input_options = [
        name
        for name in ("input_norm", "input_scale")
        if getattr(options, name) is not None
    ]
    if input_options:
        raise UserError(
            f"{checkpoint.path} normalises its inputs itself ({normalisation}): leave "
            f"{' and '.join(input_options)} out"
        )
    if normalisation == "layer_norm":
        return checkpoints.CoderSettings(k=options.k, input_norm="unit_l2_layernorm")
    return checkpoints.CoderSettings(
        k=options.k, input_norm="unit_l2", input_scale=d**0.5
    )


def normalises(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether the SAE takes embeddings as they come, and normalises them."""
    config = checkpoint.read_settings(SaelensConfig)
    return config.normalize_activations != "none"


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by SAELens' own steps.

    Args:
        checkpoint: the SAE.
        k: how many latents a Top-k SAE keeps.
        x: (N, d) inputs; raw embeddings where the SAE normalises them itself.
    """
    config = checkpoint.read_settings(SaelensConfig)
    t = _take_tensors(checkpoint, config)

    shift: Tensor | float = 0.0
    scale: Tensor | float = 1.0
    if config.normalize_activations == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[1] ** 0.5
    elif config.normalize_activations == "layer_norm":
        shift = x.mean(dim=-1, keepdim=True)
        scale = (x - shift).std(dim=-1, keepdim=True) + 1e-5
    inputs = (x - shift) / scale
    if config.apply_b_dec_to_input:
        inputs = inputs - t["b_dec"]

    decoder_norm = torch.ones(())
    if config.rescale_acts_by_decoder_norm:
        decoder_norm = t["W_dec"].norm(dim=1)
    if config.architecture == "gated":
        pre_activations = inputs @ t["W_enc"]
        is_open = pre_activations + t["b_gate"] > 0
        codes = is_open * (pre_activations * t["r_mag"].exp() + t["b_mag"]).relu()
    else:
        theta: Tensor | float | None = None
        if config.architecture != "topk":
            theta = t.get("threshold", 0.0)
        pre_activations = (inputs @ t["W_enc"] + t["b_enc"]) * decoder_norm
        codes = checkpoints.select_dense(pre_activations, k, theta).relu()

    reconstructions = (codes / decoder_norm) @ t["W_dec"] + t["b_dec"]
    return codes, reconstructions * scale + shift
