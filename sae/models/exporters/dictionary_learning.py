"""dictionary_learning (MIT): `ae.pt` and `config.json`.

It holds Top-k and BatchTopK SAEs alone, on inputs of `Coder.prepare`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae.core import files
from sae.core.errors import UserError
from sae.models.coder import Coder
from sae.models.exporters._check import check_exportable


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `ae.pt`, a state dict, and `config.json`.

    Raises:
        UserError: thresholds differ between latents, or the input space has a
            LayerNorm.
    """
    check_exportable(coder, "dictionary_learning", thresholds=True)
    tensors = coder.tensors()
    if "theta" in tensors:
        class_name = "BatchTopKSAE"
        threshold = _common_threshold(tensors["theta"])
    else:
        # The library reads a threshold below 0 as none.
        class_name = "AutoEncoderTopK"
        threshold = torch.tensor(-1.0)

    state_dict = {
        "encoder.weight": tensors["W_enc"].T.contiguous(),
        "encoder.bias": tensors["b_enc"],
        "decoder.weight": tensors["W_dec"].T.contiguous(),
        "b_dec": tensors["b_dec"],
        "k": torch.tensor(coder.k, dtype=torch.int32),
        "threshold": threshold,
    }
    torch.save(state_dict, folder / "ae.pt")

    trainer = {
        "dict_class": class_name,
        "k": coder.k,
        "activation_dim": coder.d,
        "dict_size": coder.m,
    }
    made_by = about | {
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
    }
    config = {"trainer": trainer, "made_by": made_by}
    files.write_text(folder / "config.json", files.dumps(config) + "\n")


def _common_threshold(theta: Tensor) -> Tensor:
    distinct = theta.clamp_min(0).unique()
    if len(distinct) != 1:
        raise UserError(
            "dictionary_learning's BatchTopK has one threshold for all latents: export "
            "to saelens"
        )
    return distinct[0].clone()
