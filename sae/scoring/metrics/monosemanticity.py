"""Compute the Monosemanticity Score by the embeddings that the SAE was trained on.

`_ms` has its definition.

`ms_mean`, `ms_median`: undefined scores count as 0; `..._alive`: over the latents that
have one; `..._across_groups`: pairs of images of one group do not count; `ms_floor`:
what a latent with no preference scores.
"""

from sae.core.options import Options
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()


def score(subject: Subject, split: str, options: Options) -> Scores:
    """Return the MS of one SAE."""
    scores: Scores = {}
    scores["ms_floor"] = subject.once_for_all(
        ("ms_floor", split), lambda: _ms.floor(subject.embeddings(split))
    )
    ms = _ms.subject_scores(subject, split)
    for name, value in _ms.summary(ms)._asdict().items():
        scores[f"ms_{name}"] = value
    if subject.groups(split) is not None:
        across = _ms.subject_scores(subject, split, across=True)
        for name, value in _ms.summary(across)._asdict().items():
            scores[f"ms_{name}_across_groups"] = value
    return scores
