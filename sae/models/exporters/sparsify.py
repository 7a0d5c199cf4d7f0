"""eai-sparsify (MIT): `sae.safetensors` and `cfg.json`.

It holds Top-k SAEs alone, on inputs of `Coder.prepare`.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save

from sae.core import files
from sae.models.coder import Coder
from sae.models.exporters._check import check_exportable


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `sae.safetensors`, `cfg.json` and `made_by.json`.

    Raises:
        UserError: the SAE has thresholds, or the input space has a LayerNorm.
    """
    check_exportable(coder, "eai-sparsify", thresholds=False)
    tensors = coder.tensors()
    their_tensors = {
        "encoder.weight": tensors["W_enc"].T.contiguous(),
        "encoder.bias": tensors["b_enc"],
        "W_dec": tensors["W_dec"],
        "b_dec": tensors["b_dec"],
    }
    # Not by `save_file`, which would close the file to others.
    (folder / "sae.safetensors").write_bytes(save(their_tensors))

    config = {
        "activation": "topk",
        "num_latents": coder.m,
        "k": coder.k,
        "d_in": coder.d,
        "transcode": False,
        "expansion_factor": coder.m // coder.d,
        "normalize_decoder": True,
        "multi_topk": False,
        "skip_connection": False,
    }
    files.write_text(folder / "cfg.json", files.dumps(config) + "\n")
    made_by = about | {
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
    }
    files.write_text(folder / "made_by.json", files.dumps(made_by) + "\n")
