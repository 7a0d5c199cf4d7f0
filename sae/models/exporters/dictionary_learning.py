"""dictionary_learning (MIT): `ae.pt` and `config.json`; Top-k and BatchTopK alone, on inputs of `sae.Coder.prepare`."""

from pathlib import Path
from typing import Any

import torch

from sae.core import files
from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `ae.pt`, a state dict, and `config.json`.

    Raises:
        UserError: thresholds differ between latents, or the input space has a LayerNorm.
    """
    if coder.input_norm == "unit_l2_layernorm":
        raise UserError(
            "dictionary_learning has no LayerNorm: an SAE with input_norm unit_l2_layernorm cannot be exported"
        )
    threshold, name = torch.tensor(-1.0), "AutoEncoderTopK"
    if isinstance(coder.select, Threshold):
        theta = coder.select.theta.clamp_min(0).unique()
        if len(theta) != 1:
            raise UserError(
                "dictionary_learning's BatchTopK has one threshold for all latents: export to saelens instead"
            )
        threshold, name = theta[0], "BatchTopKSAE"
    tensors = {
        "encoder.weight": coder.encoder_weight().T,
        "encoder.bias": coder.b_enc,
        "decoder.weight": coder.W_dec.T,
        "b_dec": coder.b_dec,
        "k": torch.tensor(coder.k, dtype=torch.int32),
        "threshold": threshold.float(),
    }
    torch.save({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / "ae.pt")
    trainer = {"dict_class": name, "k": coder.k, "activation_dim": coder.d, "dict_size": coder.m}
    space = {"input_norm": coder.input_norm, "input_scale": coder.input_scale}
    files.write_text(folder / "config.json", files.dumps({"trainer": trainer, "made_by": about | space}) + "\n")
