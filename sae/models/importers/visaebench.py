"""ViSAEBench's GenericSAE: a folder with `config.json` and `sae.pt` or `model.safetensors`.

Its encoder does not subtract the decoder's bias, and its BatchTopK keeps what *reaches* the threshold. Mean and
deviation of the inputs lie outside the file: embeddings have to be standardised before.
"""

from typing import Literal

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder

SHAPES = {
    "encoder.weight": "md",
    "encoder.bias": "m",
    "decoder.weight": "md",
    "decoder.bias": "d",
}
TENSORS = set(SHAPES)


class Settings(foreign.Settings):
    """Of config.json."""

    PLACE = "config.json beside it"
    activation: Literal["topk", "batchtopk", "jumprelu"]
    input_dim: foreign.Size | None = None
    hidden_dim: foreign.Size | None = None
    expansion_factor: foreign.Factor | None = None
    k: foreign.Size | None = None
    threshold: foreign.Number | None = None


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether settings and tensors have ViSAEBench's names."""
    return checkpoint.tensors.keys() >= TENSORS and "activation" in checkpoint.config


def _parts(
    checkpoint: foreign.Checkpoint,
) -> tuple[Settings, foreign.Tensors, torch.Tensor | None]:
    """The settings, the tensors, and the thresholds (m,); None for a Top-k SAE."""
    c = checkpoint.settings(Settings)
    held = (
        {"threshold": "m?"}
        if c.activation != "topk" and "threshold" in checkpoint.tensors
        else {}
    )
    product = foreign.times(c.input_dim, c.expansion_factor)
    m = {
        "hidden_dim": c.hidden_dim,
        "input_dim * expansion_factor": None if product is None else round(product),
    }
    t = checkpoint.take(SHAPES | held, {"input_dim": c.input_dim}, m)
    if c.activation == "topk" or held:
        return c, t, t.get("threshold")
    if c.threshold is None:
        raise UserError(
            f"{checkpoint.path}: there is no threshold, in the tensors or in config.json"
        )
    return c, t, torch.full_like(t["encoder.bias"], c.threshold)


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The same SAE as a coder."""
    c, t, theta = _parts(checkpoint)
    W_enc, b_dec = t["encoder.weight"].T, t["decoder.bias"]
    if (
        theta is not None and c.activation == "batchtopk"
    ):  # The next smaller float: ours keeps what is above it.
        theta = torch.nextafter(theta, torch.full_like(theta, -torch.inf))
    tensors = (W_enc, t["encoder.bias"] + b_dec @ W_enc, t["decoder.weight"], b_dec)
    return foreign.coder(
        checkpoint, options.over(foreign.Stated()), tensors, c.k, theta
    )


def forward(
    checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    c, t, theta = _parts(checkpoint)
    pre = (x @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    z = (
        pre * (pre >= theta)
        if theta is not None and c.activation == "batchtopk"
        else foreign.kept(pre, k, theta)
    )
    return z, z @ t["decoder.weight"] + t["decoder.bias"]
