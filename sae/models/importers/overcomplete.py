"""Overcomplete (MIT): the state dict of a TopKSAE, BatchTopKSAE or JumpSAE.

Its encoder must be linear. Overcomplete saves whole models by pickling; write
`model.state_dict()` instead. It has no b_dec: users subtract a mean themselves. Its
state dict does not say k (`--k`), nor BatchTopK's running threshold (which cannot be
imported without). The decoder rows are those of `get_dictionary()`: of unit norm, times
the exponential of `multiplier`.

This project's own exports have what is missing in files beside the state dict:
`made_by.json` and `b_dec.npy`.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sae.core import files
from sae.core.errors import UserError
from sae.models import checkpoints
from sae.models.coder import Coder

REQUIRED_AXES = {
    "encoder.final_block.0.weight": "md",
    "encoder.final_block.0.bias": "m",
    "dictionary._weights": "md",
}
OPTIONAL_AXES = {"dictionary.multiplier": "", "thresholds": "m", "b_dec.npy": "d"}


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether the tensors have Overcomplete's names."""
    return "dictionary._weights" in checkpoint.tensors


def _read_tensors(checkpoint: checkpoints.Checkpoint) -> checkpoints.CoderTensors:
    """Return the tensors of a checkpoint, whose encoder subtracts nothing."""
    other_layers = sorted(
        name
        for name in checkpoint.tensors
        if name.startswith("encoder.") and name not in REQUIRED_AXES
    )
    if other_layers:
        raise UserError(
            f"{checkpoint.path}: its encoder is not linear ({other_layers[0]}), and "
            "cannot be imported"
        )

    tensors = dict(checkpoint.tensors)
    b_dec_file = checkpoint.path.with_name("b_dec.npy")
    if b_dec_file.exists():
        b_dec_array = files.read_array(b_dec_file).astype(float)
        tensors["b_dec.npy"] = torch.tensor(b_dec_array.tolist())
    axes = dict(REQUIRED_AXES)
    for name, optional_axes in OPTIONAL_AXES.items():
        if name in tensors:
            axes[name] = optional_axes
    t = replace(checkpoint, tensors=tensors).take_tensors(axes)

    rows = t["dictionary._weights"]
    multiplier = t.get("dictionary.multiplier", torch.zeros(()))
    theta = None
    if "thresholds" in t:
        theta = t["thresholds"].exp()
    return checkpoints.CoderTensors(
        W_enc=t["encoder.final_block.0.weight"].T,
        b_enc=t["encoder.final_block.0.bias"],
        W_dec=functional.normalize(rows, dim=1) * multiplier.exp(),
        b_dec=t.get("b_dec.npy", torch.zeros(rows.shape[1])),
        theta=theta,
    )


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    made_by = checkpoint.read_made_by()
    tensors = _read_tensors(checkpoint).subtracting_b_dec()
    settings = options.completed_by(made_by)
    return checkpoints.make_coder(checkpoint, settings, tensors, made_by.k)


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    t = _read_tensors(checkpoint)
    codes = checkpoints.select_dense((x @ t.W_enc + t.b_enc).relu(), k, t.theta)
    return codes, codes @ t.W_dec + t.b_dec
