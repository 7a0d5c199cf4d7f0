"""Count latents that fire on much of a split: they say little about an image.

`dense_1`, `dense_10`: the share of latents that fire on more than 1 % and 10 % of the
images. `dense_null`, `dense_10_null`: what they would be if all latents fired equally
often: 1 where k / m is above 1 % and 10 %, else 0.
"""

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the shares of one SAE's latents."""
    firing_share = subject.firing_counts(split) / len(subject.embeddings(split))
    even_share = subject.coder.k / subject.coder.m
    return {
        "dense_1": (firing_share > 0.01).mean(),
        "dense_10": (firing_share > 0.1).mean(),
        "dense_null": float(even_share > 0.01),
        "dense_10_null": float(even_share > 0.1),
    }
