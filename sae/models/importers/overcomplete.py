"""Overcomplete (MIT): the state dict of a TopKSAE, BatchTopKSAE or JumpSAE with a linear encoder.

Overcomplete saves whole models by pickling; write `model.state_dict()` instead. It has no b_dec: users subtract a mean
themselves. Its state dict does not say k (`--k`), nor BatchTopK's running threshold (which cannot be imported without).
The decoder rows are those of `get_dictionary()`: of unit norm, times the exponential of `multiplier`.

This project's own exports have what is missing in files beside it: `made_by.json` and `b_dec.npy`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from sae.core import files
from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder

SHAPES = {
    "encoder.final_block.0.weight": "md",
    "encoder.final_block.0.bias": "m",
    "dictionary._weights": "md",
}
OPTIONAL = {"dictionary.multiplier": "", "thresholds": "m", "b_dec.npy": "d"}


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether the tensors have Overcomplete's names."""
    return "dictionary._weights" in checkpoint.tensors


def _parts(
    checkpoint: foreign.Checkpoint,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The encoder (m, d), (m,); the decoder (m, d); what is added to its reconstructions (d,); thresholds (m,)."""
    strange = sorted(
        name
        for name in checkpoint.tensors
        if name.startswith("encoder.") and name not in SHAPES
    )
    if strange:
        raise UserError(
            f"{checkpoint.path}: its encoder is not linear ({strange[0]}), and cannot be imported"
        )
    tensors = dict(checkpoint.tensors)
    if (beside := checkpoint.path.with_name("b_dec.npy")).exists():
        tensors["b_dec.npy"] = torch.tensor(
            files.read_array(beside).astype(float).tolist()
        )
    held = {name: axes for name, axes in OPTIONAL.items() if name in tensors}
    t = replace(checkpoint, tensors=tensors).take(SHAPES | held)
    weight, bias, rows = (t[name] for name in SHAPES)
    decoder = (
        torch.nn.functional.normalize(rows, dim=1)
        * t.get("dictionary.multiplier", torch.zeros(())).exp()
    )
    theta = t["thresholds"].exp() if "thresholds" in t else None
    return weight, bias, decoder, t.get("b_dec.npy", torch.zeros(rows.shape[1])), theta


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The same SAE as a coder."""
    (weight, bias, W_dec, b_dec, theta), made_by = (
        _parts(checkpoint),
        checkpoint.made_by(),
    )
    tensors = (weight.T, bias + b_dec @ weight.T, W_dec, b_dec)
    return foreign.coder(checkpoint, options.over(made_by), tensors, made_by.k, theta)


def forward(checkpoint: foreign.Checkpoint, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    weight, bias, W_dec, b_dec, theta = _parts(checkpoint)
    z = foreign.kept((x @ weight.T + bias).relu(), k, theta)
    return z, z @ W_dec + b_dec
