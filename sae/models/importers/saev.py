"""saev (MIT): `sae.pt`, a line of JSON followed by a state dict.

Its encoder does not subtract b_dec. Its Top-k has no ReLU: on a sample with fewer than k positive pre-activations it
keeps negative ones, which this project does not; `--check` tells whether that happens.
"""

from typing import Literal

import torch

from sae.models import foreign
from sae.models.coder import Coder

SHAPES = {"W_enc": "dm", "b_enc": "m", "W_dec": "md", "b_dec": "d"}


class Parameters(foreign.Settings):
    """Of an activation."""

    top_k: foreign.Size | None = None


class Activation(foreign.Settings):
    """What follows the encoder."""

    cls: Literal["TopK", "BatchTopK", "Relu"]
    params: Parameters = Parameters()


class SparseAutoencoder(foreign.Settings):
    """Sizes: d_model and d_sae, in older files d_vit and exp_factor."""

    activation: Activation
    d_model: foreign.Size | None = None
    d_sae: foreign.Size | None = None
    d_vit: foreign.Size | None = None
    exp_factor: foreign.Size | None = None


class Settings(foreign.Settings):
    """Of the line of JSON."""

    PLACE = "line of JSON in front of its tensors"
    cfg: SparseAutoencoder


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether its header is saev's."""
    return (
        isinstance(checkpoint.config.get("cfg"), dict) and "schema" in checkpoint.config
    )


def _parts(
    checkpoint: foreign.Checkpoint,
) -> tuple[int | None, foreign.Tensors, torch.Tensor | None]:
    """k, the tensors, and the thresholds (m,); None for a Top-k SAE."""
    c = checkpoint.settings(Settings).cfg
    threshold = (
        {"activation.threshold": "m?"} if c.activation.cls == "BatchTopK" else {}
    )
    d = {"cfg.d_model": c.d_model, "cfg.d_vit": c.d_vit}
    m = {
        "cfg.d_sae": c.d_sae,
        "cfg.d_vit * exp_factor": foreign.times(c.d_vit, c.exp_factor),
    }
    t = checkpoint.take(SHAPES | threshold, d, m)
    theta = t.get("activation.threshold", torch.zeros_like(t["b_enc"]))
    return c.activation.params.top_k, t, None if c.activation.cls == "TopK" else theta


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The same SAE as a coder."""
    k, t, theta = _parts(checkpoint)
    tensors = (t["W_enc"], t["b_enc"] + t["b_dec"] @ t["W_enc"], t["W_dec"], t["b_dec"])
    return foreign.coder(checkpoint, options.over(foreign.Stated()), tensors, k, theta)


def forward(
    checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    _, t, theta = _parts(checkpoint)
    pre = x @ t["W_enc"] + t["b_enc"]
    z = foreign.kept(pre if theta is None else pre.relu(), k, theta)
    return z, z @ t["W_dec"] + t["b_dec"]
