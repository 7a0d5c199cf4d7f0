"""Overcomplete (MIT): the state dict of a TopKSAE, BatchTopKSAE or JumpSAE.

Its encoder must be linear. Overcomplete saves whole models by pickling; write
`model.state_dict()` instead. It has no b_dec: users subtract a mean themselves. Its
state dict does not say k (`--k`), nor BatchTopK's running threshold (which cannot be
imported without). The decoder rows are those of `get_dictionary()`: of unit norm, times
the exponential of `multiplier`.

This project's own exports have what is missing in files beside the state dict:
`made_by.json` and `b_dec.npy`.
"""

from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class OvercompleteSae:
    """The tensors of a checkpoint, checked.

    Attributes:
        encoder_weight: (m, d).
        encoder_bias: (m,), for inputs from which nothing is subtracted.
        W_dec: (m, d) the dictionary.
        b_dec: (d,) what users add to its reconstructions; 0 where no file has it.
        theta: (m,) the thresholds; None for a Top-k SAE.
    """

    encoder_weight: Float[Tensor, "m d"]
    encoder_bias: Float[Tensor, " m"]
    W_dec: Float[Tensor, "m d"]
    b_dec: Float[Tensor, " d"]
    theta: Float[Tensor, " m"] | None


def fits(checkpoint: checkpoints.Checkpoint) -> bool:
    """Return whether the tensors have Overcomplete's names."""
    return "dictionary._weights" in checkpoint.tensors


def _read_sae(checkpoint: checkpoints.Checkpoint) -> OvercompleteSae:
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
    return OvercompleteSae(
        encoder_weight=t["encoder.final_block.0.weight"],
        encoder_bias=t["encoder.final_block.0.bias"],
        W_dec=functional.normalize(rows, dim=1) * multiplier.exp(),
        b_dec=t.get("b_dec.npy", torch.zeros(rows.shape[1])),
        theta=theta,
    )


def read(checkpoint: checkpoints.Checkpoint, options: checkpoints.Options) -> Coder:
    """Return the SAE of a checkpoint as a coder."""
    sae = _read_sae(checkpoint)
    made_by = checkpoint.read_made_by()
    tensors = checkpoints.CoderTensors(
        W_enc=sae.encoder_weight.T,
        # A coder subtracts b_dec from its inputs.
        b_enc=sae.encoder_bias + sae.b_dec @ sae.encoder_weight.T,
        W_dec=sae.W_dec,
        b_dec=sae.b_dec,
        theta=sae.theta,
    )
    settings = options.completed_by(made_by)
    return checkpoints.make_coder(checkpoint, settings, tensors, made_by.k)


def forward(
    checkpoint: checkpoints.Checkpoint, k: int, x: Float[Tensor, "samples d"]
) -> tuple[Float[Tensor, "samples m"], Float[Tensor, "samples d"]]:
    """Return codes and reconstructions, by the library's own steps."""
    sae = _read_sae(checkpoint)
    activations = (x @ sae.encoder_weight.T + sae.encoder_bias).relu()
    codes = checkpoints.select_dense(activations, k, sae.theta)
    return codes, codes @ sae.W_dec + sae.b_dec
