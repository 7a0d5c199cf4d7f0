"""Overcomplete (MIT): the state dict of a TopKSAE, BatchTopKSAE or JumpSAE with a linear encoder.

Overcomplete saves whole models by pickling; write `model.state_dict()` instead. It has no b_dec: users subtract a mean
themselves. Its state dict does not say k (`--k`), nor BatchTopK's running threshold (which cannot be imported without).
The decoder rows are those of `get_dictionary()`: of unit norm, times the exponential of `multiplier`.
"""

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder, Threshold, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space

_ENCODER = "encoder.final_block.0.{}"


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the tensors have Overcomplete's names."""
    return "dictionary._weights" in checkpoint.tensors


def _parts(checkpoint: Checkpoint) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encoder (d, m), its bias (m,), decoder (m, d)."""
    others = {name for name in checkpoint.tensors if name.startswith("encoder.")}
    strange = sorted(others - {_ENCODER.format("weight"), _ENCODER.format("bias")})
    if strange:
        raise UserError(f"{checkpoint.path}: its encoder is not linear ({strange[0]}), and cannot be imported")
    weight, bias, rows = checkpoint.take(_ENCODER.format("weight"), _ENCODER.format("bias"), "dictionary._weights")
    multiplier = checkpoint.tensors.get("dictionary.multiplier", torch.zeros(()))
    decoder = torch.nn.functional.normalize(rows, dim=1) * multiplier.exp()
    return weight.T, bias, decoder


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    W_enc, b_enc, W_dec = _parts(checkpoint)
    b_dec, space = torch.zeros(len(W_enc)), options.space(Space(), checkpoint)
    if "thresholds" in checkpoint.tensors:
        theta = checkpoint.tensors["thresholds"].exp()
        return foreign.coder(W_enc, b_enc, W_dec, b_dec, Threshold(theta), options.k or 1, space)
    return foreign.coder(W_enc, b_enc, W_dec, b_dec, TopK(_k(checkpoint, options)), _k(checkpoint, options), space)


def _k(checkpoint: Checkpoint, options: Options) -> int:
    if options.k is None:
        raise UserError(
            f"{checkpoint.path}: Overcomplete's state dict does not say how many latents are kept: give --k"
        )
    return options.k


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    W_enc, b_enc, W_dec = _parts(checkpoint)
    pre = x @ W_enc + b_enc
    if "thresholds" in checkpoint.tensors:
        z = pre.relu() * (pre > checkpoint.tensors["thresholds"].exp())
    else:
        values, places = pre.relu().topk(_k(checkpoint, options), dim=1)
        z = torch.zeros_like(pre).scatter(1, places, values)
    return z, z @ W_dec
