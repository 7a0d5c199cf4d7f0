"""Latents of one direction: the highest cosine of each decoder row with another one.

`redundancy_mean`, `redundancy_max`: over the latents; `redundancy_null`, `redundancy_max_null`: these for random
directions, as an SAE has them before training.
"""

import torch
from torch.nn import functional

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("test",)
READS = ()
ALONE = True
_PART = 4096  # rows compared at once


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Cosines of one SAE's decoder."""
    decoder = subject.coder.W_dec.detach()
    shape = tuple(decoder.shape)

    def null() -> torch.Tensor:
        return highest_cosines(
            torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(
                decoder.device
            )
        )

    found, random = (
        highest_cosines(decoder),
        subject.once_for_all(("redundancy", shape), null),
    )
    return {
        "redundancy_mean": found.mean().item(),
        "redundancy_max": found.max().item(),
        "redundancy_null": random.mean().item(),
        "redundancy_max_null": random.max().item(),
    }


def highest_cosines(decoder: torch.Tensor) -> torch.Tensor:
    """(m,) of each row of (m, d), m >= 2, the highest cosine with another row; a row of zeros has cosine 0."""
    rows, found = functional.normalize(decoder, dim=1), []
    for start in range(0, len(rows), _PART):
        cosine = rows[start : start + _PART] @ rows.T
        cosine[:, start : start + _PART].fill_diagonal_(-torch.inf)
        found.append(cosine.amax(dim=1))
    return torch.cat(found)
