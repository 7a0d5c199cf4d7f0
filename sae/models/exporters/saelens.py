"""SAELens 6 (MIT): `SAE.load_from_disk(folder)` reads it.

A Top-k SAE becomes `topk`, one with thresholds `jumprelu`. With `input_norm` unit_l2
the SAE takes raw embeddings and gives raw reconstructions (`constant_norm_rescale`);
its codes are then sqrt(d) / input_scale times ours. Else its inputs are those of
`Coder.prepare`; `metadata` in cfg.json says which.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save

from sae.core import files
from sae.models.coder import Coder
from sae.models.exporters._check import check_exportable


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `sae_weights.safetensors` and `cfg.json`.

    Raises:
        UserError: the input space has a LayerNorm, which SAELens takes by another
            formula.
    """
    check_exportable(coder, "SAELens", thresholds=True)
    takes_raw = coder.input_norm == "unit_l2"
    # SAELens scales raw embeddings to length sqrt(d), and this project to input_scale.
    factor = coder.d**0.5 / coder.input_scale if takes_raw else 1.0
    tensors = coder.tensors()
    tensors["b_enc"] = tensors["b_enc"] * factor
    tensors["b_dec"] = tensors["b_dec"] * factor

    config: dict[str, Any]
    if "theta" in tensors:
        config = {"architecture": "jumprelu"}
        tensors["threshold"] = tensors.pop("theta").clamp_min(0) * factor
    else:
        config = {"architecture": "topk", "k": coder.k}
    config["d_in"] = coder.d
    config["d_sae"] = coder.m
    config["dtype"] = "float32"
    config["device"] = "cpu"
    config["apply_b_dec_to_input"] = True
    config["normalize_activations"] = "constant_norm_rescale" if takes_raw else "none"
    config["reshape_activations"] = "none"
    config["rescale_acts_by_decoder_norm"] = False
    config["metadata"] = {
        # Without a version from 6 on the library drops what else is here.
        "sae_lens_version": "6.0.0",
        "sae_lens_training_version": None,
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
        "k": coder.k,
        "made_by": about,
    }

    # Not by `save_file`, which would close the file to others.
    (folder / "sae_weights.safetensors").write_bytes(save(tensors))
    files.write_text(folder / "cfg.json", files.dumps(config) + "\n")
