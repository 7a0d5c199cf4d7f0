"""saev (MIT): `sae.pt`, a line of JSON followed by a state dict.

Its encoder does not subtract b_dec. Its Top-k has no ReLU: on a sample with fewer than k positive pre-activations it
keeps negative ones, which this project does not; `--check` tells whether that happens.
"""

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder, Threshold, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space


def fits(checkpoint: Checkpoint) -> bool:
    """Whether its header is saev's."""
    return isinstance(checkpoint.config.get("cfg"), dict) and "schema" in checkpoint.config


def _activation(checkpoint: Checkpoint) -> tuple[str, dict]:
    activation = checkpoint.config.get("cfg", {}).get("activation")
    if not isinstance(activation, dict):
        raise UserError(f"{checkpoint.path}: its header names no activation")
    name = activation.get("cls", "Relu")
    foreign.one_of(name, ("TopK", "BatchTopK", "Relu"), f"{checkpoint.path}: activation")
    return name, activation.get("params") or {}


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    name, parameters = _activation(checkpoint)
    W_enc, b_enc, W_dec, b_dec = checkpoint.take("W_enc", "b_enc", "W_dec", "b_dec")
    b_enc, space = b_enc + b_dec @ W_enc, options.space(Space(), checkpoint)
    k = options.k or int(parameters.get("top_k", 1))
    if name == "TopK":
        return foreign.coder(W_enc, b_enc, W_dec, b_dec, TopK(k), k, space)
    theta = torch.zeros_like(b_enc)
    if name == "BatchTopK":
        theta = theta + checkpoint.take("activation.threshold")[0]
    return foreign.coder(W_enc, b_enc, W_dec, b_dec, Threshold(theta), k, space)


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    (name, parameters), t = _activation(checkpoint), checkpoint.tensors
    pre = x @ t["W_enc"] + t["b_enc"]
    if name == "TopK":
        values, places = pre.topk(options.k or int(parameters.get("top_k", 1)), dim=1)
        z = torch.zeros_like(pre).scatter(1, places, values)
    else:
        theta = t["activation.threshold"] if name == "BatchTopK" else 0.0
        z = pre.relu() * (pre > theta)
    return z, z @ t["W_dec"] + t["b_dec"]
