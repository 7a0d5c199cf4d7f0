"""This project's own files (`sae.models.saefile`), to be scored in another experiment as they are."""

import torch

from sae.core.errors import UserError
from sae.models import saefile
from sae.models.coder import Coder, TopK
from sae.models.convert import Options
from sae.models.foreign import Checkpoint, Space


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the file's header is that of this project."""
    return {"select", "input_norm", "input_scale", "seal"} <= checkpoint.config.keys()


def read(checkpoint: Checkpoint, options: Options) -> Coder:
    """The SAE; its seal is checked."""
    coder = saefile.load(checkpoint.path)
    space = options.space(Space(coder.input_norm, coder.input_scale), checkpoint)
    coder.input_norm, coder.input_scale = space.norm, space.scale
    if options.k is not None:
        if options.k > coder.m:
            raise UserError(f"{checkpoint.path}: k = {options.k} is not between 1 and the {coder.m} latents")
        coder.k = options.k  # Of thresholds the budget, which selects nothing.
        coder.select = TopK(options.k) if isinstance(coder.select, TopK) else coder.select
    return coder


def forward(checkpoint: Checkpoint, options: Options, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, from the tensors by the formula of `sae.models.coder`."""
    t, c = checkpoint.tensors, checkpoint.config
    if c["input_norm"] == "unit_l2_layernorm":
        raise UserError(f"{checkpoint.path} is a file of this project: it needs no check, leave --check out")
    a = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    if c["select"] == "topk":
        values, places = a.topk(options.k or c["k"], dim=1)
        z = torch.zeros_like(a).scatter(1, places, values)
    else:
        z = a * (a > t["theta"].clamp_min(0))
    return z, z @ t["W_dec"] + t["b_dec"]
