"""eai-sparsify (MIT): `sae.safetensors` and `cfg.json`; Top-k alone, on inputs of `sae.Coder.prepare`."""

from pathlib import Path
from typing import Any

from safetensors.torch import save

from sae.core import files
from sae.models.coder import Coder
from sae.models.exporters._check import check


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `sae.safetensors` and `cfg.json`.

    Raises:
        UserError: the SAE has thresholds, or the input space has a LayerNorm.
    """
    check(coder, "eai-sparsify", thresholds=False)
    W_enc, b_enc, W_dec, b_dec = coder.tensors().values()
    tensors = {
        "encoder.weight": W_enc.T.contiguous(),
        "encoder.bias": b_enc,
        "W_dec": W_dec,
        "b_dec": b_dec,
    }
    (folder / "sae.safetensors").write_bytes(
        save(tensors)
    )  # `save_file` would close the file to others.
    config = {
        "activation": "topk",
        "num_latents": coder.m,
        "k": coder.k,
        "d_in": coder.d,
        "transcode": False,
    }
    config |= {
        "expansion_factor": coder.m // coder.d,
        "normalize_decoder": True,
        "multi_topk": False,
    }
    files.write_text(
        folder / "cfg.json", files.dumps(config | {"skip_connection": False}) + "\n"
    )
    space = {"input_norm": coder.input_norm, "input_scale": coder.input_scale}
    files.write_text(folder / "made_by.json", files.dumps(about | space) + "\n")
