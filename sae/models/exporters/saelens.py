"""SAELens 6 (MIT): `SAE.load_from_disk(folder)` reads it.

A Top-k SAE becomes `topk`, one with thresholds `jumprelu`. With `input_norm` unit_l2 the SAE takes raw embeddings and
gives raw reconstructions (`constant_norm_rescale`); its codes are then sqrt(d) / input_scale times ours. Else its
inputs are those of `sae.Coder.prepare`; `metadata` in cfg.json says which.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save

from sae.core import files
from sae.models.coder import Coder
from sae.models.exporters._check import check


def write(coder: Coder, folder: Path, about: dict[str, Any]) -> None:
    """Write `sae_weights.safetensors` and `cfg.json`.

    Raises:
        UserError: the input space has a LayerNorm, which SAELens takes by another formula.
    """
    check(coder, "SAELens", thresholds=True)
    raw = coder.input_norm == "unit_l2"
    factor = coder.d**0.5 / coder.input_scale if raw else 1.0
    tensors = coder.tensors()
    tensors |= {name: tensors[name] * factor for name in ("b_enc", "b_dec")}
    config: dict[str, Any] = {"architecture": "topk", "k": coder.k}
    if "theta" in tensors:
        config = {"architecture": "jumprelu"}
        tensors["threshold"] = tensors.pop("theta").clamp_min(0) * factor
    config |= {
        "d_in": coder.d,
        "d_sae": coder.m,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "constant_norm_rescale" if raw else "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
    }
    # Without a version from 6 on the library drops what else is here.
    known: dict[str, Any] = {
        "sae_lens_version": "6.0.0",
        "sae_lens_training_version": None,
    }
    known |= {
        "input_norm": coder.input_norm,
        "input_scale": coder.input_scale,
        "k": coder.k,
        "made_by": about,
    }
    (folder / "sae_weights.safetensors").write_bytes(
        save(tensors)
    )  # `save_file` would close the file to others.
    files.write_text(
        folder / "cfg.json", files.dumps(config | {"metadata": known}) + "\n"
    )
