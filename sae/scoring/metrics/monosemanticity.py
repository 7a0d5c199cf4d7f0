"""The Monosemanticity Score (`_ms` has its definition), by the embeddings that the SAE was trained on.

`ms_mean`, `ms_median`: undefined scores count as 0; `..._alive`: over the latents that have one; `..._across_groups`:
pairs of images of one group do not count; `ms_floor`: what a latent with no preference scores.
"""

from sae.core.options import Options
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
SPLITS = ("val", "test")
READS = ()
ALONE = True


def score(subject: Subject, split: str, options: Options) -> Scores:
    """MS of one SAE."""
    floor = subject.once_for_all(
        ("ms_floor", split), lambda: _ms.floor(subject.embeddings(split))
    )
    found: Scores = {"ms_floor": floor}
    for suffix, across in (("", False), ("_across_groups", True)):
        if not across or subject.groups(split) is not None:
            summary = _ms.summary(_ms.of_subject(subject, split, across=across))
            found |= {
                f"ms_{name}{suffix}": value for name, value in summary._asdict().items()
            }
    return found
