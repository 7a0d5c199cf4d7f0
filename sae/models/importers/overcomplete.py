"""Overcomplete (MIT): the state dict of a TopKSAE, BatchTopKSAE or JumpSAE with a linear encoder.

Overcomplete saves whole models by pickling; write `model.state_dict()` instead. It has no b_dec: users subtract a mean
themselves. Its state dict does not say k (`--k`), nor BatchTopK's running threshold (which cannot be imported without).
The decoder rows are those of `get_dictionary()`: of unit norm, times the exponential of `multiplier`.

This project's own exports have what is missing in files beside it: `made_by.json` and `b_dec.npy`.
"""

from dataclasses import replace

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Tensors

ENCODER = {"encoder.final_block.0.weight": "md", "encoder.final_block.0.bias": "m"}
SHAPES = ENCODER | {"dictionary._weights": "md", "dictionary.multiplier": "", "thresholds": "m", "b_dec.npy": "d"}
OPTIONAL = {"dictionary.multiplier", "thresholds", "b_dec.npy"}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the tensors have Overcomplete's names."""
    return "dictionary._weights" in checkpoint.tensors


def _parts(checkpoint: Checkpoint) -> tuple[Tensors, torch.Tensor, torch.Tensor]:
    """The tensors, the decoder (m, d), and what is added to its reconstructions (d,)."""
    strange = sorted(name for name in checkpoint.tensors if name.startswith("encoder.") and name not in ENCODER)
    if strange:
        raise UserError(f"{checkpoint.path}: its encoder is not linear ({strange[0]}), and cannot be imported")
    tensors = dict(checkpoint.tensors)
    if (beside := checkpoint.path.with_name("b_dec.npy")).exists():
        tensors["b_dec.npy"] = torch.tensor(foreign.array(beside).astype(float).tolist())
    left_out = OPTIONAL - tensors.keys()
    t = replace(checkpoint, tensors=tensors).take({n: axes for n, axes in SHAPES.items() if n not in left_out})
    rows = t["dictionary._weights"]
    decoder = torch.nn.functional.normalize(rows, dim=1) * t.get("dictionary.multiplier", torch.zeros(())).exp()
    return t, decoder, t.get("b_dec.npy", torch.zeros(rows.shape[1]))


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    (t, W_dec, b_dec), made_by = _parts(checkpoint), checkpoint.made_by()
    W_enc, bias = (t[name] for name in ENCODER)
    W_enc = W_enc.T
    theta = t["thresholds"].exp() if "thresholds" in t else None
    tensors = (W_enc, bias + b_dec @ W_enc, W_dec, b_dec)
    return foreign.coder(checkpoint, options.over(made_by), tensors, made_by.k, theta)


def forward(checkpoint: Checkpoint, k: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    t, W_dec, b_dec = _parts(checkpoint)
    weight, bias = (t[name] for name in ENCODER)
    pre = x @ weight.T + bias
    if "thresholds" in t:
        z = pre.relu() * (pre > t["thresholds"].exp())
    else:
        values, places = pre.relu().topk(k, dim=1)
        z = torch.zeros_like(pre).scatter(1, places, values)
    return z, z @ W_dec + b_dec
