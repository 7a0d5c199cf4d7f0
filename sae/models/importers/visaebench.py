"""ViSAEBench's GenericSAE: `config.json` and `sae.pt` or `model.safetensors`.

Its encoder does not subtract the decoder's bias, and its BatchTopK keeps what *reaches*
the threshold. Mean and deviation of the inputs lie outside the file: embeddings have to
be standardised before.

This project has one vector an image. An SAE that was trained on patch tokens, as those
of the benchmark were, is converted and runs, but its scores on pooled embeddings mean
little.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.core.errors import UserError
from sae.models import checkpoints
from sae.models.coder import Coder

AXES = {
    "encoder.weight": "md",
    "encoder.bias": "m",
    "decoder.weight": "md",
    "decoder.bias": "d",
}
TENSORS = set(AXES)
# The activation that keeps what equals its threshold.
KEEPS_EQUAL = "batchtopk"


class VisaebenchConfig(checkpoints.CheckpointSettings):
    """The settings in config.json."""

    PLACE = "config.json beside it"
    activation: Literal["topk", "batchtopk", "jumprelu"]
    input_dim: checkpoints.Size | None = None
    hidden_dim: checkpoints.Size | None = None
    expansion_factor: checkpoints.Factor | None = None
    k: checkpoints.Size | None = None
    threshold: checkpoints.Number | None = None


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether settings and tensors have ViSAEBench's names."""
    return checkpoint.tensors.keys() >= TENSORS and "activation" in checkpoint.config


def _read_tensors(
    checkpoint: checkpoints.Checkpoint, config: VisaebenchConfig
) -> checkpoints.CoderTensors:
    """Return the tensors of a checkpoint, whose encoder subtracts nothing."""
    axes = dict(AXES)
    if config.activation != "topk" and "threshold" in checkpoint.tensors:
        axes["threshold"] = "m?"
    product = checkpoints.multiply_known(config.input_dim, config.expansion_factor)
    stated_m = {
        "hidden_dim": config.hidden_dim,
        "input_dim * expansion_factor": None if product is None else round(product),
    }
    tensors = checkpoint.take_tensors(axes, {"input_dim": config.input_dim}, stated_m)

    theta = tensors.get("threshold")
    if config.activation != "topk" and theta is None:
        if config.threshold is None:
            raise UserError(
                f"{checkpoint.path}: there is no threshold, in the tensors or in "
                "config.json"
            )
        theta = torch.full_like(tensors["encoder.bias"], config.threshold)
    return checkpoints.CoderTensors(
        W_enc=tensors["encoder.weight"].T,
        b_enc=tensors["encoder.bias"],
        W_dec=tensors["decoder.weight"],
        b_dec=tensors["decoder.bias"],
        theta=theta,
    )


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    config = checkpoint.read_settings(VisaebenchConfig)
    tensors = _read_tensors(checkpoint, config).subtracting_b_dec()
    theta = tensors.theta
    if theta is not None and config.activation == KEEPS_EQUAL:
        # The next smaller float: a coder keeps what is above its threshold.
        theta = torch.nextafter(theta, torch.full_like(theta, -torch.inf))
    settings = options.completed_by(checkpoints.CoderSettings())
    return checkpoints.make_coder(
        checkpoint, settings, replace(tensors, theta=theta), config.k
    )


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    config = checkpoint.read_settings(VisaebenchConfig)
    t = _read_tensors(checkpoint, config)
    activations = (x @ t.W_enc + t.b_enc).relu()
    if t.theta is not None and config.activation == KEEPS_EQUAL:
        codes = activations * (activations >= t.theta)
    else:
        codes = checkpoints.select_dense(activations, k, t.theta)
    return codes, codes @ t.W_dec + t.b_dec
