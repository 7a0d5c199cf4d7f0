"""eai-sparsify (MIT): a folder with `sae.safetensors` and `cfg.json`; Top-k SAEs alone."""

import torch

from sae.core.errors import UserError
from sae.models import foreign
from sae.models.coder import Coder, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the tensors have eai-sparsify's names."""
    return {"encoder.weight", "encoder.bias", "W_dec", "b_dec"} <= checkpoint.tensors.keys()


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The same SAE as a coder."""
    c, where = checkpoint.config, checkpoint.path
    foreign.one_of(c.get("activation", "topk"), ("topk",), f"{where}: activation")
    for switch in ("transcode", "skip_connection"):
        foreign.one_of(bool(c.get(switch)), (False,), f"{where}: {switch}")
    encoder, b_enc, W_dec, b_dec = checkpoint.take("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    k = _k(checkpoint, options)
    return foreign.coder(encoder.T, b_enc, W_dec, b_dec, TopK(k), k, options.space(Space(), checkpoint))


def _k(checkpoint: Checkpoint, options: Options) -> int:
    k = options.k or checkpoint.config.get("k")
    if not isinstance(k, int):
        raise UserError(f"{checkpoint.path}: cfg.json has no k; give one (--k)")
    return k


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    t = checkpoint.tensors
    pre = torch.nn.functional.linear(x - t["b_dec"], t["encoder.weight"], t["encoder.bias"]).relu()
    values, places = pre.topk(_k(checkpoint, options), dim=1)
    z = torch.zeros_like(pre).scatter(1, places, values)
    return z, z @ t["W_dec"] + t["b_dec"]
