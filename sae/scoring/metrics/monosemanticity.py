"""The Monosemanticity Score (`_ms` has its definition), by the embeddings that the SAE was trained on.

`ms_mean`, `ms_median`: undefined scores count as 0; `..._alive`: over the latents that have one; `..._across_groups`:
pairs of images of one group do not count; `ms_floor`: what a latent with no preference scores.
"""

from dataclasses import asdict

from sae.core.options import Options
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()


def score(subject: Subject, split: str, options: Options) -> Scores:
    """MS of one SAE."""
    embeddings, groups = subject.embeddings(split), subject.groups(split)
    found = {"ms_floor": subject.once_for_all(("ms_floor", split), lambda: _ms.floor(embeddings))}
    found |= _named(_ms.summary(_ms.of_subject(subject, split)), "")
    if groups is not None:
        across = _ms.scores(_ms.scaled_of(subject, split), embeddings, groups)
        found |= _named(_ms.summary(across), "_across_groups")
    return found


def _named(summary: _ms.Summary, suffix: str) -> Scores:
    return {f"ms_{name}{suffix}": value for name, value in asdict(summary).items()}
