"""ViSAEBench's GenericSAE: `config.json` and `sae.pt` or `model.safetensors`.

Its encoder does not subtract the decoder's bias, and its BatchTopK keeps what *reaches*
the threshold. Mean and deviation of the inputs lie outside the file: embeddings have to
be standardised before.

This project has one vector an image. An SAE that was trained on patch tokens, as those
of the benchmark were, is converted and runs, but its scores on pooled embeddings mean
little.
"""

from dataclasses import dataclass
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


class VisaebenchConfig(checkpoints.CheckpointSettings):
    """The settings in config.json."""

    PLACE = "config.json beside it"
    activation: Literal["topk", "batchtopk", "jumprelu"]
    input_dim: checkpoints.Size | None = None
    hidden_dim: checkpoints.Size | None = None
    expansion_factor: checkpoints.Factor | None = None
    k: checkpoints.Size | None = None
    threshold: checkpoints.Number | None = None


@dataclass(frozen=True)
class VisaebenchSae:
    """A checkpoint of ViSAEBench, checked.

    Attributes:
        config: its settings.
        tensors: {name: tensor}, by ViSAEBench's names.
        theta: (m,) the thresholds; None for a Top-k SAE.
    """

    config: VisaebenchConfig
    tensors: checkpoints.Tensors
    theta: Float[Tensor, " m"] | None

    @property
    def keeps_equal(self) -> bool:
        """Return whether an activation that equals its threshold is kept."""
        return self.theta is not None and self.config.activation == "batchtopk"


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether settings and tensors have ViSAEBench's names."""
    return checkpoint.tensors.keys() >= TENSORS and "activation" in checkpoint.config


def _read_sae(checkpoint: checkpoints.Checkpoint) -> VisaebenchSae:
    config = checkpoint.read_settings(VisaebenchConfig)
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
    return VisaebenchSae(config, tensors, theta)


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    sae = _read_sae(checkpoint)
    t = sae.tensors
    W_enc = t["encoder.weight"].T
    b_dec = t["decoder.bias"]

    theta = sae.theta
    if theta is not None and sae.keeps_equal:
        # The next smaller float: a coder keeps what is above its threshold.
        theta = torch.nextafter(theta, torch.full_like(theta, -torch.inf))
    tensors = checkpoints.CoderTensors(
        W_enc=W_enc,
        # A coder subtracts b_dec from its inputs.
        b_enc=t["encoder.bias"] + b_dec @ W_enc,
        W_dec=t["decoder.weight"],
        b_dec=b_dec,
        theta=theta,
    )
    settings = options.completed_by(checkpoints.CoderSettings())
    return checkpoints.make_coder(checkpoint, settings, tensors, sae.config.k)


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    sae = _read_sae(checkpoint)
    t = sae.tensors
    activations = (x @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    if sae.theta is not None and sae.keeps_equal:
        codes = activations * (activations >= sae.theta)
    else:
        codes = checkpoints.select_dense(activations, k, sae.theta)
    return codes, codes @ t["decoder.weight"] + t["decoder.bias"]
