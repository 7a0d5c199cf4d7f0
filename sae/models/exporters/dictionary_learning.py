"""dictionary_learning (MIT): `ae.pt` and `config.json`; Top-k and BatchTopK alone, on inputs of `sae.Coder.prepare`."""

from pathlib import Path
from typing import Any

import torch

from sae.core import files
from sae.core.errors import UserError
from sae.models.coder import Coder
from sae.models.exporters._check import check


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `ae.pt`, a state dict, and `config.json`.

    Raises:
        UserError: thresholds differ between latents, or the input space has a LayerNorm.
    """
    check(coder, "dictionary_learning", thresholds=True)
    W_enc, b_enc, W_dec, b_dec, *theta = coder.tensors().values()
    threshold, name = torch.tensor([-1.0]), "AutoEncoderTopK"
    if theta:
        threshold, name = theta[0].clamp_min(0).unique(), "BatchTopKSAE"
        if len(threshold) != 1:
            raise UserError(
                "dictionary_learning's BatchTopK has one threshold for all latents: export to saelens"
            )
    tensors = {
        "encoder.weight": W_enc.T.contiguous(),
        "encoder.bias": b_enc,
        "decoder.weight": W_dec.T.contiguous(),
    }
    tensors |= {
        "b_dec": b_dec,
        "k": torch.tensor(coder.k, dtype=torch.int32),
        "threshold": threshold[0].clone(),
    }
    torch.save(tensors, folder / "ae.pt")
    trainer = {
        "dict_class": name,
        "k": coder.k,
        "activation_dim": coder.d,
        "dict_size": coder.m,
    }
    space = {"input_norm": coder.input_norm, "input_scale": coder.input_scale}
    files.write_text(
        folder / "config.json",
        files.dumps({"trainer": trainer, "made_by": about | space}) + "\n",
    )
