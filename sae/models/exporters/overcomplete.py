"""Overcomplete (MIT): `state_dict.pt` of a TopKSAE, and how to load it.

The model is `TopKSAE(d, m, top_k=k, encoder_module="linear")`. It has no b_dec: add
`b_dec.npy` to its reconstructions. Decoder rows must have unit norm, as this project's
do.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae.core import files
from sae.core.errors import UserError
from sae.models.coder import Coder
from sae.models.exporters._check import check_exportable

_LOAD_SCRIPT = """\
from overcomplete.sae import TopKSAE
import numpy, torch

model = TopKSAE({d}, {m}, top_k={k}, encoder_module="linear")
model.load_state_dict(torch.load("state_dict.pt", weights_only=True))
model.eval()
# x: embeddings normalised and scaled as `sae.Coder.prepare` does \
(input_norm {norm}, input_scale {scale!r})
_, codes = model.encode(x)
reconstruction = model.decode(codes) + torch.from_numpy(numpy.load("b_dec.npy"))
"""


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `state_dict.pt`, `b_dec.npy`, `load.py`, and `made_by.json`.

    The last states k and the input space.

    Raises:
        UserError: the SAE has thresholds, a LayerNorm, or decoder rows of another norm
            than 1.
    """
    check_exportable(coder, "Overcomplete", thresholds=False)
    norms = coder.W_dec.norm(dim=1)
    if not torch.allclose(norms, torch.ones_like(norms), atol=1e-4):
        raise UserError(
            "Overcomplete's decoder rows have norm 1, and this SAE's have not: export "
            "it to saelens"
        )

    tensors = {
        "encoder.final_block.0.weight": coder.W_enc.T,
        "encoder.final_block.0.bias": coder.b_enc - coder.b_dec @ coder.W_enc,
        "dictionary._weights": coder.W_dec,
        "dictionary.multiplier": torch.zeros(()),
    }
    state_dict = {
        name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()
    }
    torch.save(state_dict, folder / "state_dict.pt")
    np.save(folder / "b_dec.npy", coder.b_dec.detach().numpy())

    load_script = _LOAD_SCRIPT.format(
        d=coder.d,
        m=coder.m,
        k=coder.k,
        norm=coder.input_norm,
        scale=coder.input_scale,
    )
    files.write_text(folder / "load.py", load_script)
    made_by = about | {
        "k": coder.k,
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
    }
    files.write_text(folder / "made_by.json", files.dumps(made_by) + "\n")
