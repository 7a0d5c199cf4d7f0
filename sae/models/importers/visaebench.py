"""ViSAEBench's GenericSAE: a folder with `config.json` and `sae.pt` or `model.safetensors`.

Its encoder does not subtract the decoder's bias, and its BatchTopK keeps what *reaches* the threshold. Mean and
deviation of the inputs lie outside the file: embeddings have to be standardised before.
"""

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder, Threshold, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space

ACTIVATIONS = ("topk", "batchtopk", "jumprelu")


def fits(checkpoint: Checkpoint) -> bool:
    """Whether settings and tensors have ViSAEBench's names."""
    own = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"} <= checkpoint.tensors.keys()
    return own and "activation" in checkpoint.config


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    c = checkpoint.config
    foreign.one_of(c.get("activation"), ACTIVATIONS, f"{checkpoint.path}: activation")
    encoder, b_enc, W_dec, b_dec = checkpoint.take("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
    b_enc, space = b_enc + b_dec @ encoder.T, options.space(Space(), checkpoint)
    k = options.k or c.get("k")
    if c["activation"] == "topk":
        if not isinstance(k, int):
            raise UserError(f"{checkpoint.path}: config.json has no k; give one (--k)")
        return foreign.coder(encoder.T, b_enc, W_dec, b_dec, TopK(k), k, space)
    theta = torch.zeros_like(b_enc) + _threshold(checkpoint)
    if c["activation"] == "batchtopk":  # The next smaller float: ours keeps what is above it.
        theta = torch.nextafter(theta, torch.full_like(theta, -torch.inf))
    return foreign.coder(encoder.T, b_enc, W_dec, b_dec, Threshold(theta), k if isinstance(k, int) else 1, space)


def _threshold(checkpoint: Checkpoint) -> torch.Tensor:
    found = checkpoint.tensors.get("threshold", checkpoint.config.get("threshold"))
    if found is None:
        raise UserError(f"{checkpoint.path}: there is no threshold, in the tensors or in config.json")
    return torch.as_tensor(found, dtype=torch.float32)


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    t, c = checkpoint.tensors, checkpoint.config
    pre = (x @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    if c["activation"] == "topk":
        values, places = pre.topk(options.k or c["k"], dim=1)
        z = torch.zeros_like(pre).scatter(1, places, values)
    else:
        theta = _threshold(checkpoint)
        z = pre * ((pre >= theta) if c["activation"] == "batchtopk" else (pre > theta))
    return z, z @ t["decoder.weight"] + t["decoder.bias"]
