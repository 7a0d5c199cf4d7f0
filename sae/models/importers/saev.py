"""saev (MIT): `sae.pt`, a line of JSON followed by a state dict.

Its encoder does not subtract b_dec. Its Top-k has no ReLU: on a sample with fewer than
k positive pre-activations it keeps negative ones, which this project does not;
`--check` tells whether that happens.

This project has one vector an image. An SAE that was trained on patch tokens is
converted and runs, but its scores on pooled embeddings mean little.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.models import checkpoints
from sae.models.coder import Coder

AXES = {"W_enc": "dm", "b_enc": "m", "W_dec": "md", "b_dec": "d"}


class ActivationParameters(checkpoints.CheckpointSettings):
    """The parameters of an activation."""

    top_k: checkpoints.Size | None = None


class ActivationConfig(checkpoints.CheckpointSettings):
    """The activation that follows the encoder."""

    cls: Literal["TopK", "BatchTopK", "Relu"]
    params: ActivationParameters = ActivationParameters()


class SparseAutoencoderConfig(checkpoints.CheckpointSettings):
    """The sizes of an SAE: d_model and d_sae, in older files d_vit and exp_factor."""

    activation: ActivationConfig
    d_model: checkpoints.Size | None = None
    d_sae: checkpoints.Size | None = None
    d_vit: checkpoints.Size | None = None
    exp_factor: checkpoints.Size | None = None


class SaevHeader(checkpoints.CheckpointSettings):
    """The settings in the line of JSON."""

    PLACE = "line of JSON in front of its tensors"
    cfg: SparseAutoencoderConfig


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether the header is saev's."""
    has_config = isinstance(checkpoint.config.get("cfg"), dict)
    return has_config and "schema" in checkpoint.config


def _read_sae(
    checkpoint: checkpoints.Checkpoint,
) -> tuple[checkpoints.CoderTensors, int | None]:
    """Return the tensors, whose encoder subtracts nothing, and k if it is stated."""
    config = checkpoint.read_settings(SaevHeader).cfg
    activation = config.activation
    axes = dict(AXES)
    if activation.cls == "BatchTopK":
        axes["activation.threshold"] = "m?"
    stated_d = {"cfg.d_model": config.d_model, "cfg.d_vit": config.d_vit}
    stated_m = {
        "cfg.d_sae": config.d_sae,
        "cfg.d_vit * exp_factor": checkpoints.multiply_known(
            config.d_vit, config.exp_factor
        ),
    }
    t = checkpoint.take_tensors(axes, stated_d, stated_m)

    theta = None
    if activation.cls == "BatchTopK":
        theta = t["activation.threshold"]
    elif activation.cls == "Relu":
        theta = torch.zeros_like(t["b_enc"])
    tensors = checkpoints.CoderTensors(
        t["W_enc"], t["b_enc"], t["W_dec"], t["b_dec"], theta
    )
    return tensors, activation.params.top_k


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    tensors, top_k = _read_sae(checkpoint)
    settings = options.completed_by(checkpoints.CoderSettings())
    return checkpoints.make_coder(
        checkpoint, settings, tensors.subtracting_b_dec(), top_k
    )


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    t, _ = _read_sae(checkpoint)
    activations = x @ t.W_enc + t.b_enc
    if t.theta is not None:
        activations = activations.relu()
    codes = checkpoints.select_dense(activations, k, t.theta)
    return codes, codes @ t.W_dec + t.b_dec
