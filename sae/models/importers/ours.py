"""This project's own files (`sae.models.saefile`), to be scored in another experiment as they are."""

import torch

from sae.core.errors import UserError
from sae.models import foreign, saefile
from sae.models.coder import Coder


class Settings(foreign.Stated):
    """Of the file's header, which says all that :class:`foreign.Stated` may leave open."""

    k: foreign.Size
    input_norm: foreign.Norm
    input_scale: foreign.Scale


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether the file's header is that of this project."""
    return {"select", "input_norm", "input_scale", "seal"} <= checkpoint.config.keys()


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The SAE; its seal is checked."""
    c = checkpoint.settings(Settings)
    sealed = saefile.load(checkpoint.path)
    t = sealed.tensors()
    coder = foreign.coder(
        checkpoint,
        options.over(c),
        [t[name] for name in saefile.TENSORS],
        c.k,
        t.get("theta"),
    )
    coder.metadata = sealed.metadata
    return coder


def forward(
    checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, from the tensors by the formula of `sae.models.coder`."""
    sealed = saefile.load(checkpoint.path)
    if sealed.input_norm == "unit_l2_layernorm":
        raise UserError(
            f"{checkpoint.path} is a file of this project: it needs no check, leave --check out"
        )
    t = sealed.tensors()
    z = foreign.kept(
        ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu(), k, t.get("theta")
    )
    return z, z @ t["W_dec"] + t["b_dec"]
