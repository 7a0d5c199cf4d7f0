"""Decoder orthogonality (OrtSAE, arXiv:2509.22033): latents whose decoder rows point the same way are penalised.

Each step parts the latents at random into chunks. For each latent the penalty takes the square of its highest cosine
with another latent of its chunk, and the mean of that over all latents, the same for each sample. Chunks keep the cost
linear in m. The cosine is signed: rows that point opposite ways cost nothing. Written from descriptions of the paper,
which put its weight on BatchTopK at about 0.25; its equation was not at hand (docs/protocol.md).
"""

import torch
from pydantic import Field

from sae.core.options import Options as Base
from sae.training.step import Batch

VERSION = 1


class Options(Base):
    """Of this penalty."""

    chunk: int = Field(1024, ge=2)
    """Latents in a chunk; all in one where m is smaller."""


def penalty(batch: Batch) -> torch.Tensor:
    """Mean over latents of the square of their highest cosine within a chunk: (N,), all equal."""
    rows = torch.nn.functional.normalize(batch.coder.W_dec, dim=1)
    order = torch.randperm(
        len(rows), generator=torch.Generator().manual_seed(batch.step)
    ).to(rows.device)
    highest = [
        _highest(rows[part])
        for part in order.split(batch.options.chunk)  # type: ignore[attr-defined]
        if len(part) > 1
    ]
    return torch.cat(highest).square().mean().expand(len(batch.a))


def _highest(rows: torch.Tensor) -> torch.Tensor:
    cosine = rows @ rows.T
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return cosine.masked_fill(itself, -torch.inf).amax(dim=1)
