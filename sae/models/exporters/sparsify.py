"""eai-sparsify (MIT): `sae.safetensors` and `cfg.json`; Top-k alone, on inputs of `sae.Coder.prepare`."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sae.core import files
from sae.core.errors import UserError
from sae.models.coder import Coder, Threshold


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `sae.safetensors` and `cfg.json`.

    Raises:
        UserError: the SAE has thresholds, or the input space has a LayerNorm.
    """
    if isinstance(coder.select, Threshold):
        raise UserError("eai-sparsify has Top-k SAEs alone: export one with thresholds to saelens")
    if coder.input_norm == "unit_l2_layernorm":
        raise UserError("eai-sparsify has no LayerNorm: an SAE with input_norm unit_l2_layernorm cannot be exported")
    tensors = {
        "encoder.weight": coder.encoder_weight().T,
        "encoder.bias": coder.b_enc,
        "W_dec": coder.W_dec,
        "b_dec": coder.b_dec,
    }
    save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / "sae.safetensors")
    config = {"activation": "topk", "num_latents": coder.m, "k": coder.k, "d_in": coder.d, "transcode": False}
    config |= {"expansion_factor": coder.m // coder.d, "normalize_decoder": True, "multi_topk": False}
    files.write_text(folder / "cfg.json", files.dumps(config | {"skip_connection": False}) + "\n")
    space = {"input_norm": coder.input_norm, "input_scale": coder.input_scale}
    files.write_text(folder / "made_by.json", files.dumps(about | space) + "\n")
