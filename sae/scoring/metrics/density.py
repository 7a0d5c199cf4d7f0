"""Latents that fire on much of a split: they say little about an image.

`dense_1`, `dense_10`: the share of latents that fire on more than 1 % and 10 % of the images. `dense_null`,
`dense_10_null`: what they would be if all latents fired equally often: 1 where k / m is above 1 % and 10 %, else 0.
"""

from sae.core.options import Options
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()
ALONE = True


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Shares of one SAE's latents."""
    often = subject.firing_counts(split) / len(subject.embeddings(split))
    even = subject.coder.k / subject.coder.m
    nulls = {"dense_null": float(even > 0.01), "dense_10_null": float(even > 0.1)}
    return {"dense_1": (often > 0.01).mean(), "dense_10": (often > 0.1).mean()} | nulls
