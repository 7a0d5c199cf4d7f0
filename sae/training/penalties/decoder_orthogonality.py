"""Decoder orthogonality: latents whose decoder rows point the same way are penalised.

Source: OrtSAE, arXiv:2509.22033. Written from descriptions of the paper, which put its
weight on BatchTopK at about 0.25; its equation was not at hand (docs/protocol.md).

Each step parts the latents at random into chunks. For each latent the penalty takes the
square of its highest cosine with another latent of its chunk, and the mean of that over
all latents, which is one value for all samples. Chunks keep the cost linear in m. The
cosine is signed: rows that point opposite ways cost nothing.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sae.core.options import Options as Base
from sae.training.step import Batch

VERSION = 1


class Options(Base):
    """The options of decoder orthogonality."""

    chunk: int = Field(1024, ge=2)
    """Latents in a chunk; all in one where m is smaller."""


def penalty(batch: Batch) -> Float[Tensor, " batch"]:
    """Compute the mean over latents of the square of their highest cosine in a chunk.

    Returns:
        One value a sample, all equal.
    """
    unit_rows = functional.normalize(batch.coder.W_dec, dim=1)
    # Drawn on the CPU, so that the chunks are the same for every device.
    generator = torch.Generator().manual_seed(batch.step)
    order = torch.randperm(len(unit_rows), generator=generator).to(unit_rows.device)

    chunks = order.split(batch.options.chunk)  # type: ignore[attr-defined]
    # A last chunk of one latent has no other to compare it with.
    highest_cosines = [
        _highest_cosines(unit_rows[latents]) for latents in chunks if len(latents) > 1
    ]
    mean_square = torch.cat(highest_cosines).square().mean()
    return mean_square.expand(len(batch.a))


def _highest_cosines(
    unit_rows: Float[Tensor, "latents dims"],
) -> Float[Tensor, " latents"]:
    cosines = unit_rows @ unit_rows.T
    is_itself = torch.eye(len(unit_rows), dtype=torch.bool, device=unit_rows.device)
    return cosines.masked_fill(is_itself, -torch.inf).amax(dim=1)
