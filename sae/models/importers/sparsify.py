"""eai-sparsify (MIT): a folder with `sae.safetensors` and `cfg.json`; Top-k SAEs alone."""

from typing import Annotated, Literal

import torch
from pydantic import Field

from sae.models import foreign
from sae.models.coder import Coder

SHAPES = {"encoder.weight": "md", "encoder.bias": "m", "W_dec": "md", "b_dec": "d"}


class Settings(foreign.Settings):
    """Of cfg.json; where `num_latents` is 0, there are d_in * expansion_factor latents."""

    activation: Literal["topk"] = "topk"
    d_in: foreign.Size | None = None
    num_latents: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    expansion_factor: foreign.Size | None = None
    k: foreign.Size | None = None
    transcode: Literal[False] = False
    skip_connection: Literal[False] = False


def fits(checkpoint: foreign.Checkpoint) -> bool:
    """Whether the tensors have eai-sparsify's names."""
    return SHAPES.keys() <= checkpoint.tensors.keys()


def read(checkpoint: foreign.Checkpoint, options: foreign.Options) -> Coder:
    """The same SAE as a coder."""
    c = checkpoint.settings(Settings)
    product = foreign.times(c.d_in, c.expansion_factor)
    m = (
        {"num_latents": c.num_latents}
        if c.num_latents
        else {"d_in * expansion_factor": product}
    )
    encoder, b_enc, W_dec, b_dec = checkpoint.take(SHAPES, {"d_in": c.d_in}, m).values()
    return foreign.coder(
        checkpoint,
        options.over(checkpoint.made_by()),
        (encoder.T, b_enc, W_dec, b_dec),
        c.k,
    )


def forward(
    checkpoint: foreign.Checkpoint, k: int, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and reconstruction, in the library's own steps."""
    t = checkpoint.tensors
    pre = torch.nn.functional.linear(
        x - t["b_dec"], t["encoder.weight"], t["encoder.bias"]
    ).relu()
    z = foreign.kept(pre, k, None)
    return z, z @ t["W_dec"] + t["b_dec"]
