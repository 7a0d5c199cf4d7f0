"""Monosemanticity by the embeddings of other backbones, which took no part in training.

`ms_mean_alive_by_{backbone}` for each other backbone of the experiment, and each of its judges;
`ms_mean_alive_independent`, the mean over those of another family. Sizes of one architecture, trained alike on the same
images, are no independent judges.
`ms_mean_alive_independent_across_groups`: the same without pairs of images of one group, where the dataset has groups.
"""

import numpy as np

from sae.core.options import Options as Base
from sae.scoring.metrics import _ms
from sae.scoring.subject import Scores, Subject

VERSION = 1
STAGE = "score"
JUDGED = True
SPLITS = ("test",)
READS = ("others",)
ALONE = True
FILLED = {"families": "families"}


class Options(Base):
    """Who judges whom."""

    families: dict[str, str] | None = None
    """{backbone: family}; by default as the backbones' entries say"""


def score(subject: Subject, split: str, options: Options) -> Scores:
    """MS of one SAE by each judge; nothing where there is no other backbone."""
    families = options.families or {}
    found, independent, across = {}, [], []
    for judge in subject.others:
        ms = found[f"ms_mean_alive_by_{judge}"] = _ms.summary(
            _ms.of_subject(subject, split, judge)
        ).mean_alive
        if families.get(judge, judge) == families.get(
            subject.backbone, subject.backbone
        ):
            continue
        independent.append(ms)
        if subject.groups(split) is not None:
            across.append(
                _ms.summary(
                    _ms.of_subject(subject, split, judge, across=True)
                ).mean_alive
            )
    for name, values in (("", independent), ("_across_groups", across)):
        if values:
            found[f"ms_mean_alive_independent{name}"] = float(np.mean(values))
    return found
