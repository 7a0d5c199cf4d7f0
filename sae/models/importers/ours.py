"""This project's own files (`sae.models.saefile`), to be scored in another experiment as they are."""

from typing import Literal

import torch

from sae.core import files
from sae.core.errors import UserError
from sae.models import foreign, saefile
from sae.models.coder import Coder

SHAPES = {"W_enc": "dm", "b_enc": "m", "W_dec": "md", "b_dec": "d"}


class Settings(foreign.Stated):
    """Of the file's header, which says all that :class:`foreign.Stated` may leave open."""

    select: Literal["topk", "threshold"]
    k: foreign.Size
    input_norm: foreign.Norm
    input_scale: foreign.Scale


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether the file's header is that of this project."""
    return {"select", "input_norm", "input_scale", "seal"} <= checkpoint.config.keys()


def _parts(checkpoint: foreign.Checkpoint) -> tuple[Settings, foreign.Tensors]:
    c = checkpoint.settings(Settings)
    return c, checkpoint.take(SHAPES | ({"theta": "m"} if c.select == "threshold" else {}))


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The SAE; its seal is checked."""
    sealed = saefile.load(checkpoint.path)
    c, t = _parts(checkpoint)
    try:
        files.dumps(sealed.metadata)
    except ValueError:
        raise UserError(f"{checkpoint.path}: its header holds NaN or infinity") from None
    coder = foreign.coder(checkpoint, options.over(c), [t[name] for name in SHAPES], c.k, t.get("theta"))
    coder.metadata = sealed.metadata
    return coder


def forward(checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, from the tensors by the formula of `sae.models.coder`."""
    c, t = _parts(checkpoint)
    if c.input_norm == "unit_l2_layernorm":
        raise UserError(f"{checkpoint.path} is a file of this project: it needs no check, leave --check out")
    z = foreign.kept(((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu(), k, t.get("theta"))
    return z, z @ t["W_dec"] + t["b_dec"]
