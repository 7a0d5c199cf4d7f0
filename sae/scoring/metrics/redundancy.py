"""Look for latents of one direction: each decoder row's highest cosine with another.

`redundancy_mean`, `redundancy_max`: over the latents; `redundancy_null`,
`redundancy_max_null`: these for random directions, as an SAE has them before training.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("test",)
READS = ()
ALONE = True
# Rows that are compared with all others at once.
_PART = 4096


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the highest cosines of one SAE's decoder."""
    decoder = subject.coder.W_dec.detach()
    shape = tuple(decoder.shape)
    cosines = highest_cosines(decoder)
    null_cosines = subject.once_for_all(
        ("redundancy", shape), lambda: _null(shape, decoder.device)
    )
    return {
        "redundancy_mean": cosines.mean().item(),
        "redundancy_max": cosines.max().item(),
        "redundancy_null": null_cosines.mean().item(),
        "redundancy_max_null": null_cosines.max().item(),
    }


def _null(shape: tuple[int, ...], device: torch.device) -> Float[Tensor, " latents"]:
    """Return the highest cosines of random directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(shape, generator=generator)
    return highest_cosines(directions.to(device))


def highest_cosines(
    decoder: Float[Tensor, "latents dim"],
) -> Float[Tensor, " latents"]:
    """Return the highest cosine of each row with another row.

    Args:
        decoder: two rows or more; a row of zeros has cosine 0.
    """
    rows = functional.normalize(decoder, dim=1)
    highest = []
    for start in range(0, len(rows), _PART):
        cosine = rows[start : start + _PART] @ rows.T
        # Not with the row itself.
        cosine[:, start : start + _PART].fill_diagonal_(-torch.inf)
        highest.append(cosine.amax(dim=1))
    return torch.cat(highest)
